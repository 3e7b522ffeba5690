"""Weighted sampling: rows are drawn so that every class is equally likely."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler


def row_weights(labels: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """The probability of each row when a class is drawn evenly and then a row that has it, evenly.

    A class without rows is not drawn. A row with several labels can be drawn by each of them; rows
    with none make one more class.

    Args:
        labels: int (rows,), or multi-hot (rows, num_labels) of a multi-label problem.

    Returns:
        float64 (rows,), with the sum 1.
    """
    labels = np.asarray(labels)
    if labels.ndim == 1:
        _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        chances = 1 / counts[classes]
    else:
        has_class = np.column_stack([labels, labels.sum(axis=1) == 0]).astype(np.float64)
        counts = has_class.sum(axis=0)
        chances = has_class @ np.divide(1, counts, out=np.zeros_like(counts), where=counts > 0)
    weights: NDArray[np.float64] = chances / chances.sum()
    return weights


class EpochWeightedSampler(Sampler[int]):
    """Rows drawn with replacement, by weight: a function of the seed and the epoch alone.

    An epoch has as many draws as there are rows; some rows come several times and some not at all.
    Each draw is a uniform number looked up in the cumulative weights, as
    `torch.utils.data.WeightedRandomSampler` does it, which however stops at 2**24 rows.

    Attributes:
        num_rows: draws in an epoch.
        seed: of the run.
        epoch: whose order the next iteration gives; `set_epoch` moves it.
    """

    def __init__(self, weights: ArrayLike, seed: int) -> None:
        self._cumulative = torch.from_numpy(np.cumsum(weights, dtype=np.float64))
        self.num_rows, self.seed, self.epoch = len(self._cumulative), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; accelerate's prepared loader passes its own on to here."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        draws = torch.rand(self.num_rows, dtype=torch.float64, generator=generator)
        # To the right: a draw on the edge of two rows is the second one's, so that a row of weight
        # 0 is never drawn.
        rows = torch.searchsorted(self._cumulative, draws * self._cumulative[-1], right=True)
        return map(int, rows.numpy())

    def __len__(self) -> int:
        return self.num_rows
