"""evaluate(): every row once, the loss a mean over rows."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from plainloop.config.settings import TrainConfig
from plainloop.metrics.task_metric import TaskMetric
from plainloop.run.accelerator import create_accelerator
from plainloop.training.evaluation import evaluate


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
