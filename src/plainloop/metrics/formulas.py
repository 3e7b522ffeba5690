"""Metric formulas, vectorised over resamples: how often each row counts -> one score per resample.

Every formula takes `counts`, float64 (resamples, rows), and returns float64 (resamples,). None counts
each row once: the plain score, (1,). A score that is not defined is NaN, unless a docstring says 0.
The plain scores equal those of scikit-learn 1.9 and SciPy 1.17 bit for bit, which decides the order
of operations here. Where a formula over resamples cannot round as theirs does (log loss, ranking
metrics, correlations), the plain score is the library's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = Floats | None
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # scikit-learn's log_loss clips there


def one_hot(labels: NDArray[Any], num_labels: int) -> NDArray[np.bool_]:
    """Labels, int (rows,), or multi-hot of any dtype -> bool (rows, num_labels)."""
    return labels.astype(bool) if labels.ndim > 1 else labels[:, None] == np.arange(num_labels)


def total(values: NDArray[Any], counts: Counts) -> Any:
    """Sum over rows of values (rows, ...) in each resample, (resamples, ...)."""
    # Not a matrix product with ones: it adds up in another order than numpy's sum, which is
    # scikit-learn's.
    return values.sum(axis=0, keepdims=True) if counts is None else counts @ values


def mean(values: NDArray[Any], counts: Counts) -> Any:
    """Mean over rows of values (rows,) in each resample, (resamples,)."""
    return total(values, counts) / (len(values) if counts is None else counts.sum(axis=1))


# --- metrics of labels


@dataclass(frozen=True)
class ConfusionCounts:
    """Row counts that every label metric is made of, one line per resample (or per threshold).

    Attributes:
        hits: rows that have the label and are predicted to, (resamples, num_labels).
        support: rows that have the label, (resamples, num_labels).
        predicted: rows that are predicted to have the label, (resamples, num_labels).
        correct: rows whose prediction is correct (multi-label: in all labels), (resamples,).
        rows: all rows, (resamples,) or a number.
        multi_label: whether a row may have several labels, or none.
    """

    hits: Floats
    support: Floats
    predicted: Floats
    correct: Floats
    rows: Floats | float
    multi_label: bool = False


def count_confusion(
    references: NDArray[Any], predictions: NDArray[Any], num_labels: int, counts: Counts = None
) -> ConfusionCounts:
    """Count labels, int (rows,) or multi-hot (rows, num_labels), in each resample."""
    truth, predicted = (one_hot(labels, num_labels) for labels in (references, predictions))
    counted = truth & predicted, truth, predicted, (truth == predicted).all(axis=1)
    # Floats, as products of four integers of many rows do not fit into 64 bits.
    hits, support, predicted, correct = (total(rows, counts).astype(float) for rows in counted)
    rows = len(truth) if counts is None else counts.sum(axis=1)
    return ConfusionCounts(hits, support, predicted, correct, rows, references.ndim > 1)


def accuracy(confusion: ConfusionCounts) -> Floats:
    """Share of the rows whose prediction is correct; multi-label: in all labels (subset accuracy)."""
    return confusion.correct / confusion.rows


def f1_per_label(confusion: ConfusionCounts) -> Floats:
    """F1 of each label, (resamples, num_labels); 0 / 0 is 0."""
    return 2 * confusion.hits / np.maximum(confusion.support + confusion.predicted, 1)


def f1(confusion: ConfusionCounts) -> Floats:
    """F1 of the last label: of label 1 in a binary task, as in GLUE."""
    return f1_per_label(confusion)[:, -1]


def per_label(confusion: ConfusionCounts) -> dict[str, Floats]:
    """Precision, recall, F1 and support of each label, (resamples, num_labels); 0 / 0 is 0."""
    return {
        "precision": confusion.hits / np.maximum(confusion.predicted, 1),
        "recall": confusion.hits / np.maximum(confusion.support, 1),
        "f1": f1_per_label(confusion),
        "support": confusion.support,
    }


def f1_micro(confusion: ConfusionCounts) -> Floats:
    """F1 of the counts of all labels together; 0 / 0 is 0."""
    either = (confusion.support + confusion.predicted).sum(axis=1)
    score: Floats = 2 * confusion.hits.sum(axis=1) / np.maximum(either, 1)
    return score


def f1_macro(confusion: ConfusionCounts) -> Floats:
    """Mean of the labels' F1: of those in the references or predictions; multi-label: of all."""
    occurs = _label_occurs(confusion)
    score: Floats = _occurring(f1_per_label(confusion), occurs).sum(axis=1) / occurs.sum(axis=1)
    return score


def f1_weighted(confusion: ConfusionCounts) -> Floats:
    """Mean of the labels' F1, weighted by support."""
    occurs = _label_occurs(confusion)
    weighted = _occurring(f1_per_label(confusion) * confusion.support, occurs)
    score: Floats = weighted.sum(axis=1) / np.maximum(confusion.support.sum(axis=1), 1)
    return score


def _label_occurs(confusion: ConfusionCounts) -> NDArray[np.bool_]:
    return (confusion.support + confusion.predicted > 0) | confusion.multi_label


def _occurring(values: Floats, occurs: NDArray[np.bool_]) -> Floats:
    # Labels that never occur are 0, but zeros among more than 7 numbers change numpy's order of
    # summation, and scikit-learn leaves those labels out.
    return np.compress(occurs.any(axis=0), values, axis=1)


def matthews_correlation(confusion: ConfusionCounts) -> Floats:
    """Matthews correlation of any number of labels; 0 if references or predictions are constant.

    J. Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", 2004.
    """
    support, predicted, rows = confusion.support, confusion.predicted, confusion.rows
    covariance = rows * confusion.hits.sum(axis=1) - (support * predicted).sum(axis=1)
    variances = [rows**2 - (side**2).sum(axis=1) for side in (support, predicted)]
    product = variances[0] * variances[1]
    return np.where(product > 0, covariance / np.sqrt(np.where(product > 0, product, 1.0)), 0.0)


LABEL_METRICS: dict[str, Callable[[ConfusionCounts], Floats]] = {
    "accuracy": accuracy,
    "f1": f1,
    "f1_micro": f1_micro,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
    "matthews_correlation": matthews_correlation,
}

# --- metrics of values: references and predictions are floats (rows,)


def rmse(references: Floats, predictions: Floats, counts: Counts = None) -> Floats:
    """Root mean squared error, in units of the label."""
    score: Floats = np.sqrt(mean((predictions - references) ** 2, counts))
    return score


def mae(references: Floats, predictions: Floats, counts: Counts = None) -> Floats:
    """Mean absolute error, in units of the label."""
    score: Floats = mean(abs(predictions - references), counts)
    return score


def r2(references: Floats, predictions: Floats, counts: Counts = None) -> Floats:
    """Coefficient of determination; NaN if the references are constant."""
    references = references.astype(np.result_type(references, predictions))
    residual = total((predictions - references) ** 2, counts)
    if counts is None:
        counts = np.ones((1, len(references)), references.dtype)
    spread = (counts * _centred(references, counts) ** 2).sum(axis=1)
    return np.where(_vary(references, counts), 1 - residual / spread, math.nan)


def pearson(references: Floats, predictions: Floats, counts: Counts = None) -> Floats:
    """Pearson correlation; NaN if references or predictions are constant."""
    if counts is not None:
        return _correlation(references, predictions, counts)
    from scipy import stats

    if np.ptp(references) == 0 or np.ptp(predictions) == 0:
        return np.array([math.nan])
    return np.array([stats.pearsonr(references, predictions).statistic])


def spearmanr(references: Floats, predictions: Floats, counts: Counts = None) -> Floats:
    """Spearman rank correlation; NaN if references or predictions are constant."""
    if counts is not None:
        return _correlation(_ranks(references, counts), _ranks(predictions, counts), counts)
    from scipy import stats

    if np.ptp(references) == 0 or np.ptp(predictions) == 0:
        return np.array([math.nan])
    return np.array([stats.spearmanr(references, predictions).statistic])


VALUE_METRICS: dict[str, Callable[[Floats, Floats, Counts], Floats]] = {
    "pearson": pearson,
    "spearmanr": spearmanr,
    "rmse": rmse,
    "mae": mae,
    "r2": r2,
}


def _ranks(values: Floats, counts: Floats) -> Floats:
    """The mean rank of each row in each resample, (resamples, rows)."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks: Floats = (sizes.cumsum(axis=1) - sizes / 2)[:, group]
    return ranks


def _correlation(first: Floats, second: Floats, counts: Floats) -> Floats:
    """Pearson correlation in each resample of values (rows,) or (resamples, rows)."""
    centred = [_centred(values, counts) for values in (first, second)]
    products = (counts * centred[0] * centred[1]).sum(axis=1)
    squares = [(counts * values**2).sum(axis=1) for values in centred]
    vary = _vary(first, counts) & _vary(second, counts)
    return np.where(vary, products / np.sqrt(squares[0] * squares[1]), math.nan)


def _centred(values: Floats, counts: Floats) -> Floats:
    """Values (rows,) or (resamples, rows) less their mean in each resample, (resamples, rows)."""
    totals = (counts * values).sum(axis=1, keepdims=True)
    centred: Floats = values - totals / counts.sum(axis=1, keepdims=True)
    return centred


def _vary(values: Floats, counts: Floats) -> NDArray[np.bool_]:
    """Whether the values that a resample has drawn differ, (resamples,)."""
    # Not by a sum of squares about the mean, which rounds to more than 0 for equal values.
    largest = np.where(counts > 0, values, -math.inf).max(axis=1)
    smallest = np.where(counts > 0, values, math.inf).min(axis=1)
    differ: NDArray[np.bool_] = largest > smallest
    return differ


# --- metrics of probabilities, float64 (rows, num_labels)


def log_loss(references: NDArray[Any], probabilities: Floats, counts: Counts = None) -> Floats:
    """Mean of -log of the label's probability, nats; the probability is clipped to at least 2.2e-16."""
    if counts is not None:
        losses = -np.log(probabilities.clip(SMALLEST_PROBABILITY, 1))
        score: Floats = mean(losses[np.arange(len(losses)), references], counts)
        return score
    from sklearn import metrics

    labels = np.arange(probabilities.shape[1])
    return np.array([metrics.log_loss(references, probabilities, labels=labels)])


def ranking_scores(
    references: NDArray[Any], probabilities: Floats, counts: Counts = None
) -> dict[str, Floats]:
    """roc_auc, the area under the ROC curve, and average_precision.

    In a binary task that of label 1, else the mean over each label against the rest. NaN if a label has no
    rows, and roc_auc also if a label has every row.
    """
    truth = one_hot(references, probabilities.shape[1])
    if references.ndim == 1 and probabilities.shape[1] == 2:  # noqa: PLR2004
        truth, probabilities = truth[:, 1:], probabilities[:, 1:]
    columns = list(zip(truth.T, probabilities.T, strict=True))
    if counts is not None:
        ranked = [_rank_label(has, score, counts) for has, score in columns]
        areas, precisions = (np.mean(scores, axis=0) for scores in zip(*ranked, strict=True))
        return {"roc_auc": areas, "average_precision": precisions}
    from sklearn.metrics import average_precision_score, roc_auc_score

    area = precision = math.nan
    if truth.any(axis=0).all():
        precision = np.mean([average_precision_score(*column) for column in columns])
        if not truth.all(axis=0).any():
            area = np.mean([roc_auc_score(*column) for column in columns])
    return {"roc_auc": np.array([area]), "average_precision": np.array([precision])}


def _rank_label(truth: NDArray[np.bool_], score: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Area under the ROC curve and average precision of one label, (resamples,) each."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=math.inf))
    drawn, hit = counts[:, order], counts[:, order] * truth[order]
    # Rows of equal score are one threshold, as in scikit-learn.
    drawn, hit = (np.add.reduceat(values, starts, axis=1) for values in (drawn, hit))
    miss = drawn - hit
    hits_so_far, drawn_so_far = hit.cumsum(axis=1), drawn.cumsum(axis=1)
    hits, misses = hit.sum(axis=1), miss.sum(axis=1)
    area = (miss * (hits_so_far - hit / 2)).sum(axis=1) / (hits * misses)
    precision = np.divide(hits_so_far, drawn_so_far, out=np.zeros_like(hit), where=drawn_so_far > 0)
    return area, (hit * precision).sum(axis=1) / hits
