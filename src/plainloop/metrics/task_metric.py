"""Metrics that accumulate over batches and need no network: `add_batch`, then `compute`."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plainloop.metrics.decision import Decision
from plainloop.metrics.formulas import (
    accuracy,
    average_precision,
    f1,
    f1_macro,
    f1_micro,
    f1_weighted,
    log_loss,
    mae,
    matthews_correlation,
    pearson,
    per_label,
    r2,
    rmse,
    roc_auc,
    spearmanr,
)

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType

Scores = dict[str, float]


class Metric(Protocol):
    """What evaluation needs of a metric; any metric of the `evaluate` library has it too."""

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """Take in the predictions and labels of one batch."""

    def compute(self) -> Scores | None:
        """The scores of all batches since the last call."""


def predictions_of(
    logits: ArrayLike, problem_type: "ProblemType", decision: Decision | None = None
) -> NDArray[Any]:
    """What a model predicts.

    Args:
        logits: float (rows, num_labels).
        problem_type: what the logits mean.
        decision: its thresholds take the place of one half.

    Returns:
        Single label: the label with the largest logit, the first of equal ones, int64 (rows,).
        Multi-label: 1 where the logit is above 0, a probability above one half, int64 (rows,
        num_labels). Regression: the value, float64 (rows,).
    """
    rows: NDArray[Any] = np.asarray(logits)
    if decision is not None and decision.thresholds is not None:
        thresholds = np.asarray(decision.thresholds)
        probabilities = probabilities_of(logits, problem_type, decision)
        above = (probabilities[:, -thresholds.shape[-1] :] > thresholds).astype(np.int64)
        return above[:, 0] if problem_type == "single_label_classification" else above
    if problem_type == "single_label_classification":
        labels: NDArray[np.int64] = rows.argmax(axis=1)
        return labels
    if problem_type == "multi_label_classification":
        return (rows > 0).astype(np.int64)
    return rows[:, 0].astype(np.float64)


def probabilities_of(
    logits: ArrayLike, problem_type: "ProblemType", decision: Decision | None = None
) -> NDArray[np.float64]:
    """The probability of each label, float64 (rows, num_labels), computed without overflow.

    Softmax for a single label, sigmoid for multi-label, of the logits divided by the decision's
    temperature; for regression the value itself.
    """
    from scipy.special import expit, softmax

    probabilities = np.asarray(logits, np.float64)
    if decision is not None:
        probabilities = probabilities / decision.temperature
    if problem_type == "single_label_classification":
        probabilities = softmax(probabilities, axis=1)
    elif problem_type == "multi_label_classification":
        probabilities = expit(probabilities)
    return probabilities


METRICS: dict[str, Callable[[NDArray[Any], NDArray[Any]], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "f1_micro": f1_micro,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
    "matthews_correlation": matthews_correlation,
    "pearson": pearson,
    "spearmanr": spearmanr,
    "rmse": rmse,
    "mae": mae,
    "r2": r2,
}
"""Of references and predictions; GLUE's names are those of `evaluate`'s glue metric."""

PROBABILITY_METRICS: dict[str, Callable[[NDArray[Any], NDArray[np.float64]], float]] = {
    "log_loss": log_loss,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
}
"""Of references and the probability of each label."""

PER_LABEL = "per_label"
"""In a task's metrics: precision, recall, F1 and number of rows (support) of each label."""

OWN_METRICS: dict["ProblemType", tuple[str, ...]] = {
    "single_label_classification": (
        "accuracy",
        "f1_macro",
        "f1_weighted",
        "log_loss",
        "roc_auc",
        "average_precision",
        PER_LABEL,
    ),
    "multi_label_classification": (
        "f1_micro",
        "f1_macro",
        "accuracy",
        "roc_auc",
        "average_precision",
        PER_LABEL,
    ),
    "regression": ("rmse", "mae", "r2", "pearson", "spearmanr"),
}
"""What a person's own data are scored by; the first is the headline."""


def score_names(metrics: Sequence[str], label_names: Sequence[str]) -> list[str]:
    """The keys of what `TaskMetric.compute` returns when every score is defined."""
    kinds = ("precision", "recall", "f1", "support")
    per_label = [f"{kind}/{name}" for kind in kinds for name in label_names]
    return [key for name in metrics for key in (per_label if name == PER_LABEL else [name])]


class TaskMetric:
    """Accumulates logits and labels over batches and scores all rows at once.

    Args:
        names: keys of `METRICS` and `PROBABILITY_METRICS`, and `PER_LABEL`.
        problem_type: what the logits mean.
        label_names: the name of label 0, label 1, ..., for the keys of `PER_LABEL`.
        decision: what makes labels and probabilities of the logits; None: as trained.
    """

    takes_logits = True

    def __init__(
        self,
        names: Sequence[str],
        problem_type: "ProblemType" = "single_label_classification",
        label_names: Sequence[str] = (),
        decision: Decision | None = None,
    ) -> None:
        # Now and not at the first score: importing it draws from Python's generator, which is part
        # of a checkpoint.
        import sklearn.metrics  # noqa: F401

        self.names, self.label_names = tuple(names), tuple(label_names)
        self.problem_type, self.decision = problem_type, decision
        self._logits: list[NDArray[Any]] = []
        self._references: list[NDArray[Any]] = []

    def add_batch(self, *, predictions: ArrayLike, references: ArrayLike) -> None:
        """Take in one batch.

        Args:
            predictions: logits, float (rows, num_labels); or predicted labels, int (rows,), which
                count as certain.
            references: labels, int (rows,); multi-hot (rows, num_labels); values, float (rows,).
        """
        logits, references = np.asarray(predictions), np.asarray(references)
        if logits.ndim == 1 and self.problem_type == "single_label_classification":
            logits = np.eye(len(self.label_names))[logits]
        multi_label = self.problem_type == "multi_label_classification"
        wanted = logits.shape if multi_label else logits.shape[:1]
        if logits.ndim != 2 or references.shape != wanted:  # noqa: PLR2004
            raise ValueError(f"logits {logits.shape} for references {references.shape}")
        self._logits.append(logits)
        self._references.append(references)

    def compute(self) -> Scores:
        """The scores of all rows since the last call, each a float; then start anew.

        Returns:
            Each score under its name, in the order of `score_names`. A score that is not defined for
            these rows is left out, and so is every score where a logit is not finite.

        Raises:
            ValueError: no row was added.
        """
        if not any(map(len, self._references)):
            raise ValueError("no row was added")
        logits, references = map(np.concatenate, (self._logits, self._references))
        self._logits, self._references = [], []
        if not np.isfinite(logits).all():
            return {}
        regression = self.problem_type == "regression"
        references = references.astype(np.float64 if regression else np.int64)
        predictions = predictions_of(logits, self.problem_type, self.decision)
        probabilities = probabilities_of(logits, self.problem_type, self.decision)
        scores: Scores = {}
        for name in self.names:
            if name == PER_LABEL:
                for kind, values in per_label(references, predictions, logits.shape[1]).items():
                    named = zip(self.label_names, values.tolist(), strict=True)
                    scores |= {f"{kind}/{label}": float(value) for label, value in named}
            elif name in PROBABILITY_METRICS:
                scores[name] = PROBABILITY_METRICS[name](references, probabilities)
            else:
                scores[name] = METRICS[name](references, predictions)
        return {name: score for name, score in scores.items() if math.isfinite(score)}
