"""analyse(): everything a report shows about a split, as plain values for metrics.json."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.tasks import Task
from plainloop.metrics.bootstrap import LEVEL, NUM_RESAMPLES, SEED, score_intervals
from plainloop.metrics.calibration import measure_calibration
from plainloop.metrics.decision_rule import compute_probabilities
from plainloop.metrics.formulas import one_hot
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.scorer import PER_LABEL

MAX_ROWS_LISTED = 25
MAX_CONFUSION_LABELS = 20
NUM_LENGTHS = 5
HALF = 0.5
MORE_METRICS = {
    "single_label_classification": ("log_loss", "roc_auc", "average_precision", PER_LABEL),
    "multi_label_classification": ("roc_auc", "average_precision", PER_LABEL),
    "regression": ("rmse", "mae", "r2", "pearson", "spearmanr"),
}
"""The metrics that a report shows besides the task's."""


def analyse(rows: RowPredictions, task: Task, *, intervals: bool = True) -> dict[str, Any]:
    """Analyse a model's predictions for a split, with the rows' decision rule.

    Args:
        rows: of the split.
        task: its label names, metrics and problem type.
        intervals: whether to compute bootstrap intervals, which takes long for many rows.

    Returns:
        rows, how many; scores, the task's and some more; intervals, of each score; lengths, the score
        by the length of the texts; worst, the rows with the largest errors. For a classification
        also: constant, the label that is predicted for every row, else None; confusion, for at most
        20 labels; calibration; uncertain, the rows closest to another label; num_suspected and
        suspected, rows whose given label is probably wrong. Rows are named by their number in their
        file, from 0; at most 25 are listed.
    """
    names = tuple(dict.fromkeys((*task.metrics, *MORE_METRICS[task.problem_type])))
    scorer = rows.scorer(names, task)
    found: dict[str, Any] = {
        "rows": len(rows.idx),
        "scores": scorer.plain_scores() if np.isfinite(rows.logits).all() else {},
    }
    single_label = task.problem_type == "single_label_classification"
    if intervals:
        found["intervals"] = {
            "level": LEVEL,
            "method": "bootstrap percentiles" + (", stratified by label" if single_label else ""),
            "num_resamples": NUM_RESAMPLES,
            "seed": SEED,
            "scores": {name: list(ends) for name, ends in score_intervals(scorer).items()},
        }
    if task.problem_type == "regression":
        return found | _analyse_values(rows)
    predictions = scorer.predictions
    probabilities = compute_probabilities(rows.logits, task.problem_type, rows.decision)
    references = np.reshape(rows.references, predictions.shape).astype(np.int64)
    right: Any = np.asarray(references == predictions).reshape(len(references), -1).all(axis=1)
    constant = len(predictions) > 1 and bool((predictions == predictions[:1]).all())
    truth = one_hot(references, task.num_labels)
    # The probability of the predicted label, and of the given one. Multi-label: of the row's least
    # certain label.
    if single_label:
        confidence, of_given = (
            probabilities[np.arange(len(references)), labels]
            for labels in (predictions, references)
        )
        margin = confidence
    else:
        of_given = np.where(truth, probabilities, 1 - probabilities).min(axis=1)
        margin = np.maximum(probabilities, 1 - probabilities).min(axis=1)
        confidence = np.where(right, margin, 1 - of_given)
    if rows.decision is not None and rows.decision.thresholds is not None:
        thresholds = np.asarray(rows.decision.thresholds)
        margin = abs(probabilities[:, -len(thresholds) :] - thresholds).min(axis=1)

    def listed(order: NDArray[np.intp]) -> list[dict[str, Any]]:
        """The first rows in this order, as plain values."""
        return [
            {
                "row": int(rows.idx[at]),
                "label": references[at].tolist(),
                "predicted": predictions[at].tolist(),
                "probability": float(confidence[at]),
                "label_probability": float(of_given[at]),
            }
            for at in order[:MAX_ROWS_LISTED]
        ]

    by_margin = np.argsort(margin, kind="stable")
    by_confidence = np.argsort(-confidence, kind="stable")
    by_given = np.argsort(of_given, kind="stable")
    suspects = find_label_issues(probabilities, truth)
    return found | {
        "constant": predictions[0].tolist() if constant else None,
        "confusion": confusion_matrix(references, predictions, task.num_labels),
        "calibration": measure_calibration(probabilities, truth, multi_label=not single_label),
        "lengths": mean_by_length(rows, right.astype(np.float64), "accuracy"),
        "worst": listed(by_confidence[~right[by_confidence]]),
        "uncertain": listed(by_margin),
        "num_suspected": int(suspects.sum()),
        "suspected": listed(by_given[suspects[by_given]]),
    }


def add_places(found: dict[str, Any], show: Callable[[Sequence[int]], str]) -> None:
    """Add to each listed row of an analysis its place, as a person finds it in its file.

    Args:
        found: from `analyse`.
        show: row numbers from 0 -> their place, such as "line 9".
    """
    for kind in ("worst", "uncertain", "suspected"):
        for row in found.get(kind, ()):
            row["place"] = show([row["row"]])


def _analyse_values(rows: RowPredictions) -> dict[str, Any]:
    predictions = rows.logits[:, 0].astype(np.float64)
    errors = predictions - rows.references
    worst = np.argsort(-abs(errors), kind="stable")[:MAX_ROWS_LISTED]
    columns = {"label": rows.references, "predicted": predictions, "error": errors}
    return {
        "lengths": mean_by_length(rows, abs(errors), "mean_absolute_error"),
        "worst": [
            {"row": int(rows.idx[at]), **{name: float(of[at]) for name, of in columns.items()}}
            for at in worst
        ],
    }


def confusion_matrix(
    references: NDArray[np.int64], predictions: NDArray[np.int64], num_labels: int
) -> dict[str, list[list[float]]] | None:
    """The confusion matrix: counts of rows, true labels down and predicted labels across; shares.

    Multi-label: a line of four for each label, rows without and with it by predicted without and with
    it. shares divide by the line's sum. None for more than 20 labels.
    """
    if num_labels > MAX_CONFUSION_LABELS:
        return None
    if references.ndim == 1:
        cells = np.bincount(references * num_labels + predictions, minlength=num_labels**2)
        counts = cells.reshape(num_labels, num_labels)
    else:
        pairs = (2 * references + predictions).T
        counts = np.stack([np.bincount(label, minlength=4) for label in pairs])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {"counts": counts.tolist(), "shares": shares.tolist()}


def mean_by_length(
    rows: RowPredictions, values: NDArray[np.float64], name: str
) -> list[dict[str, float]]:
    """The mean of a value (rows,) in fifths of the rows, from the shortest texts to the longest."""
    lengths = text_lengths(rows)
    order = np.argsort(lengths, kind="stable")
    parts = [part for part in np.array_split(order, NUM_LENGTHS) if len(part)]
    return [
        {
            "from_characters": int(lengths[part].min()),
            "to_characters": int(lengths[part].max()),
            "rows": len(part),
            name: float(values[part].mean()),
        }
        for part in parts
    ]


def text_lengths(rows: RowPredictions) -> NDArray[np.int64]:
    """The number of characters of each row's texts, int64 (rows,)."""
    columns: Sequence[list[str]] = list(rows.texts.values())
    return np.array([sum(map(len, texts)) for texts in zip(*columns, strict=True)], np.int64)


def find_label_issues(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Rows whose given label is probably wrong, bool (rows,), by confident learning.

    A label is likely for a row if its probability is at least the label's mean probability in the
    rows that have it. A row is suspected if some label is likely and the most probable likely one is
    not the given one (Northcutt, Jiang and Chuang 2021). Multi-label: the absence of a label counts
    as a label. The model must not have been trained on these rows.

    Args:
        probabilities: float64 (rows, num_labels).
        truth: the given labels, one-hot or multi-hot, bool (rows, num_labels).
    """
    likely = probabilities >= _mean_where(truth, probabilities)
    if (truth.sum(axis=1) == 1).all() and np.allclose(probabilities.sum(axis=1), 1):
        best = np.where(likely, probabilities, -1).argmax(axis=1)
        suspected: NDArray[np.bool_] = likely.any(axis=1) & ~truth[np.arange(len(truth)), best]
        return suspected
    missing = ~truth & likely & (probabilities > HALF)
    absence_likely = 1 - probabilities >= _mean_where(~truth, 1 - probabilities)
    surplus = truth & absence_likely & (probabilities < HALF)
    either: NDArray[np.bool_] = np.logical_or.reduce(missing | surplus, axis=1)
    return either


def _mean_where(
    truth: NDArray[np.bool_], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Each label's mean probability in the rows that have it; infinite if there are none."""
    support = truth.sum(axis=0)
    means = (probabilities * truth).sum(axis=0) / np.maximum(support, 1)
    return np.where(support > 0, means, np.inf)
