"""Label smoothing and class weights: loss and gradient equal a NumPy reference."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother

from plainloop.config import TrainConfig
from plainloop.loss import CrossEntropy, create_loss

DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(size=(7, 3))
LABELS = np.array([0, 1, 2, 2, 1, 2, 2])


def reference(logits, labels, weights, smoothing):
    """Sum over rows of weighted cross-entropy to the smoothed target, by the sum of weights."""
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    classes = logits.shape[1]
    target = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    return -(target * weights * log_probabilities).sum() / weights[labels].sum()


def numeric_gradient(logits, *rest, step=1e-6):
    gradient = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (reference(up, *rest) - reference(down, *rest)) / (2 * step)
    return gradient


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_loss_and_gradient_equal_numpy(smoothing, weights):
    loss_fn = CrossEntropy(smoothing, weights)
    if weights:
        loss_fn.class_weights = loss_fn.class_weights.double()
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss = loss_fn(SimpleNamespace(logits=logits), torch.tensor(LABELS))
    loss.backward()
    rest = (LABELS, np.array(weights or [1.0, 1.0, 1.0]), smoothing)
    assert loss.item() == pytest.approx(reference(LOGITS, *rest), rel=1e-12)
    np.testing.assert_allclose(logits.grad.numpy(), numeric_gradient(LOGITS, *rest), atol=1e-8)


def test_the_weight_of_a_batch_is_what_its_mean_divides_by():
    labels = torch.tensor(LABELS)
    assert CrossEntropy(0.1).weight(labels) == 7
    assert CrossEntropy(0.0, [1.0, 2.0, 0.5]).weight(labels) == 1 + 2 * 2 + 4 * 0.5


def test_smoothing_is_the_trainers():
    logits, labels = torch.tensor(LOGITS, dtype=torch.float32), torch.tensor(LABELS)
    ours = CrossEntropy(0.1)(SimpleNamespace(logits=logits), labels)
    theirs = LabelSmoother(0.1)({"logits": logits}, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_balanced_weights_make_the_labels_count_alike():
    loss_fn = create_loss(TrainConfig(class_weights="balanced"), [0] * 90 + [1] * 10)
    assert loss_fn.class_weights.tolist() == pytest.approx([100 / 180, 100 / 20])


def test_without_smoothing_or_weights_the_models_own_loss_is_used():
    assert create_loss(TrainConfig(), [0, 1]) is None
