"""Mistakes in what is given to train() that raise nothing are found at the first step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

import plainloop as pl
from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError


class Classifier(nn.Module):
    """A body and a head; `problem_type` stands where transformers' models have it."""

    def __init__(self):
        super().__init__()
        self.body, self.dropout, self.head = nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)
        self.config = SimpleNamespace(problem_type="single_label_classification")

    def forward(self, x, labels):
        logits = self.head(self.dropout(self.features(x)))
        return SimpleNamespace(logits=logits, loss=self.loss(logits, labels))

    def features(self, x):
        return torch.tanh(self.body(x))

    def loss(self, logits, labels):
        return functional.cross_entropy(logits, labels)


class Detached(Classifier):
    def features(self, x):
        return super().features(x).detach()


class Summed(Classifier):
    def loss(self, logits, labels):
        return functional.cross_entropy(logits, labels, reduction="sum")


class OtherLabels(Classifier):
    def loss(self, logits, labels):
        return functional.cross_entropy(logits, 1 - labels)


class AlwaysTraining(Classifier):
    def eval(self):
        return self


class RootOfZero(Classifier):
    def loss(self, logits, labels):
        return super().loss(logits, labels) + (logits - logits.detach()).abs().sqrt().sum()


class MovesFrozen(Classifier):
    def __init__(self):
        super().__init__()
        self.body.requires_grad_(False)

    def features(self, x):
        if self.training:
            self.body.weight.data += 0.01
        return super().features(x)


class DecaysFrozen(Classifier):
    """All weights of a frozen normalization, an even number, change by the same amount."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8).requires_grad_(False)

    def features(self, x):
        if self.training:
            self.norm.weight.data *= 0.99
        return self.norm(super().features(x))


def run(model, *, optimized=None, loss_fn=None, twice=False, early=False, steps=2, lr=0.05):
    """Train for two steps with an evaluation at the end."""
    torch.manual_seed(0)
    rows = [{"x": x, "labels": (x[0] > 0).long()} for x in torch.randn(16, 3)]
    accelerator = pl.create_accelerator(TrainConfig(use_cpu=True))
    groups = [{"params": list((optimized or model).parameters())}]
    groups = [{"params": [p for p in groups[0]["params"] if p.requires_grad]}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    if twice:  # torch refuses it only when the optimizer is made
        optimizer.param_groups.append({**optimizer.param_groups[0]})
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    if early:
        optimizer.step()
        schedule.step()
    loader = torch.utils.data.DataLoader(rows, batch_size=8)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    return pl.train(
        model, optimizer, schedule, loader,
        config=TrainConfig(num_train_epochs=1), accelerator=accelerator, num_training_steps=steps,
        loss_fn=loss_fn, eval_dataloader=loader, metric=pl.TaskMetric(["accuracy"]),
    )  # fmt: skip


def mean_loss(outputs, labels):
    return functional.cross_entropy(outputs.logits, labels)


def summed_loss(outputs, labels):
    return functional.cross_entropy(outputs.logits, labels, reduction="sum")


@pytest.mark.parametrize("loss_fn", [None, mean_loss], ids=["own loss", "loss_fn"])
def test_a_right_training_passes(loss_fn):
    assert run(Classifier(), loss_fn=loss_fn).step == 2


def test_a_frozen_body_and_a_tiny_learning_rate_pass():
    frozen = Classifier()
    frozen.body.requires_grad_(False)
    assert run(frozen).step == 2
    assert run(Classifier(), lr=1e-12).step == 2


FAULTS = {
    "optimizer of another model": (
        lambda: run(Classifier(), optimized=Classifier()), "the optimizer has no body.weight"),
    "optimizer without the head": (
        lambda: run(model := Classifier(), optimized=model.body), "has no head.weight, head.bias"),
    "a parameter twice": (lambda: run(Classifier(), twice=True), "two places of the optimizer"),
    "detached body": (
        lambda: run(Detached()), "no gradient reaches body.weight, body.bias"),
    "a frozen layer that moves": (
        lambda: run(MovesFrozen()), "body.weight changed without requiring a gradient"),
    "a frozen normalization that decays": (
        lambda: run(DecaysFrozen()), "norm.weight changed without requiring a gradient"),
    "the model sums its loss": (lambda: run(Summed()), "the model's loss is"),
    "the model's loss is of other labels": (lambda: run(OtherLabels()), "the model's loss is"),
    "loss_fn sums": (
        lambda: run(Classifier(), loss_fn=summed_loss), "as the mean of its halves"),
    "dropout in evaluation": (
        lambda: run(AlwaysTraining()), "the model, body, dropout, head in training mode"),
    "gradient not finite": (lambda: run(RootOfZero()), "is not finite"),
    "schedule stepped before": (
        lambda: run(Classifier(), early=True), "the schedule was stepped 1 times before"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name):
    train, words = FAULTS[name]
    with pytest.raises(UserError) as found:
        train()
    assert words in str(found.value)


def test_all_mistakes_of_a_step_are_named_at_once():
    with pytest.raises(UserError) as found:
        run(Summed(), optimized=Summed(), early=True)
    lines = str(found.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["optimizer step 1"] * 4


def loader(**settings):
    return torch.utils.data.DataLoader(list(range(10)), batch_size=4, **settings)


def test_exact_resume_is_promised_for_our_own_order_alone(capsys):
    from plainloop.data.batches.loaders import EpochRandomSampler
    from plainloop.training.checks import check_train_dataloader

    run = SimpleNamespace(folder="here")
    accelerator = pl.create_accelerator(TrainConfig(use_cpu=True))
    for ours in (loader(sampler=EpochRandomSampler(10, 1)),):
        check_train_dataloader(ours, run)
        check_train_dataloader(accelerator.prepare(ours), run)
    assert capsys.readouterr().out == ""
    for own in (loader(shuffle=True), loader()):
        check_train_dataloader(accelerator.prepare(own), None)
        assert capsys.readouterr().out == ""
        check_train_dataloader(accelerator.prepare(own), run)
        assert "exact resume is not promised" in capsys.readouterr().out


def test_a_loader_whose_batches_cannot_be_counted_is_refused():
    from plainloop.training.checks import check_train_dataloader

    iterable = torch.utils.data.DataLoader(iter([1]), batch_size=1)
    for wrong in (iterable, torch.utils.data.DataLoader([1], batch_sampler=[[0]])):
        with pytest.raises(ValueError, match="train_dataloader needs"):
            check_train_dataloader(wrong, None)
