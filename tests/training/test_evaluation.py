"""evaluate(): every row once, the loss a mean over rows."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from plainloop.config.settings import TrainConfig
from plainloop.metrics.task_metric import TaskMetric
from plainloop.run.accelerator import create_accelerator
from plainloop.training.evaluation import evaluate, gather_rows


class Fixed(torch.nn.Module):
    """Predicts the sign of x; in training mode it would predict the opposite."""

    def forward(self, x, labels):
        logits = torch.stack([-x, x], dim=-1) * (-1 if self.training else 1)
        return SimpleNamespace(
            logits=logits, loss=torch.nn.functional.cross_entropy(logits, labels)
        )


@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 16])
def test_scores_and_loss_do_not_depend_on_the_batch_size(num_rows):
    torch.manual_seed(0)
    x = torch.randn(num_rows)
    labels = (torch.rand(num_rows) > 0.5).long()
    rows = [{"x": x[i], "labels": labels[i]} for i in range(num_rows)]
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    model = Fixed().train()
    results = []
    for batch_size in (1, 3, 8, num_rows):
        loader = accelerator.prepare(DataLoader(rows, batch_size=batch_size))
        metric = TaskMetric(["accuracy"])
        results.append(evaluate(model, loader, metric, accelerator=accelerator))
    logits = torch.stack([-x, x], dim=-1)
    expected = float(torch.nn.functional.cross_entropy(logits, labels))
    accuracy = float(((x > 0).long() == labels).float().mean())
    for result in results:
        assert result["loss"] == pytest.approx(expected, rel=1e-6)
        assert result["accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_any_metric_with_add_batch_and_compute_will_do():
    class Count:
        rows = 0

        def add_batch(self, *, predictions, references):
            self.rows += len(references)

        def compute(self):
            return {"rows": float(self.rows)}

    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    rows = [{"x": torch.tensor(1.0), "labels": torch.tensor(1)} for _ in range(11)]
    loader = accelerator.prepare(DataLoader(rows, batch_size=4))
    assert evaluate(Fixed(), loader, Count(), accelerator=accelerator)["rows"] == 11


class Constant(torch.nn.Module):
    """Gives the same logits to every row, whatever the label."""

    config = SimpleNamespace(problem_type="multi_label_classification")

    def forward(self, x, labels):
        logits = torch.tensor([0.2, -1.0, 3.0]).repeat(len(x), 1)
        return SimpleNamespace(logits=logits, loss=torch.tensor(0.5))


class Keep:
    """A metric that keeps what it was given."""

    def __init__(self):
        self.given = []

    def add_batch(self, **given):
        self.given.append(given)

    def compute(self):
        return {}


def rows_of(count):
    labels = torch.tensor([1.0, 0.0, 1.0])
    return [
        {"x": torch.tensor(1.0), "labels": labels, "idx": torch.tensor(i)} for i in range(count)
    ]


def test_the_models_problem_type_decides_what_its_logits_predict():
    accelerator, metric = create_accelerator(TrainConfig(use_cpu=True)), Keep()
    loader = accelerator.prepare(DataLoader(rows_of(2), batch_size=2))
    evaluate(Constant(), loader, metric, accelerator=accelerator)
    assert metric.given[0]["predictions"].tolist() == [[1, 0, 1], [1, 0, 1]]


def test_the_rows_are_collected_with_their_numbers_logits_and_labels():
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    loader = accelerator.prepare(DataLoader(rows_of(3), batch_size=2))
    collected = []
    collector = SimpleNamespace(add=lambda *batch: collected.append(batch))
    evaluate(Constant(), loader, Keep(), accelerator=accelerator, rows=collector)
    assert [numbers.tolist() for numbers, _, _ in collected] == [[0, 1], [2]]
    assert [logits.shape for _, logits, _ in collected] == [(2, 3), (1, 3)]
    assert [labels.tolist() for _, _, labels in collected] == [[[1, 0, 1]] * 2, [[1, 0, 1]]]


def test_the_bar_says_what_is_evaluated_on_the_main_process(monkeypatch):
    shown = []

    def bar(loader, **options):
        shown.append(options)
        return loader

    monkeypatch.setattr("plainloop.training.evaluation.progress_bar", bar)
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    loader = accelerator.prepare(DataLoader(rows_of(2), batch_size=2))
    evaluate(Constant(), loader, Keep(), accelerator=accelerator)
    evaluate(Constant(), loader, Keep(), accelerator=accelerator, description="Test")
    assert [options["desc"] for options in shown] == ["Evaluating", "Test"]
    assert all(options["visible"] and not options["leave"] for options in shown)


def test_of_several_processes_duplicates_and_padding_are_dropped():
    """This process has three rows, one of them a duplicate; the other has one."""
    other = (torch.tensor([[9.0], [-1.0], [-1.0]]), torch.tensor([7, -1, -1]))
    accelerator = SimpleNamespace(
        num_processes=2,
        pad_across_processes=lambda tensors, pad_index: tensors,
        gather=lambda tensors: [torch.cat(pair) for pair in zip(tensors, other, strict=True)],
    )
    logits, numbers = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([4, 5, 6])
    (gathered,), found = gather_rows((logits,), numbers, 2, accelerator)
    assert found == [4, 5, 7]
    assert gathered.tolist() == [[1.0], [2.0], [9.0]]
