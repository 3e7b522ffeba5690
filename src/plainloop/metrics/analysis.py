"""analyse(): all that a report says of a split in numbers, as plain values for metrics.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.tasks import Task
from plainloop.metrics.bootstrap import LEVEL, NUM_RESAMPLES, SEED, score_intervals
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.task_metric import PER_LABEL, TaskMetric, predictions_of, probabilities_of

MOST_ROWS_SHOWN = 25
MOST_LABELS_CROSSED = 20
NUM_BINS = 10
NUM_LENGTHS = 5
HALF = 0.5
MORE_SCORES = {
    "single_label_classification": ("log_loss", "roc_auc", "average_precision", PER_LABEL),
    "multi_label_classification": ("roc_auc", "average_precision", PER_LABEL),
    "regression": ("rmse", "mae", "r2", "pearson", "spearmanr"),
}
"""What a report says besides the task's own metrics."""


def analyse(rows: RowPredictions, task: Task, *, intervals: bool = True) -> dict[str, Any]:
    """What there is to say of a model's predictions for the rows of a split, as their decision has them.

    Args:
        rows: of the split.
        task: what their labels mean.
        intervals: whether to resample the rows, which of many takes long.

    Returns:
        rows, how many; scores, the task's and some more; intervals, of each
        score; lengths, the score of rows by the length of their
        texts; worst, the rows that are most wrong. Where labels are classes also: constant, the one
        label that is predicted for every row, else None; confusion, rows (true label) by columns
        (predicted label), for at most 20 labels; calibration; uncertain, the rows closest to
        another answer; suspected, rows whose given label is likely to be wrong. Rows are named by
        their number in their file, from 0; at most 25 are listed.
    """
    names = tuple(dict.fromkeys((*task.metrics, *MORE_SCORES[task.problem_type])))
    metric = TaskMetric(names, task.problem_type, task.label_names, rows.decision)
    metric.add_batch(predictions=rows.logits, references=rows.references)
    found: dict[str, Any] = {
        "rows": len(rows.idx),
        "scores": metric.compute(),
    }
    if intervals:
        found["intervals"] = describe_intervals(rows, task, names)
    predictions = predictions_of(rows.logits, task.problem_type, rows.decision)
    if task.problem_type == "regression":
        errors = predictions - rows.references
        found["lengths"] = by_length(rows, abs(errors), "mean_absolute_error")
        worst = np.argsort(-abs(errors), kind="stable")[:MOST_ROWS_SHOWN]
        found["worst"] = [
            {
                "row": int(rows.idx[at]),
                "label": float(rows.references[at]),
                "predicted": float(predictions[at]),
                "error": float(errors[at]),
            }
            for at in worst
        ]
        return found
    probabilities = probabilities_of(rows.logits, task.problem_type, rows.decision)
    truth = np.reshape(rows.references, predictions.shape).astype(np.int64)
    right: Any = np.asarray(truth == predictions).reshape(len(truth), -1).all(axis=1)
    same = bool((predictions == predictions[:1]).all())
    has = truth[:, None] == np.arange(task.num_labels) if truth.ndim == 1 else truth.astype(bool)
    # How sure the model is of its answer, and how much of that speaks for the given label.
    if truth.ndim == 1:
        surest, of_given = (probabilities[np.arange(len(truth)), of] for of in (predictions, truth))
        doubt = surest
    else:
        of_given = np.where(has, probabilities, 1 - probabilities).min(axis=1)
        doubt = np.maximum(probabilities, 1 - probabilities).min(axis=1)
        surest = np.where(right, doubt, 1 - of_given)

    if rows.decision is not None and rows.decision.thresholds is not None:
        thresholds = np.asarray(rows.decision.thresholds)
        doubt = abs(probabilities[:, -len(thresholds) :] - thresholds).min(axis=1)

    def listed(order: NDArray[np.intp]) -> list[dict[str, Any]]:
        """The first rows of an order, as the report names them."""
        return [
            {
                "row": int(rows.idx[at]),
                "label": truth[at].tolist(),
                "predicted": predictions[at].tolist(),
                "probability": float(surest[at]),
                "label_probability": float(of_given[at]),
            }
            for at in order[:MOST_ROWS_SHOWN]
        ]

    by_doubt = np.argsort(doubt, kind="stable")
    wrong = np.argsort(-surest, kind="stable")
    suspected = np.argsort(of_given, kind="stable")
    suspects = find_suspected(probabilities, has)
    found |= {
        "constant": predictions[0].tolist() if same and len(predictions) > 1 else None,
        "confusion": count_confusion(truth, predictions, task.num_labels),
        "calibration": calibrate(probabilities, has, truth.ndim > 1),
        "lengths": by_length(rows, right.astype(np.float64), "accuracy"),
        "worst": listed(wrong[~right[wrong]]),
        "uncertain": listed(by_doubt),
        "num_suspected": int(suspects.sum()),
        "suspected": listed(suspected[suspects[suspected]]),
    }
    return found


def describe_intervals(rows: RowPredictions, task: Task, names: Sequence[str]) -> dict[str, Any]:
    """The interval of each score, and how it was made."""
    scores = rows.resampled_scores(names, task)
    return {
        "level": LEVEL,
        "method": "bootstrap percentiles"
        + (", stratified by label" if task.problem_type == "single_label_classification" else ""),
        "num_resamples": NUM_RESAMPLES,
        "seed": SEED,
        "scores": {name: list(ends) for name, ends in score_intervals(scores).items()},
    }


def count_confusion(
    truth: NDArray[np.int64], predictions: NDArray[np.int64], num_labels: int
) -> dict[str, list[list[float]]] | None:
    """Counts: rows of each true label (from top) and predicted label (from left); shares of a line.

    Of several labels a row: for each label rows without and with it by predicted without and with
    it, one line of four. None for more than 20 labels.
    """
    if num_labels > MOST_LABELS_CROSSED:
        return None
    if truth.ndim == 1:
        cells = np.bincount(truth * num_labels + predictions, minlength=num_labels**2)
        counts = cells.reshape(num_labels, num_labels)
    else:
        pairs = (2 * truth + predictions).T
        counts = np.stack([np.bincount(of_label, minlength=4) for of_label in pairs])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {"counts": counts.tolist(), "shares": shares.tolist()}


def calibrate(
    probabilities: NDArray[np.float64], has: NDArray[np.bool_], several: bool
) -> dict[str, Any]:
    """How often the model is right by how sure it is, and the mean distance of the two.

    The expected calibration error (Naeini, Cooper and Hauskrecht 2015, as Guo et al. 2017 have it):
    over 10 bins of equal width of the probability of the answer, the mean of |share right - mean
    probability|, weighted by rows. Of several labels a row, each label's probability counts by
    itself, and right means that the row has the label.
    """
    if several:
        sure, right = probabilities.ravel(), has.ravel()
    else:
        answer = probabilities.argmax(axis=1)
        sure, right = probabilities.max(axis=1), has[np.arange(len(has)), answer]
    bins = []
    place = np.minimum((sure * NUM_BINS).astype(int), NUM_BINS - 1)
    for number in range(NUM_BINS):
        inside = place == number
        if inside.any():
            bins.append(
                {
                    "from": number / NUM_BINS,
                    "to": (number + 1) / NUM_BINS,
                    "rows": int(inside.sum()),
                    "mean_probability": float(sure[inside].mean()),
                    "share_right": float(right[inside].mean()),
                }
            )
    error = sum(
        each["rows"] * abs(each["share_right"] - each["mean_probability"]) for each in bins
    ) / len(sure)
    return {"expected_calibration_error": float(error), "bins": bins}


def by_length(
    rows: RowPredictions, values: NDArray[np.float64], name: str
) -> list[dict[str, float]]:
    """The mean of a value of each row, in fifths of the rows by the characters of their texts."""
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
    """The characters of each row's texts together, int64 (rows,)."""
    columns: Sequence[list[str]] = list(rows.texts.values())
    return np.array([sum(map(len, texts)) for texts in zip(*columns, strict=True)], np.int64)


def find_suspected(probabilities: NDArray[np.float64], has: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows whose given label is likely to be wrong, bool (rows,), by confident learning.

    A row counts where the model gives another label at least the probability that it gives this
    label, on average, in the rows that have it, and less than that to the given one (Northcutt,
    Jiang and Chuang 2021). Of several labels a row, a label's absence is a label, too. The model
    must not have been trained on these rows.
    """
    given = has.sum(axis=0)
    usual = (probabilities * has).sum(axis=0) / np.maximum(given, 1)
    usual = np.where(given > 0, usual, np.inf)
    likely = probabilities >= usual
    if (has.sum(axis=1) == 1).all() and np.allclose(probabilities.sum(axis=1), 1):
        best = np.where(likely, probabilities, -1).argmax(axis=1)
        suspected: NDArray[np.bool_] = likely.any(axis=1) & ~has[np.arange(len(has)), best]
        return suspected
    absent = (~has).sum(axis=0)
    usual_absence = ((1 - probabilities) * ~has).sum(axis=0) / np.maximum(absent, 1)
    usual_absence = np.where(absent > 0, usual_absence, np.inf)
    missing = ~has & likely & (probabilities > HALF)
    surplus = has & (1 - probabilities >= usual_absence) & (probabilities < HALF)
    either: NDArray[np.bool_] = np.logical_or.reduce(missing | surplus, axis=1)
    return either
