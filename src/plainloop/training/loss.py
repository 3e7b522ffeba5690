"""Training losses: cross-entropy with label smoothing and class weights, and focal loss."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task

LossFn = Callable[[Any, torch.Tensor], torch.Tensor]
"""(outputs of a model, labels) -> mean loss of the batch, a scalar.

The mean divides by the number of rows. A loss that divides by something else has a method
`denominator(labels)`, as `CrossEntropy` has: gradient accumulation over batches needs it.
"""


def loss_denominator(loss_fn: LossFn | None, labels: torch.Tensor) -> float | torch.Tensor:
    """What the loss divides the sum over a batch with these labels by to get its mean."""
    denominator: Callable[[torch.Tensor], float | torch.Tensor]
    denominator = getattr(loss_fn, "denominator", len)
    return denominator(labels)


class CrossEntropy:
    """Cross-entropy with label smoothing and class weights (`torch.nn.functional.cross_entropy`).

    With class weights torch divides a batch's sum by the sum of its rows' weights, not by its rows.
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    def __call__(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Weighted mean loss of logits, float (rows, labels), and labels, int64 (rows,)."""
        return functional.cross_entropy(
            outputs.logits,
            labels,
            weight=self._weights_on(labels.device),
            label_smoothing=self.label_smoothing,
        )

    def denominator(self, labels: torch.Tensor) -> float | torch.Tensor:
        """The number that the mean of a batch with these labels divides by."""
        weights = self._weights_on(labels.device)
        if weights is None:
            return len(labels)
        total = weights[labels].sum()
        return float(total) if labels.device.type == "cpu" else total  # a GPU is not waited for

    def _weights_on(self, device: torch.device) -> torch.Tensor | None:
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(device)  # copied once
        return self.class_weights


class BinaryCrossEntropy:
    """Weighted binary cross-entropy for multi-label rows.

    A label's class weight multiplies the loss of rows that have it; other rows have weight 1
    (`pos_weight` of `torch.nn.functional.binary_cross_entropy_with_logits`). The mean divides by
    rows times labels, whatever the weights are.
    """

    def __init__(self, class_weights: Sequence[float]) -> None:
        self.class_weights = torch.tensor(class_weights)

    def __call__(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss of logits and multi-hot labels, both float (rows, labels)."""
        self.class_weights = self.class_weights.to(labels.device)  # copied once
        return functional.binary_cross_entropy_with_logits(
            outputs.logits, labels, pos_weight=self.class_weights
        )


class FocalLoss:
    """Focal loss: -alpha (1 - p)^gamma log p (Lin et al. 2017, arXiv:1708.02002).

    p is the probability of the true answer. For single-label rows it comes from the softmax, and
    alpha is the class weight of the row's label. For multi-label rows each label is a binary
    problem: p comes from the sigmoid, and alpha is the label's class weight if the row has it, else
    1. With gamma 0 and no weights it is cross-entropy.

    The mean divides by rows, for multi-label rows by rows times labels, whatever the weights are.
    """

    def __init__(self, gamma: float, class_weights: Sequence[float] | None = None) -> None:
        self.gamma = gamma
        self.class_weights = None if class_weights is None else torch.as_tensor(class_weights)

    def __call__(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch.

        Args:
            outputs: with `logits`, float (rows, labels).
            labels: int64 (rows,), or multi-hot, float (rows, labels).
        """
        logits = outputs.logits
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(logits.device)  # copied once
        weights = self.class_weights
        # log p and log(1 - p) straight from the logits: if p rounds to 1, (1 - p) ** gamma has the
        # gradient 0 * inf = NaN for gamma < 1.
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


def create_loss(
    config: TrainConfig, train_labels: Sequence[Any], task: Task
) -> CrossEntropy | BinaryCrossEntropy | FocalLoss | None:
    """Create the loss that the settings ask for; None for the loss inside the model.

    Args:
        config: its label_smoothing_factor, class_weights and focal_gamma.
        train_labels: int (rows,), or multi-hot (rows, num_labels); used for balanced weights.
        task: its problem type selects categorical or binary cross-entropy.

    Raises:
        ValueError: the settings cannot be combined with each other or with the problem type.
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
    """Class weights inversely proportional to frequency.

    Single labels (rows,): rows / (number of labels * rows with the label), as scikit-learn's
    "balanced". Multi-hot labels (rows, num_labels): rows without the label / rows with it, so that
    both sides have the same total. Every label needs a row that has it, and a multi-hot one a row
    that lacks it.
    """
    if labels.ndim > 1:
        having = labels.sum(axis=0)
        return tuple(((len(labels) - having) / having).tolist())
    num_rows = np.unique(labels, return_counts=True)[1]
    return tuple((len(labels) / (len(num_rows) * num_rows)).tolist())
