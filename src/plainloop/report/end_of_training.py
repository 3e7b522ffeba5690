"""Output at the end of a training: scores on the terminal, report and model card."""

from collections.abc import Callable
from pathlib import Path

from plainloop.console import draws_on_terminal, say
from plainloop.predict.loaded_run import load_run
from plainloop.report.card import CARD_FILE, write_card
from plainloop.report.page import INSTALL, REPORT_FILE, can_draw, write_report
from plainloop.report.terminal import draw_run


def write_pages(folder: Path) -> None:
    """Write the report and model card of a finished run, and print its scores; main process only."""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    run = load_run(folder)
    if draws_on_terminal():
        draw_run(run)
    say_report(folder, lambda: write_report(run))
    say("Model card", str(write_card(run)))


def lacks_pages(folder: Path) -> bool:
    """Whether a finished run was stopped before its report and model card were written."""
    return not all((folder / name).is_file() for name in (REPORT_FILE, CARD_FILE))


def say_report(folder: Path, write: Callable[[], Path]) -> None:
    """Write a report and print its path.

    If matplotlib is missing, print how to get the report later. That is no error, because the model
    is already trained.

    Args:
        folder: folder of the run, for the message.
        write: writes the report and returns its path.
    """
    text = str(write()) if can_draw() else f"none: {INSTALL}, then plainloop report {folder}"
    say("Report", text)
