"""The labels of a GLUE file."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.tasks import Task
from plainloop.errors import UserError

MOST_LINES_SHOWN = 3


def parse_labels(
    column: pa.ChunkedArray, path: Path, task: Task, first_line: int
) -> pa.ChunkedArray | pa.Array:
    """Labels as the task has them: int64, or float32 in a regression.

    Raises:
        UserError: labels that the task does not know, with their lines.
    """
    if task.problem_type == "regression":
        return _parse_scores(column, path, first_line)
    known = (
        list(task.label_names)
        if task.layout and task.layout.labels_are_names
        else [str(label) for label in range(task.num_labels)]
    )
    labels = pc.index_in(column, pa.array(known))
    wrong = pc.indices_nonzero(pc.is_null(labels)).to_pylist()
    if wrong:
        shown = _show_labels(column, wrong, first_line)
        if len(wrong) == len(column) and all(column[row].as_py() == "-1" for row in wrong):
            shown = "every label is -1: this is an unlabelled split"
        raise UserError(shown, where=str(path), fix=f"a label must be one of {', '.join(known)}")
    return labels.cast(pa.int64())


def _parse_scores(column: pa.ChunkedArray, path: Path, first_line: int) -> pa.Array:
    scores = np.full(len(column), np.nan, np.float32)
    for row, text in enumerate(column.to_pylist()):
        with contextlib.suppress(ValueError):
            scores[row] = float(text)
    wrong = np.flatnonzero(~np.isfinite(scores)).tolist()
    if wrong:
        shown = _show_labels(column, wrong, first_line)
        raise UserError(shown, where=str(path), fix="a score must be a finite number")
    return pa.array(scores)


def _show_labels(column: pa.ChunkedArray, rows: list[int], first_line: int) -> str:
    shown = "; ".join(
        f"line {row + first_line} has the label '{column[row].as_py()}'"
        for row in rows[:MOST_LINES_SHOWN]
    )
    return f"{shown}{and_more(len(rows))}"


def and_more(count: int) -> str:
    """How many are not shown."""
    return f" (+{count - MOST_LINES_SHOWN} more)" if count > MOST_LINES_SHOWN else ""
