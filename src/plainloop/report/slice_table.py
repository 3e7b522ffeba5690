"""Slices in a report and on the terminal: scores by the values of a column, worst first."""

from collections.abc import Sequence

import numpy as np

from plainloop.errors import UserError, printable, printable_path
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.slices import Slice, explain_slices, score_slices
from plainloop.predict.evaluate_run import read_own_splits
from plainloop.predict.loaded_run import Run
from plainloop.predict.slice_column import read_slice_column
from plainloop.report.content import SCORE_NAMES

MISSING = "(missing)"


def score_saved_slices(run: Run, split: str, column: str) -> list[Slice]:
    """Score slices from a run's saved predictions; the column is read from the run's own file.

    Raises:
        UserError: the rows have changed since the training, or the column cannot be used.
    """
    rows, raw = RowPredictions.load(run.path, split, run.decision), read_own_splits(run)
    saved = {"idx": rows.idx.tolist(), **rows.texts}
    if any(not np.array_equal(raw[split][name][:], column) for name, column in saved.items()):
        what = f"the {split} rows in its data file have changed since the training"
        fix = "plainloop evaluate scores the file as it is now"
        raise UserError(what, where=printable_path(run.path), fix=fix)
    return score_slices(rows, read_slice_column(run, raw, column)[split], run.task)


def format_slices(slices: Sequence[Slice], metric: str) -> list[str]:
    """Format slices as the lines of a table, with a line on multiple comparisons."""
    names = [printable(one.value) or MISSING for one in slices]
    width = max(map(len, names))
    lines = [f"rank  {'':<{width}}  {'rows':>7}  {SCORE_NAMES.get(metric, metric)} (95 % interval)"]
    for name, one in zip(names, slices, strict=True):
        score = "none" if one.score is None else f"{one.score:.4f}"
        ends = f" ({one.interval[0]:.4f} to {one.interval[1]:.4f})" if one.interval else ""
        lines.append(f"{one.rank or '-':>4}  {name:<{width}}  {one.rows:>7}  {score}{ends}")
    return [*lines, explain_slices(slices)]
