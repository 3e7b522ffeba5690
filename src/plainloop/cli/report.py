"""`plainloop report`, and the pages that end a training."""

from pathlib import Path


def report(run: Path, /) -> None:
    """Write the report and the model card of a finished run again, from the files in its folder.

    report.html is one page that needs no network: the scores with their intervals, against simple
    models; curves; the mistakes with their texts. README.md is the model card.

    Examples:
        plainloop report runs/mrpc

    Args:
        run: Folder of the run, or of its seeds.
    """
    from plainloop.console import say
    from plainloop.experiments.seeds import SEED_FOLDERS, load_seeds, write_summary
    from plainloop.experiments.seeds_page import write_seeds_report
    from plainloop.predict.loaded_run import load_run
    from plainloop.report.card import write_card
    from plainloop.report.page import check_report_packages, write_report

    check_report_packages(f"plainloop report {run}")
    if [*run.glob(SEED_FOLDERS)]:
        runs = load_seeds(run)
        say("Report", str(write_seeds_report(run, runs, write_summary(run, runs))))
        return
    opened = load_run(run)
    say("Report", str(write_report(opened)))
    say("Model card", str(write_card(opened)))


def write_pages(folder: Path) -> None:
    """Write the report and the model card of a run that has just ended, on one of its processes."""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    from plainloop.console import draws_on_terminal, say
    from plainloop.errors import UserError
    from plainloop.predict.loaded_run import load_run
    from plainloop.report.card import write_card
    from plainloop.report.page import check_report_packages, write_report
    from plainloop.report.terminal import draw_run

    run = load_run(folder)
    if draws_on_terminal():
        draw_run(run)
    try:
        check_report_packages("Report")
        say("Report", str(write_report(run)))
    except UserError as missing:  # the model is trained all the same
        say("Report", f"none: {missing.fix}, then plainloop report {folder}")
    say("Model card", str(write_card(run)))
