"""Label smoothing, class weights, focal loss: loss and gradient equal a NumPy reference."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task
from plainloop.training.loss import (
    BinaryCrossEntropy,
    CrossEntropy,
    FocalLoss,
    create_loss,
    loss_denominator,
)

SINGLE = replace(get_task("demo"), problem_type="single_label_classification")
MULTI = replace(SINGLE, problem_type="multi_label_classification")
REGRESSION = replace(SINGLE, problem_type="regression")
DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(size=(7, 3))
LABELS = np.array([0, 1, 2, 2, 1, 2, 2])
MULTI_HOT = np.array(
    [[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0.0]]
)
WEIGHTS = [1.0, 2.0, 0.5]


def reference(logits, labels, weights, smoothing):
    """Sum over rows of weighted cross-entropy to the smoothed target, by the sum of weights."""
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    classes = logits.shape[1]
    target = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    return -(target * weights * log_probabilities).sum() / weights[labels].sum()


def focal_reference(logits, labels, weights, gamma):
    """Mean over rows of alpha (1 - p)^gamma (-log p), p the softmax's at the label."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = probabilities[np.arange(len(labels)), labels]
    return (weights[labels] * (1 - p) ** gamma * -np.log(p)).sum() / len(labels)


def binary_reference(logits, labels, weights, gamma):
    """Mean over rows and labels; the weight is for rows that have the label."""
    has = 1 / (1 + np.exp(-logits))
    p = labels * has + (1 - labels) * (1 - has)
    alpha = labels * weights + (1 - labels)
    return (alpha * (1 - p) ** gamma * -np.log(p)).sum() / labels.size


def numeric_gradient(function, logits, *rest, step=1e-6):
    gradient = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up, *rest) - function(down, *rest)) / (2 * step)
    return gradient


def loss_and_gradient(loss_fn, logits, labels):
    if loss_fn.class_weights is not None:
        loss_fn.class_weights = loss_fn.class_weights.double()
    logits = torch.tensor(logits, requires_grad=True)
    loss = loss_fn(SimpleNamespace(logits=logits), torch.tensor(labels))
    loss.backward()
    return loss.item(), logits.grad.numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_loss_and_gradient_equal_numpy(smoothing, weights):
    loss, gradient = loss_and_gradient(CrossEntropy(smoothing, weights), LOGITS, LABELS)
    rest = (LABELS, np.array(weights or [1.0, 1.0, 1.0]), smoothing)
    assert loss == pytest.approx(reference(LOGITS, *rest), rel=1e-12)
    np.testing.assert_allclose(gradient, numeric_gradient(reference, LOGITS, *rest), atol=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    ("labels", "function"),
    [(LABELS, focal_reference), (MULTI_HOT, binary_reference)],
    ids=["single", "multi"],
)
def test_focal_loss_and_gradient_equal_numpy(labels, function, weights, gamma):
    loss, gradient = loss_and_gradient(FocalLoss(gamma, weights), LOGITS, labels)
    rest = (labels, np.array(weights or [1.0, 1.0, 1.0]), gamma)
    assert loss == pytest.approx(function(LOGITS, *rest), rel=1e-12)
    np.testing.assert_allclose(gradient, numeric_gradient(function, LOGITS, *rest), atol=1e-8)


def test_weighted_multi_label_loss_and_gradient_equal_numpy():
    loss, gradient = loss_and_gradient(BinaryCrossEntropy(WEIGHTS), LOGITS, MULTI_HOT)
    rest = (MULTI_HOT, np.array(WEIGHTS), 0)
    assert loss == pytest.approx(binary_reference(LOGITS, *rest), rel=1e-12)
    numeric = numeric_gradient(binary_reference, LOGITS, *rest)
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("multi_label", [False, True])
def test_focal_loss_is_finite_where_a_probability_rounds_to_1(multi_label, gamma):
    # One row, or label, is right beyond doubt: its loss is 0. The other is as wrong: log p is -200.
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 1])
    if multi_label:
        logits = torch.tensor([[200.0, 200.0]], requires_grad=True)
        labels = torch.tensor([[1.0, 0.0]])
    loss = FocalLoss(gamma)(SimpleNamespace(logits=logits), labels)
    loss.backward()
    assert loss.item() == pytest.approx(200 / 2)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss_fn", "labels"),
    [
        (CrossEntropy(0.1), LABELS),
        (CrossEntropy(0.1, WEIGHTS), LABELS),
        (FocalLoss(2.0, WEIGHTS), LABELS),
        (FocalLoss(2.0, WEIGHTS), MULTI_HOT),
        (BinaryCrossEntropy(WEIGHTS), MULTI_HOT),
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_the_parts_of_a_batch_by_their_weight_make_the_whole(loss_fn, labels, cut):
    def part(rows):
        logits, part_labels = torch.tensor(LOGITS[rows]).float(), torch.tensor(labels[rows])
        part_labels = part_labels.float() if labels.ndim > 1 else part_labels
        loss = loss_fn(SimpleNamespace(logits=logits), part_labels)
        return loss.item(), loss_denominator(loss_fn, part_labels)

    whole, weight = part(slice(None))
    (first, first_weight), (rest, rest_weight) = part(slice(cut)), part(slice(cut, None))
    assert first_weight + rest_weight == pytest.approx(weight)
    assert (first * first_weight + rest * rest_weight) / weight == pytest.approx(whole, rel=1e-5)


def test_the_loss_denominator_a_batch_is_what_its_mean_divides_by():
    labels = torch.tensor(LABELS)
    assert CrossEntropy(0.1).denominator(labels) == 7
    assert CrossEntropy(0.0, [1.0, 2.0, 0.5]).denominator(labels) == 1 + 2 * 2 + 4 * 0.5


def test_smoothing_is_the_trainers():
    logits, labels = torch.tensor(LOGITS, dtype=torch.float32), torch.tensor(LABELS)
    ours = CrossEntropy(0.1)(SimpleNamespace(logits=logits), labels)
    theirs = LabelSmoother(0.1)({"logits": logits}, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_balanced_weights_make_the_labels_count_alike():
    loss_fn = create_loss(TrainConfig(class_weights="balanced"), [0] * 90 + [1] * 10, SINGLE)
    assert isinstance(loss_fn, CrossEntropy)
    assert loss_fn.class_weights.tolist() == pytest.approx([100 / 180, 100 / 20])


def test_balanced_weights_make_rows_with_and_without_a_label_count_alike():
    loss_fn = create_loss(TrainConfig(class_weights="balanced"), MULTI_HOT.tolist(), MULTI)
    assert isinstance(loss_fn, BinaryCrossEntropy)
    # 3, 2 and 4 of the 7 rows have the label.
    assert loss_fn.class_weights.tolist() == pytest.approx([4 / 3, 5 / 2, 3 / 4])


@pytest.mark.parametrize("task", [SINGLE, MULTI])
def test_a_focal_gamma_asks_for_focal_loss(task):
    loss_fn = create_loss(TrainConfig(focal_gamma=2.0, class_weights=(1.0, 3.0)), [], task)
    assert isinstance(loss_fn, FocalLoss)
    assert loss_fn.gamma == 2
    assert loss_fn.class_weights.tolist() == [1, 3]


@pytest.mark.parametrize("task", [SINGLE, MULTI, REGRESSION])
def test_without_a_setting_the_models_own_loss_is_used(task):
    assert create_loss(TrainConfig(), [0, 1], task) is None


@pytest.mark.parametrize(
    ("settings", "task"),
    [
        ({"focal_gamma": 2.0}, REGRESSION),
        ({"class_weights": (1.0, 1.0)}, REGRESSION),
        ({"label_smoothing_factor": 0.1}, REGRESSION),
        ({"label_smoothing_factor": 0.1}, MULTI),
        ({"label_smoothing_factor": 0.1, "focal_gamma": 2.0}, SINGLE),
    ],
)
def test_what_has_no_meaning_is_refused(settings, task):
    with pytest.raises(ValueError, match=r"not for regression|not with focal"):
        create_loss(TrainConfig(**settings), [0, 1], task)
