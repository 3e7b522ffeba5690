"""Run plainloop on the tiny model and data, and read back what it wrote."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from plainloop.config.settings import TrainConfig
from plainloop.training.fine_tune import fine_tune


@dataclass
class TinyRun:
    folder: Path
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    weights: dict[str, torch.Tensor]

    def series(self, name: str) -> list[float]:
        return [record[name] for record in self.history]


RunTiny = Callable[..., TinyRun]


def run_tiny(folder: Path, **settings: Any) -> TinyRun:
    """Fine-tune with settings beside task and model; every step is logged."""
    settings = {"task": "demo", "logging_steps": 1, "output_dir": folder, **settings}
    metrics = fine_tune(TrainConfig(**settings))
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return TinyRun(
        folder,
        metrics,
        [json.loads(line) for line in lines],
        load_file(folder / "model.safetensors"),
    )


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
