"""The formulas of the scores: references and what is predicted for all rows -> one number.

`references` and `predictions` are labels (rows,), multi-hot labels (rows, num_labels), both int64, or
values (rows,), float64; `probabilities` are float64 (rows, num_labels). What is not defined is not a
number, except where a docstring says 0.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def accuracy(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Share of the rows whose label is predicted; of multi-label rows, all of whose labels are."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def f1(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """F1 of label 1 in a binary task, as GLUE has it; 0 where label 1 neither is nor is predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, zero_division=0.0))


def f1_micro(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """F1 of multi-label rows from the counts of all labels together; 0 where there are none."""
    return f1(references.ravel(), predictions.ravel())


def f1_macro(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Mean of the labels' F1; an F1 of 0 / 0 is 0.

    Of a single label, the mean is over the labels that are or are predicted; of multi-label rows it
    is over all labels. Both are scikit-learn's.
    """
    from sklearn.metrics import f1_score

    if references.ndim == 2:  # noqa: PLR2004
        return float(np.mean(per_label(references, predictions, references.shape[1])["f1"]))
    return float(f1_score(references, predictions, average="macro", zero_division=0.0))


def f1_weighted(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Mean of the labels' F1, weighted by their rows; an F1 of 0 / 0 is 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="weighted", zero_division=0.0))


def matthews_correlation(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Matthews' correlation of labels and predictions; 0 where one of the two is constant."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))


def pearson(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Pearson's correlation; not a number where one of the two is constant."""
    from scipy.stats import pearsonr

    if np.ptp(references) == 0 or np.ptp(predictions) == 0:
        return math.nan
    return float(pearsonr(references, predictions).statistic)


def spearmanr(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Spearman's correlation of the ranks; not a number where one of the two is constant."""
    from scipy import stats

    if np.ptp(references) == 0 or np.ptp(predictions) == 0:
        return math.nan
    return float(stats.spearmanr(references, predictions).statistic)


def rmse(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Root of the mean squared error, in units of the label."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(references, predictions))


def mae(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Mean absolute error, in units of the label."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(references, predictions))


def r2(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Share of the variance that is explained; not a number where the references are constant."""
    from sklearn.metrics import r2_score

    if np.ptp(references) == 0:
        return math.nan
    return float(r2_score(references, predictions))


def log_loss(references: NDArray[Any], probabilities: NDArray[np.float64]) -> float:
    """Mean of -log of the label's probability, which is taken to be at least 2.2e-16."""
    from sklearn.metrics import log_loss as sklearn_log_loss

    labels = np.arange(probabilities.shape[1])
    return float(sklearn_log_loss(references, probabilities, labels=labels))


def roc_auc(references: NDArray[Any], probabilities: NDArray[np.float64]) -> float:
    """Area under the ROC curve: of label 1 of two, else the mean of each label against the rest.

    Not a number where some label has every row or none.
    """
    from sklearn.metrics import roc_auc_score

    ranked = list(_ranked_labels(references, probabilities))
    if any(truth.all() or not truth.any() for truth, _ in ranked):
        return math.nan
    return float(np.mean([roc_auc_score(truth, score) for truth, score in ranked]))


def average_precision(references: NDArray[Any], probabilities: NDArray[np.float64]) -> float:
    """Average precision: of label 1 of two, else the mean of each label against the rest.

    Not a number where some label has no rows.
    """
    from sklearn.metrics import average_precision_score

    ranked = list(_ranked_labels(references, probabilities))
    if not all(truth.any() for truth, _ in ranked):
        return math.nan
    return float(np.mean([average_precision_score(truth, score) for truth, score in ranked]))


def _ranked_labels(
    references: NDArray[Any], probabilities: NDArray[np.float64]
) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
    """For each label that is ranked by: which rows have it (rows,), and its probability (rows,)."""
    truth = _one_hot(references, probabilities.shape[1])
    binary = references.ndim == 1 and probabilities.shape[1] == 2  # noqa: PLR2004
    first = 1 if binary else 0
    return zip(truth.T[first:], probabilities.T[first:], strict=True)


def _one_hot(labels: NDArray[Any], num_labels: int) -> NDArray[Any]:
    """Labels (rows,) -> which rows have which, (rows, num_labels); multi-hot ones are that already."""
    return labels if labels.ndim > 1 else labels[:, None] == np.arange(num_labels)


def per_label(
    references: NDArray[Any], predictions: NDArray[Any], num_labels: int
) -> dict[str, NDArray[Any]]:
    """Precision, recall, F1 and support (rows) of each label, (num_labels,) each; 0 / 0 is 0."""
    truth, predicted = (_one_hot(labels, num_labels) for labels in (references, predictions))
    hits, support = (truth * predicted).sum(axis=0), truth.sum(axis=0)
    predicted = predicted.sum(axis=0)
    return {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(support + predicted, 1),
        "support": support,
    }
