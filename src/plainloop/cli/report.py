"""`plainloop report`: write the report and the model card of a finished run again."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    run: Path,
    /,
    *,
    slice_column: str | None = None,
    accept_changed_files: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the report and the model card of a finished run again, from the files in its folder.

    report.html is one page that needs no network. It has the scores with their intervals and those of
    baselines, curves, and the mistakes with their texts. README.md is the model card. For the
    folder of several seeds their report.html and summary.json are written.

    Examples:
        plainloop report runs/mrpc

        plainloop report runs/reviews --slice-column language

    Args:
        run: Folder of the run, or of its seeds.
        slice_column: Column of the run's data file: the score for the rows of each value, worst first.
        accept_changed_files: Use files of the run that were changed since it was finished, with a warning.
    """
    from plainloop.console import say
    from plainloop.errors import UserError
    from plainloop.experiments.seeds import load_seeds, write_summary
    from plainloop.experiments.seeds_page import write_seeds_report
    from plainloop.predict.ensemble import seed_folders
    from plainloop.predict.loaded_run import load_run
    from plainloop.report.card import write_card
    from plainloop.report.page import INSTALL, can_draw, write_report
    from plainloop.run.folder import keep_locks, lock_folder
    from plainloop.run.manifest import explain_damage

    where = f"plainloop report {run}"
    if not can_draw():
        raise UserError("a report needs the extra report", where=where, fix=INSTALL)
    with keep_locks(), explain_damage(run, accept_changed=accept_changed_files):
        if seed_folders(run):
            if slice_column is not None:
                what, fix = "has no effect on a report of several seeds", "give one seed's folder"
                raise UserError(what, where="--slice-column", fix=fix)
            runs = load_seeds(run, accept_changed_files=accept_changed_files)
            lock_folder(run, where)
            say("Report", str(write_seeds_report(run, runs, write_summary(run, runs))))
            return
        opened = load_run(run, accept_changed_files=accept_changed_files)
        lock_folder(run, where)
        say("Report", str(write_report(opened, slice_column)))
        say("Model card", str(write_card(opened)))
