"""compare_runs(): paired comparison of two runs, or of two sets of seeds, on the same rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.settings import LESS_IS_BETTER
from plainloop.errors import UserError, printable_path
from plainloop.metrics.bootstrap import LEVEL, Difference, score_differences
from plainloop.metrics.decision_rule import predict_labels
from plainloop.metrics.row_predictions import RowPredictions, predicted_splits
from plainloop.metrics.scorer import PER_LABEL
from plainloop.predict.loaded_run import Run
from plainloop.report.content import SCORE_NAMES


@dataclass(frozen=True)
class Comparison:
    """Result of `compare_runs`.

    Attributes:
        split: name of the compared split.
        rows: number of rows.
        seeds: number of seeds of each side.
        scores: metric -> values of both runs; the first is the headline metric.
        only_first, only_second: `idx` of the rows that only this run predicts correctly; None for
            several seeds or regression.
        mcnemar_p: p-value of the exact McNemar test of their numbers; None in the same cases.
    """

    split: str
    rows: int
    seeds: tuple[int, int]
    scores: dict[str, Difference]
    only_first: tuple[int, ...] | None
    only_second: tuple[int, ...] | None
    mcnemar_p: float | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return asdict(self)

    def conclusion(self) -> str:
        """Say in a sentence what can be concluded about the headline metric."""
        name, found = next(iter(self.scores.items()))
        shown = SCORE_NAMES.get(name, name)
        if found.interval is None:
            return f"Nothing can be concluded: the {shown} has no interval on these rows."
        low, high = found.interval
        interval = f"{found.difference:+.4f} ({LEVEL:.0%} interval {low:+.4f} to {high:+.4f})"
        if low <= 0 <= high:
            text = (
                f"No difference can be concluded: the second run's {shown} differs by {interval}, "
                "which is not significant."
            )
        else:
            better = (found.difference > 0) is (name not in LESS_IS_BETTER)
            text = (
                f"The second run is {'better' if better else 'worse'} on rows like these: its "
                f"{shown} differs by {interval}."
            )
        if 1 in self.seeds:
            text += " This is about the models that were trained, not about their settings: another seed may turn it."
        return text


def compare_runs(first: Sequence[Run], second: Sequence[Run]) -> Comparison:
    """Compare two runs row by row, or the means over the seeds of each side.

    The test split is compared if all runs have it, else the validation split.

    Args:
        first, second: a single run, or the runs of all seeds.

    Raises:
        UserError: the runs have no common split, or other rows or labels in it.
        CheckpointError: a file of a run was changed.
    """
    runs = [*first, *second]
    for run in runs:
        run.verify()
    splits = [set(predicted_splits(run.path)) for run in runs]
    common = set.intersection(*splits)
    if not common:
        raise UserError(
            "have no predictions of a common split",
            where=" and ".join(printable_path(run.path) for run in (first[0], second[0])),
            fix="train both with evaluations",
        )
    split = "test" if "test" in common else min(common, key=lambda name: name != "validation")
    rows = [RowPredictions.load(run.path, split, run.decision) for run in runs]
    for run, others in zip(runs[1:], rows[1:], strict=True):
        check_same_rows(runs[0], rows[0], run, others, split)
    task = runs[0].task
    names = [name for name in task.metrics if name != PER_LABEL]
    scores = [each.scorer(names, task) for each in rows]
    differences = score_differences(scores[: len(first)], scores[len(first) :])
    of_one_seed = len(runs) == 2 and task.problem_type != "regression"  # noqa: PLR2004
    only_first, only_second, p = None, None, None
    if of_one_seed:
        right = [which_are_right(each, run) for each, run in zip(rows, runs, strict=True)]
        only_first = tuple(rows[0].idx[right[0] & ~right[1]].tolist())
        only_second = tuple(rows[0].idx[right[1] & ~right[0]].tolist())
        p = mcnemar(len(only_first), len(only_second))
    seeds = len(first), len(second)
    return Comparison(split, len(rows[0].idx), seeds, differences, only_first, only_second, p)


def check_same_rows(
    run: Run, rows: RowPredictions, other: Run, others: RowPredictions, split: str
) -> None:
    """Check that two runs were evaluated on the same rows with the same labels.

    Args:
        run, rows: a run and its predictions.
        other, others: another run and its predictions.
        split: name of the split, for the message.

    Raises:
        UserError: the label names, the number of rows, the texts or the labels differ.
    """
    where = f"{printable_path(run.path)} and {printable_path(other.path)}"
    fix = "compare runs of the same rows: the same files, the same seed of the split, the same task"
    if run.task.label_names != other.task.label_names or (
        run.task.problem_type != other.task.problem_type
    ):
        raise UserError("have different labels", where=where, fix=fix)
    if len(rows.idx) != len(others.idx):
        what = f"have {len(rows.idx):,} and {len(others.idx):,} {split} rows"
        raise UserError(what, where=where, fix=fix)
    columns = list(rows.texts.values()), list(others.texts.values())
    same = [
        *(list(one) == list(two) for one, two in zip(*columns, strict=False)),
        np.array_equal(rows.references, others.references),
        len(columns[0]) == len(columns[1]),
    ]
    if not all(same):
        raise UserError(f"have different {split} rows", where=where, fix=fix)


def which_are_right(rows: RowPredictions, run: Run) -> NDArray[np.bool_]:
    """Return which rows are predicted correctly (multi-label: all labels), bool (rows,)."""
    predictions = predict_labels(rows.logits, run.task.problem_type, rows.decision)
    equal: Any = predictions == rows.references.astype(np.int64)
    right: NDArray[np.bool_] = np.logical_and.reduce(equal.reshape(len(equal), -1), axis=1)
    return right


def mcnemar(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test (Q. McNemar, 1947).

    A binomial test: if the runs are equally good, a row that only one of them predicts correctly is
    the first run's with probability 0.5. The value is 1.0 if there is no such row.

    Args:
        only_first, only_second: numbers of rows that only this run predicts correctly.
    """
    from scipy.stats import binomtest

    changed = only_first + only_second
    return float(binomtest(only_first, changed).pvalue) if changed else 1.0
