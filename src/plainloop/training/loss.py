"""Losses other than the model's own: label smoothing, class weights, focal loss."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task

LossFn = Callable[[Any, torch.Tensor], torch.Tensor]
"""(a model's outputs, labels) -> the mean loss of the batch.

What the mean divides by is the number of rows; a loss that divides by something else says so in a
method `denominator(labels)`, as `CrossEntropy` does.
"""


def loss_denominator(loss_fn: LossFn | None, labels: torch.Tensor) -> float:
    """What the loss divides the sum over a batch with these labels by to get its mean."""
    denominator: Callable[[torch.Tensor], float] = getattr(loss_fn, "denominator", len)
    return denominator(labels)


class CrossEntropy:
    """Cross-entropy with smoothed labels and a weight for each label.

    The mean of a batch divides by `denominator(labels)`: the sum of the weights of its rows' labels,
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

    def denominator(self, labels: torch.Tensor) -> float:
        """What the mean of a batch with these labels divides by."""
        if self.class_weights is None:
            return len(labels)
        return float(self.class_weights[labels.cpu()].sum())


class BinaryCrossEntropy:
    """Cross-entropy of each label on its own, for multi-label rows.

    The class weight of a label multiplies the loss of the rows that have it; a row without it counts
    1 (`pos_weight` of `torch.nn.functional.binary_cross_entropy_with_logits`). The mean of a batch
    divides by its rows, times the labels, whatever the weights are.
    """

    def __init__(self, class_weights: Sequence[float]) -> None:
        self.class_weights = torch.tensor(class_weights)

    def __call__(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """The mean over the batch, of logits (rows, labels) and multi-hot labels, both float."""
        return functional.binary_cross_entropy_with_logits(
            outputs.logits, labels, pos_weight=self.class_weights.to(labels.device)
        )

    def denominator(self, labels: torch.Tensor) -> float:
        """What the mean of a batch with these labels divides by: its rows."""
        return len(labels)


class FocalLoss:
    """Focal loss: -alpha (1 - p)^gamma log p (Lin et al. 2017, arXiv:1708.02002).

    p is the probability of what is true. For a single label it is the softmax's, and alpha the class
    weight of the row's label. For multi-label rows each label stands on its own: p is the sigmoid's,
    or one minus it where the row lacks the label; alpha is the label's class weight where the row
    has it, else 1. With gamma 0 and no weights it is cross-entropy.

    The mean of a batch divides by its rows, and for multi-label rows by the labels too, whatever the
    weights are.
    """

    def __init__(self, gamma: float, class_weights: Sequence[float] | None = None) -> None:
        self.gamma = gamma
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    def __call__(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """The mean over the batch.

        Args:
            outputs: with logits (rows, labels).
            labels: int64 (rows,), or multi-hot, float (rows, labels).
        """
        logits = outputs.logits
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        # Both logarithms straight from the logits: where p rounds to 1, the power of 1 - p would
        # have a gradient that is not a number.
        if labels.ndim > 1:
            signed = torch.where(labels > 0, logits, -logits)
            log_p, log_rest = functional.logsigmoid(signed), functional.logsigmoid(-signed)
            alpha = 1.0 if weights is None else torch.where(labels > 0, weights, 1.0)
        else:
            log_probabilities = functional.log_softmax(logits, dim=1)
            true = labels[:, None]
            log_p = log_probabilities.gather(1, true)[:, 0]
            log_rest = log_probabilities.scatter(1, true, -torch.inf).logsumexp(dim=1)
            alpha = 1.0 if weights is None else weights[labels]
        losses: torch.Tensor = -alpha * (self.gamma * log_rest).exp() * log_p
        return losses.mean()

    def denominator(self, labels: torch.Tensor) -> float:
        """What the mean of a batch with these labels divides by: its rows."""
        return len(labels)


def create_loss(
    config: TrainConfig, train_labels: Sequence[Any], task: Task
) -> CrossEntropy | BinaryCrossEntropy | FocalLoss | None:
    """The loss that the settings ask for; None: the model's own.

    Args:
        config: its label smoothing, class weights and focal gamma.
        train_labels: int (rows,), or multi-hot (rows, num_labels); balanced weights need them.
        task: its problem type decides which cross-entropy it is.

    Raises:
        ValueError: the settings do not go together, or not with the problem type.
    """
    smoothing, weights, gamma = (
        config.label_smoothing_factor,
        config.class_weights,
        config.focal_gamma,
    )
    if smoothing == 0 and weights is None and gamma is None:
        return None
    if task.problem_type == "regression":
        raise ValueError("label smoothing, class weights and focal loss are not for regression")
    multi_label = task.problem_type == "multi_label_classification"
    if smoothing and (multi_label or gamma is not None):
        raise ValueError("label smoothing is for single labels, and not with focal loss")
    if weights == "balanced":
        weights = balanced_weights(np.asarray(train_labels[:]))
    if gamma is not None:
        return FocalLoss(gamma, weights)
    if multi_label and weights is not None:
        return BinaryCrossEntropy(weights)
    return CrossEntropy(smoothing, weights)


def balanced_weights(labels: NDArray[Any]) -> tuple[float, ...]:
    """A weight for each label, with which rare labels count as much as frequent ones.

    Single labels (rows,): scikit-learn's, rows / (number of labels x rows of the label). Multi-hot
    labels (rows, num_labels): rows without the label / rows with it, so that for each label the two
    count alike. Every label must have rows, and a multi-hot one must lack some.
    """
    if labels.ndim > 1:
        having = labels.sum(axis=0)
        return tuple(((len(labels) - having) / having).tolist())
    from sklearn.utils.class_weight import compute_class_weight

    return tuple(compute_class_weight("balanced", classes=np.unique(labels), y=labels).tolist())
