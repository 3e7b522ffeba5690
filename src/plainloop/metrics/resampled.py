"""The formulas of scores.py for many resamples at once: how often each row was drawn -> scores.

A bootstrap needs each score some thousand times; one call of scikit-learn for each would take
minutes. Here all resamples are columns of one matrix product. The tests hold every formula to the
one in scores.py.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plainloop.metrics.decision import Decision
from plainloop.metrics.task_metric import PER_LABEL, predictions_of, probabilities_of

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType

Floats = NDArray[np.float64]
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # scikit-learn's log_loss clips there


class ResampledScores:
    """The scores of a set of rows, counting each row as often as a resample has drawn it.

    Args:
        names: as `TaskMetric` takes them: of `METRICS`, `PROBABILITY_METRICS`, and `PER_LABEL`.
        references: labels, int (rows,); multi-hot (rows, num_labels); values, float (rows,).
        logits: float (rows, num_labels).
        problem_type: what the logits mean.
        label_names: for the keys of `PER_LABEL`.
        decision: what makes labels and probabilities of the logits; None: as trained.
        more: other scores that are means over rows, name -> value of each row, float (rows,).
    """

    def __init__(
        self,
        names: Sequence[str],
        references: NDArray[Any],
        logits: NDArray[Any],
        problem_type: "ProblemType",
        label_names: Sequence[str] = (),
        *,
        decision: Decision | None = None,
        more: Mapping[str, Floats] | None = None,
    ) -> None:
        regression = problem_type == "regression"
        references = references.astype(np.float64 if regression else np.int64)
        predictions = predictions_of(logits, problem_type, decision)
        self.is_binary = problem_type == "single_label_classification" and logits.shape[1] == 2  # noqa: PLR2004
        self.is_multi_label = problem_type == "multi_label_classification"
        self.probabilities = probabilities_of(logits, problem_type, decision)
        self.references, self.predictions = references, predictions
        self.more = more or {}
        self.named = score_keys(names, label_names)
        self.keys = [*self.named, *self.more]
        if not regression:
            self.truth = _one_hot(references, logits.shape[1])
            self.predicted = _one_hot(predictions, logits.shape[1])
            self.label_names = [str(name) for name in label_names] or [
                str(number) for number in range(logits.shape[1])
            ]

    def __call__(self, counts: NDArray[Any]) -> Floats:
        """Score every resample.

        Args:
            counts: how often each row was drawn, (resamples, rows).

        Returns:
            float64 (scores, resamples) in the order of `keys`; what is not defined is not a number.
        """
        counts = np.asarray(counts, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.references.dtype == np.float64:
                values = self._of_values(counts)
            else:
                values = self._of_labels(counts)
            rows = counts.sum(axis=1)
            values |= {name: counts @ of_row / rows for name, of_row in self.more.items()}
        return np.stack([values[key] for key in self.keys])

    def _of_labels(self, counts: Floats) -> dict[str, Floats]:
        """Every score that is made of how many rows have and are given each label."""
        rows = counts.sum(axis=1)
        hits = counts @ (self.truth & self.predicted)
        support, predicted = counts @ self.truth, counts @ self.predicted  # (resamples, labels)
        right = (self.truth == self.predicted).all(axis=1)
        f1 = 2 * hits / np.maximum(support + predicted, 1)
        occurs = np.ones_like(f1) if self.is_multi_label else support + predicted > 0
        values = {
            "accuracy": counts @ right / rows,
            "f1": f1[:, -1],
            "f1_micro": 2 * hits.sum(1) / np.maximum((support + predicted).sum(1), 1),
            "f1_macro": (f1 * occurs).sum(1) / occurs.sum(1),
            "f1_weighted": (f1 * support).sum(1) / np.maximum(support.sum(1), 1),
            "matthews_correlation": _matthews(hits, support, predicted, rows),
        }
        for kind, of_labels in (
            ("precision", hits / np.maximum(predicted, 1)),
            ("recall", hits / np.maximum(support, 1)),
            ("f1", f1),
        ):
            values |= {
                f"{kind}/{label}": of_label
                for label, of_label in zip(self.label_names, of_labels.T, strict=True)
            }
        if "log_loss" in self.named:
            losses = -np.log(self.probabilities.clip(SMALLEST_PROBABILITY, 1))
            values["log_loss"] = counts @ losses[np.arange(len(losses)), self.references] / rows
        if {"roc_auc", "average_precision"} & set(self.named):
            first = 1 if self.is_binary else 0
            ranked = [
                _ranking(counts, truth, score)
                for truth, score in zip(
                    self.truth.T[first:], self.probabilities.T[first:], strict=True
                )
            ]
            areas, precisions = zip(*ranked, strict=True)
            values["roc_auc"] = np.mean(areas, axis=0)
            values["average_precision"] = np.mean(precisions, axis=0)
        return values

    def _of_values(self, counts: Floats) -> dict[str, Floats]:
        rows = counts.sum(axis=1)
        error = self.predictions - self.references
        squares = counts @ error**2
        total = (counts * _centred(counts, self.references) ** 2).sum(axis=1)
        values = {
            "rmse": np.sqrt(squares / rows),
            "mae": counts @ abs(error) / rows,
            "r2": np.where(_vary(counts, self.references), 1 - squares / total, math.nan),
        }
        if "pearson" in self.named:
            values["pearson"] = _correlation(counts, self.references, self.predictions)
        if "spearmanr" in self.named:
            ranks = (_ranks(counts, values) for values in (self.references, self.predictions))
            values["spearmanr"] = _correlation(counts, *ranks)
        return values


def score_keys(names: Sequence[str], label_names: Sequence[str]) -> list[str]:
    """The keys of the scores of which a resample says something: all but the support of a label."""
    kinds = ("precision", "recall", "f1")
    per_label = [f"{kind}/{label}" for kind in kinds for label in label_names]
    return [key for name in names for key in (per_label if name == PER_LABEL else [name])]


def _one_hot(labels: NDArray[Any], num_labels: int) -> NDArray[np.bool_]:
    return labels.astype(bool) if labels.ndim > 1 else labels[:, None] == np.arange(num_labels)


def _matthews(hits: Floats, support: Floats, predicted: Floats, rows: Floats) -> Floats:
    """Matthews' correlation of any number of labels (Gorodkin 2004); 0 where one is constant."""
    covariance = rows * hits.sum(1) - (support * predicted).sum(1)
    spread = (rows**2 - (support**2).sum(1)) * (rows**2 - (predicted**2).sum(1))
    return np.where(spread > 0, covariance / np.sqrt(spread), 0.0)


def _ranking(counts: Floats, truth: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Area under the ROC curve and average precision of one label, (resamples,) each.

    Rows of equal score are passed together, as scikit-learn passes them.
    """
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=math.inf))
    drawn, hit = counts[:, order], counts[:, order] * truth[order]
    drawn, hit = (np.add.reduceat(values, starts, axis=1) for values in (drawn, hit))
    miss = drawn - hit
    hits_so_far, drawn_so_far = hit.cumsum(axis=1), drawn.cumsum(axis=1)
    hits, misses = hit.sum(axis=1), miss.sum(axis=1)
    area = (miss * (hits_so_far - hit / 2)).sum(axis=1) / (hits * misses)
    precision = np.divide(hits_so_far, drawn_so_far, out=np.zeros_like(hit), where=drawn_so_far > 0)
    return area, (hit * precision).sum(axis=1) / hits


def _ranks(counts: Floats, values: Floats) -> Floats:
    """The mean rank of each row in each resample, (resamples, rows)."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks: Floats = (sizes.cumsum(axis=1) - sizes / 2)[:, group]
    return ranks


def _correlation(counts: Floats, first: Floats, second: Floats) -> Floats:
    """Pearson's correlation in each resample of values (rows,) or (resamples, rows)."""
    of_first, of_second = _centred(counts, first), _centred(counts, second)
    products = (counts * of_first * of_second).sum(axis=1)
    spread = np.sqrt((counts * of_first**2).sum(axis=1) * (counts * of_second**2).sum(axis=1))
    return np.where(_vary(counts, first) & _vary(counts, second), products / spread, math.nan)


def _centred(counts: Floats, values: Floats) -> Floats:
    """Values (rows,) or (resamples, rows) less their mean in each resample, (resamples, rows)."""
    mean = (counts * values).sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True)
    centred: Floats = values - mean
    return centred


def _vary(counts: Floats, values: Floats) -> NDArray[np.bool_]:
    """Whether the rows that a resample has drawn differ: (resamples,); a sum of squares rounds."""
    drawn = counts > 0
    largest = np.where(drawn, values, -math.inf).max(axis=1)
    smallest = np.where(drawn, values, math.inf).min(axis=1)
    differ: NDArray[np.bool_] = largest > smallest
    return differ
