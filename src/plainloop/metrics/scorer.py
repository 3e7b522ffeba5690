"""Scorer: all metrics of a fixed set of rows, of each row once or of many bootstrap resamples."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.tasks import ProblemType
from plainloop.metrics import formulas
from plainloop.metrics.decision_rule import DecisionRule, compute_probabilities, predict_labels
from plainloop.metrics.formulas import LABEL_METRICS, VALUE_METRICS, Counts, Floats

Scores = dict[str, float]
PROBABILITY_METRICS = ("log_loss", "roc_auc", "average_precision")
"""Metrics of the probabilities; those of `LABEL_METRICS` and `VALUE_METRICS` need predictions only."""
PER_LABEL = "per_label"
"""In a task's metrics: precision, recall, F1 and support (rows) of each label."""


def score_names(metrics: Sequence[str], label_names: Sequence[str]) -> list[str]:
    """The keys of the scores of these metrics if every score is defined."""
    kinds = ("precision", "recall", "f1", "support")
    per_label = [f"{kind}/{name}" for kind in kinds for name in label_names]
    return [key for name in metrics for key in (per_label if name == PER_LABEL else [name])]


class Scorer:
    """Scores a fixed set of rows, in which each may count any number of times.

    A bootstrap needs each score some thousand times, and one call of scikit-learn for each would take
    minutes; here all resamples are lines of one matrix product.

    Args:
        names: of `LABEL_METRICS`, `VALUE_METRICS`, `PROBABILITY_METRICS`, and `PER_LABEL`.
        references: labels, int (rows,); multi-hot (rows, num_labels); values, float (rows,).
        predictions: the same of what is predicted.
        probabilities: float64 (rows, num_labels); only `PROBABILITY_METRICS` need them.
        num_labels: how many labels there are.
        label_names: for the keys of `PER_LABEL`.
        row_values: further scores that are means over rows, name -> float (rows,).

    Attributes:
        keys: the scores of a resample, in their order: all but the support of a label.
    """

    def __init__(
        self,
        names: Sequence[str],
        references: NDArray[Any],
        predictions: NDArray[Any],
        probabilities: Floats | None = None,
        *,
        num_labels: int,
        label_names: Sequence[str] = (),
        row_values: Mapping[str, Floats] | None = None,
    ) -> None:
        self.names, self.label_names, self.num_labels = names, label_names, num_labels
        self.references, self.predictions = references, predictions
        self.probabilities, self.row_values = probabilities, row_values or {}
        named = score_names(names, label_names)
        self.keys = [key for key in named if not key.startswith("support/")] + [*self.row_values]

    @classmethod
    def from_logits(
        cls,
        names: Sequence[str],
        references: NDArray[Any],
        logits: NDArray[Any],
        problem_type: ProblemType,
        label_names: Sequence[str] = (),
        *,
        decision: DecisionRule | None = None,
        row_values: Mapping[str, Floats] | None = None,
    ) -> "Scorer":
        """Score logits, float (rows, num_labels); None decides as `predict_labels` does."""
        regression = problem_type == "regression"
        return cls(
            names,
            references.astype(np.float64 if regression else np.int64),
            predict_labels(logits, problem_type, decision),
            compute_probabilities(logits, problem_type, decision),
            num_labels=logits.shape[1],
            label_names=label_names,
            row_values=row_values,
        )

    def __call__(self, counts: NDArray[Any]) -> Floats:
        """Score every resample.

        Args:
            counts: how often each row was drawn, (resamples, rows).

        Returns:
            float64 (scores, resamples) in the order of `keys`; NaN or infinite if not defined.
        """
        scores = self._compute(np.asarray(counts, np.float64))
        return np.stack([scores[key] for key in self.keys])

    def plain_scores(self) -> Scores:
        """The scores with each row counted once, in the order of `score_names`, if they are defined."""
        scores = {key: value.item() for key, value in self._compute(None).items()}
        keys = [*score_names(self.names, self.label_names), *self.row_values]
        return {key: scores[key] for key in keys if math.isfinite(scores[key])}

    def _compute(self, counts: Counts) -> dict[str, Floats]:
        sides, names = (self.references, self.predictions), set(self.names)
        scores: dict[str, Floats] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if names & {*LABEL_METRICS, PER_LABEL}:
                confusion = formulas.count_confusion(*sides, self.num_labels, counts)
                scores |= {
                    name: LABEL_METRICS[name](confusion) for name in names & {*LABEL_METRICS}
                }
            if PER_LABEL in names:
                for kind, values in formulas.per_label(confusion).items():
                    named = zip(self.label_names, values.T, strict=True)
                    scores |= {f"{kind}/{label}": column for label, column in named}
            for name in names & {*VALUE_METRICS}:
                scores[name] = VALUE_METRICS[name](*sides, counts)
            if self.probabilities is not None and "log_loss" in names:
                scores["log_loss"] = formulas.log_loss(self.references, self.probabilities, counts)
            if self.probabilities is not None and names & {"roc_auc", "average_precision"}:
                scores |= formulas.ranking_scores(self.references, self.probabilities, counts)
            for name, row_values in self.row_values.items():
                scores[name] = formulas.mean(row_values, counts)
        return scores
