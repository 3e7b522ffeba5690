"""`plainloop compare`: compare two runs row by row."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

MOST_ROWS_SHOWN = 20


def compare(
    first: Path,
    second: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    accept_changed_files: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Compare two finished runs row by row: what differs, and what may be concluded.

    The test rows of both, else their validation rows, which must be the same. Differences come with
    a paired bootstrap interval; accuracy with McNemar's exact test, too.

    Examples:
        plainloop compare runs/slow runs/fast

        plainloop compare runs/slow runs/fast --output difference.json

    Args:
        first: Folder of a run, or of its seeds.
        second: Folder of the other.
        output: JSON file for all of it, with the rows that changed, counted from 0.
        accept_changed_files: Use files of a run that were changed since it was finished, with a warning.
    """
    from plainloop.atomic_file import json_bytes
    from plainloop.console import print_line
    from plainloop.errors import printable_path
    from plainloop.experiments.comparison import compare_runs
    from plainloop.experiments.seeds import load_seeds
    from plainloop.report.content import SCORE_NAMES
    from plainloop.run.manifest import explain_damage
    from plainloop.run.output_file import check_output, open_output

    if output is not None:
        check_output(output)
    with explain_damage(first, second, accept_changed=accept_changed_files):
        runs = [
            load_seeds(path, accept_changed_files=accept_changed_files) for path in (first, second)
        ]
        found = compare_runs(*runs)
    if output is not None:
        with open_output(output) as file:
            file.write(json_bytes(found.to_dict()))
    for number, (path, seeds) in enumerate(zip((first, second), found.seeds, strict=True)):
        title = ("First", "Second")[number]
        means = f", mean of {seeds} seeds" if seeds > 1 else ""
        print_line(f"{title:<14} {printable_path(path)}{means}")
    print_line(f"Rows           {found.rows:,} {found.split} rows")
    width = max(len(SCORE_NAMES.get(name, name)) for name in found.scores)
    print_line(f"{'':<{width}}  {'first':>9}  {'second':>9}  {'difference':>10}  95 % interval")
    for name, score in found.scores.items():
        ends = score.interval
        interval = f"{ends[0]:+.4f} to {ends[1]:+.4f}" if ends else "none"
        print_line(
            f"{SCORE_NAMES.get(name, name):<{width}}  {score.first:>9.4f}  {score.second:>9.4f}  "
            f"{score.difference:>+10.4f}  {interval}"
        )
    if found.only_first is not None and found.only_second is not None:
        for title, rows in (("first", found.only_first), ("second", found.only_second)):
            shown = ", ".join(str(row + 1) for row in rows[:MOST_ROWS_SHOWN])
            more = f" (+{len(rows) - MOST_ROWS_SHOWN} more)" if len(rows) > MOST_ROWS_SHOWN else ""
            numbers = f": rows {shown}{more}" if rows else ""
            print_line(f"Only the {title} is right in {len(rows)}{numbers}")
        print_line(f"McNemar's exact test: p = {found.mcnemar_p:.4g}")
    print_line(found.conclusion())
