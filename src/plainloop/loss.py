"""Losses other than the model's own: label smoothing and class weights."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from plainloop.config import TrainConfig

LossFn = Callable[[Any, torch.Tensor], torch.Tensor]
"""(a model's outputs, labels) -> the mean loss of the batch.

What the mean divides by is the number of rows; a loss that divides by something else says so in a
method `weight(labels)`, as `CrossEntropy` does.
"""


def weight_of(loss_fn: LossFn | None, labels: torch.Tensor) -> float:
    """What the loss's mean over a batch with these labels divides by."""
    weight: Callable[[torch.Tensor], float] = getattr(loss_fn, "weight", len)
    return weight(labels)


class CrossEntropy:
    """Cross-entropy with smoothed labels and a weight for each label.

    The mean of a batch divides by `weight(labels)`: the sum of the weights of its rows' labels,
    which is the number of rows where no weights are given (`torch.nn.functional.cross_entropy`).
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    def __call__(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """The weighted mean over the batch, of logits (rows, labels) and labels (int64, rows)."""
        weights = None if self.class_weights is None else self.class_weights.to(labels.device)
        return functional.cross_entropy(
            outputs.logits, labels, weight=weights, label_smoothing=self.label_smoothing
        )

    def weight(self, labels: torch.Tensor) -> float:
        """What the mean of a batch with these labels divides by."""
        if self.class_weights is None:
            return len(labels)
        return float(self.class_weights[labels.cpu()].sum())


def create_loss(config: TrainConfig, train_labels: Sequence[int]) -> CrossEntropy | None:
    """The loss that the settings ask for; None: the model's own.

    Balanced weights are scikit-learn's: rows / (number of labels x rows of the label). Every label
    must have rows.
    """
    if config.label_smoothing_factor == 0 and config.class_weights is None:
        return None
    weights: Sequence[float] | None
    if config.class_weights == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        labels = np.asarray(train_labels)
        weights = compute_class_weight("balanced", classes=np.unique(labels), y=labels).tolist()
    else:
        weights = config.class_weights
    return CrossEntropy(config.label_smoothing_factor, weights)
