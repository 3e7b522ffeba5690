"""TaskMetric: metrics that accumulate over batches and need no network; `add_batch`, then `compute`."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plainloop.config.tasks import ProblemType
from plainloop.metrics.decision_rule import DecisionRule
from plainloop.metrics.scorer import PER_LABEL, Scorer, Scores

DEFAULT_METRICS: dict[ProblemType, tuple[str, ...]] = {
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
"""The metrics of data files that you bring; the first is the headline."""


class Metric(Protocol):
    """What evaluation needs of a metric; any metric of the `evaluate` library has it too."""

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """Add the predictions and labels of one batch."""

    def compute(self) -> Scores | None:
        """The scores of all batches since the last call."""


class TaskMetric:
    """Accumulates logits and labels over batches and scores all rows at once.

    Args:
        names: of `LABEL_METRICS`, `VALUE_METRICS`, `PROBABILITY_METRICS`, and `PER_LABEL`.
        problem_type: what the logits mean.
        label_names: the name of label 0, label 1, ..., for the keys of `PER_LABEL`.
        decision: temperature and thresholds; None: see `predict_labels`.
    """

    takes_logits = True

    def __init__(
        self,
        names: Sequence[str],
        problem_type: ProblemType = "single_label_classification",
        label_names: Sequence[str] = (),
        decision: DecisionRule | None = None,
    ) -> None:
        # Now and not at the first score: importing it draws from Python's generator, which is part
        # of a checkpoint.
        import sklearn.metrics  # noqa: F401

        self.names, self.label_names = tuple(names), tuple(label_names)
        self.problem_type, self.decision = problem_type, decision
        self._logits: list[NDArray[Any]] = []
        self._references: list[NDArray[Any]] = []

    def add_batch(self, *, predictions: ArrayLike, references: ArrayLike) -> None:
        """Add one batch.

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
        """The scores of all rows since the last call, each a float; then reset.

        Returns:
            Each score under its name, in the order of `score_names`. A score that is not defined for
            these rows is left out, and so is every score if a logit is not finite.

        Raises:
            ValueError: no row was added.
        """
        if not any(map(len, self._references)):
            raise ValueError("no row was added")
        logits, references = map(np.concatenate, (self._logits, self._references))
        self._logits, self._references = [], []
        if not np.isfinite(logits).all():
            return {}
        return Scorer.from_logits(
            self.names,
            references,
            logits,
            self.problem_type,
            self.label_names,
            decision=self.decision,
        ).plain_scores()
