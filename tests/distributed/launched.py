"""Train a tiny model on as many processes as the launcher started: what test_numbers.py launches.

    torchrun --nproc-per-node 2 launched.py SETTINGS.json

Every step is logged. With `sizes` in the settings, loaders of so many rows are evaluated instead; with
`lengths`, rows of so many tokens are ordered.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from plainloop import TaskMetric, TrainConfig, create_accelerator, evaluate, fine_tune
from plainloop.data.batches.loaders import LengthGroupedOrder
from plainloop.training import evaluation


class Linear(nn.Module):
    """Logits x and -x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -1.0]]))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        logits = x[:, None] * self.weight
        loss = nn.functional.cross_entropy(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss)


def score_rows(settings: dict[str, Any]) -> nn.Module:
    """Evaluate the model on as many rows as each of `sizes` says, and write all scores.

    The model, to be kept until the process ends: with it goes the process group, which joins gloo's
    threads while this one holds the interpreter's lock, and one of them may just need that.
    """
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    model = accelerator.prepare(Linear())
    if settings.get("mutant"):
        evaluation.drop_duplicate_rows = lambda batch, _loader, _number: (
            batch,
            len(batch["labels"]),
        )
    scores = []
    for size in settings["sizes"]:
        generator = torch.Generator().manual_seed(size)
        x = torch.randn(size, generator=generator)
        labels = torch.randint(2, (size,), generator=generator)
        rows = [{"x": x[n], "labels": labels[n], "idx": torch.tensor(n)} for n in range(size)]
        loader = accelerator.prepare(DataLoader(rows, batch_size=settings["batch_size"]))
        metric = TaskMetric(("accuracy", "f1"))
        scores.append(evaluate(model, loader, metric, accelerator=accelerator))
    if accelerator.is_main_process:
        Path(settings["result"]).write_text(json.dumps(scores), encoding="utf-8")
    accelerator.end_training()
    return model


def order_rows(settings: dict[str, Any]) -> Any:
    """Write the order of an epoch on each rank, whose generators differ as after dropout."""
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    torch.manual_seed(accelerator.process_index)
    order = list(LengthGroupedOrder(4, lengths=settings["lengths"]))
    path = Path(f"{settings['result']}-{accelerator.process_index}")
    path.write_text(json.dumps(order), encoding="utf-8")
    accelerator.end_training()
    return accelerator


if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "sizes" in settings:
        model = score_rows(settings)
    elif "lengths" in settings:
        accelerator = order_rows(settings)
    else:
        paths = {name: Path(settings[name]) for name in ("data_dir", "output_dir")}
        fine_tune(TrainConfig(**{**settings, **paths}))
