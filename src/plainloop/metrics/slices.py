"""Scores of slices: a split's rows grouped by the values of a column, the worst group first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plainloop.config.settings import LESS_IS_BETTER
from plainloop.config.tasks import Task
from plainloop.metrics.bootstrap import Interval, score_intervals
from plainloop.metrics.row_predictions import RowPredictions

FEWEST_ROWS = 20
"""Smaller slices get no rank: their scores are mostly chance."""


@dataclass(frozen=True)
class Slice:
    """The rows of one value.

    Attributes:
        value: of the column; "" for a missing one.
        rows: how many.
        score: the metric; None if these rows do not define it.
        interval: its 95 % interval; None if a bootstrap finds none.
        rank: from 1, the worst; None for fewer than 20 rows, or without a score.
    """

    value: str
    rows: int
    score: float | None
    interval: Interval | None
    rank: int | None = None


def score_slices(rows: RowPredictions, values: Sequence[str], task: Task) -> list[Slice]:
    """Score the rows of each value by the task's first metric.

    The intervals are those of `score_intervals` for the slice's own rows. They are not corrected for
    the number of slices: of many, some score low by chance.

    Args:
        rows: of a split.
        values: of each row, in the same order.
        task: its metrics and labels.

    Returns:
        The ranked slices, worst first, then the others, largest first.
    """
    metric, of_row, found = task.metrics[0], np.array(values, object), []
    for value in sorted(set(values)):
        at = np.flatnonzero(of_row == value)
        scorer = replace(rows, references=rows.references[at], logits=rows.logits[at]).scorer(
            (metric,), task
        )
        score = scorer.plain_scores().get(metric) if np.isfinite(rows.logits[at]).all() else None
        interval = None if score is None else score_intervals(scorer).get(metric)
        found.append(Slice(value, len(at), score, interval))
    sign = -1 if metric in LESS_IS_BETTER else 1
    ranked = [one for one in found if one.score is not None and one.rows >= FEWEST_ROWS]
    ranked.sort(key=lambda one: sign * (one.score or 0.0))
    others = sorted((one for one in found if one not in ranked), key=lambda one: -one.rows)
    return [replace(one, rank=rank) for rank, one in enumerate(ranked, 1)] + others


def explain_slices(slices: Sequence[Slice]) -> str:
    """Say how many slices were compared, and what that means for the worst of them."""
    return (
        f"{len(slices)} slices were compared. With many slices some score low by chance: the intervals are not "
        f"corrected for multiple comparisons. Below {FEWEST_ROWS} rows a slice has no rank."
    )
