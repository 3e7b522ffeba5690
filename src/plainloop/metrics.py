"""Metrics that accumulate over batches and need no network: `add_batch`, then `compute`."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = dict[str, float]


class Metric(Protocol):
    """What evaluation needs of a metric; any metric of the `evaluate` library has it too."""

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """Take in the predictions and labels of one batch."""

    def compute(self) -> Scores | None:
        """The scores of all batches since the last call."""


def accuracy(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Share of the rows whose label is predicted."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def f1(references: NDArray[Any], predictions: NDArray[Any]) -> float:
    """F1 of label 1 in a binary task, as GLUE has it; 0 where label 1 neither is nor is predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, zero_division=0.0))


METRICS: dict[str, Callable[[NDArray[Any], NDArray[Any]], float]] = {"accuracy": accuracy, "f1": f1}


class ClassificationMetric:
    """Accumulates predictions and labels over batches and scores them all at once.

    Args:
        names: keys of `METRICS`; also the keys of what `compute` returns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # Now and not at the first score: importing it draws from Python's generator, which is part
        # of a checkpoint.
        import sklearn.metrics  # noqa: F401

        self.names = tuple(names)
        self._predictions: list[NDArray[Any]] = []
        self._references: list[NDArray[Any]] = []

    def add_batch(self, *, predictions: ArrayLike, references: ArrayLike) -> None:
        """Take in one batch: predicted and true labels, integers, one each row."""
        predictions, references = np.asarray(predictions), np.asarray(references)
        if predictions.shape != references.shape:
            raise ValueError(f"{predictions.shape} predictions for {references.shape} references")
        self._predictions.append(predictions)
        self._references.append(references)

    def compute(self) -> Scores:
        """The scores of all rows since the last call, each a float; then start anew.

        Raises:
            ValueError: no row was added.
        """
        if not self._predictions:
            raise ValueError("no batch was added")
        predictions, references = map(np.concatenate, (self._predictions, self._references))
        self._predictions, self._references = [], []
        return {name: METRICS[name](references, predictions) for name in self.names}
