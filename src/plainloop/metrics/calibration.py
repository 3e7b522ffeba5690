"""Calibration: temperature scaling, reliability bins, the expected calibration error."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.tasks import ProblemType
from plainloop.metrics.decision_rule import DecisionRule
from plainloop.metrics.formulas import Floats

NUM_BINS = 10
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MIN_GAIN = 1e-12  # sums of the same numbers in another order differ by less


def fit_temperature(
    logits: NDArray[Any], references: NDArray[Any], problem_type: ProblemType
) -> float:
    """The temperature of the lowest log loss, between 0.05 and 20 (Guo et al. 2017, section 4.2).

    1 if no temperature is better. If every row is right, the loss is lowest at the lowest temperature,
    whatever is true of other rows.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        decision = DecisionRule(float(np.exp(log_temperature)))
        return float(row_losses(logits, references, problem_type, decision).mean())

    bounds = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < loss(0.0) - MIN_GAIN else 1.0


def row_losses(
    logits: NDArray[Any],
    references: NDArray[Any],
    problem_type: ProblemType,
    decision: DecisionRule | None,
) -> Floats:
    """-log of the probability of each row's label, nats, (rows,); multi-label: the labels' mean."""
    from scipy.special import log_expit, log_softmax

    scaled = np.asarray(logits, np.float64) / (1.0 if decision is None else decision.temperature)
    if problem_type == "multi_label_classification":
        losses: Floats = -log_expit(np.where(references.astype(bool), scaled, -scaled)).mean(axis=1)
    else:
        losses = -log_softmax(scaled, axis=1)[np.arange(len(scaled)), references.astype(np.int64)]
    return losses


def measure_calibration(
    probabilities: Floats, truth: NDArray[np.bool_], *, multi_label: bool
) -> dict[str, Any]:
    """Reliability bins, and the expected calibration error.

    The error (Naeini, Cooper and Hauskrecht 2015, as in Guo et al. 2017) is the mean over rows of
    |accuracy - mean probability| in the row's bin, of 10 bins of equal width of the probability of
    the predicted label. Multi-label: each label's probability counts by itself, and accuracy is the
    share of rows that have the label.

    Args:
        probabilities: float64 (rows, num_labels).
        truth: the rows' labels, one-hot or multi-hot, bool (rows, num_labels).
        multi_label: whether a row may have several labels.

    Returns:
        expected_calibration_error; bins, of those that hold a row: from, to, rows,
        mean_probability, share_right.
    """
    if multi_label:
        confidence, right = probabilities.ravel(), truth.ravel()
    else:
        predicted = probabilities.argmax(axis=1)
        confidence, right = probabilities.max(axis=1), truth[np.arange(len(truth)), predicted]
    bins = []
    bin_of_row = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    for number in np.unique(bin_of_row).tolist():
        inside = bin_of_row == number
        bins.append(
            {
                "from": number / NUM_BINS,
                "to": (number + 1) / NUM_BINS,
                "rows": int(inside.sum()),
                "mean_probability": float(confidence[inside].mean()),
                "share_right": float(right[inside].mean()),
            }
        )
    gaps = [each["rows"] * abs(each["share_right"] - each["mean_probability"]) for each in bins]
    return {"expected_calibration_error": float(sum(gaps) / len(confidence)), "bins": bins}
