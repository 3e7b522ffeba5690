"""What is logged of the steps: their mean loss, the gradient, the learning rate, the speed."""

import time
from typing import Any

import torch

from plainloop.state import TrainState


class StepMeter:
    """Adds up loss and rows from one logged step to the next.

    The loss stays on the device and is read only when a step is logged: reading it waits for the
    device. It is summed in float32, as `transformers.Trainer` sums it.
    """

    def __init__(self, device: torch.device) -> None:
        self._loss_sum = torch.zeros((), device=device)
        self._restart(step=0)

    def add(self, loss: torch.Tensor, rows: int) -> None:
        """Take in a batch: its share of its step's loss, and its rows over all processes."""
        self._loss_sum += loss.detach()
        self._rows += rows

    def pause(self, seconds: float) -> None:
        """Leave time that was not spent on training out of the speed."""
        self._started += seconds

    def read(
        self, state: TrainState, grad_norm: torch.Tensor, learning_rate: float
    ) -> dict[str, Any]:
        """The record of the steps since the last one, as `TrainState.history` holds it."""
        record = {
            "step": state.step,
            "epoch": state.epoch,
            "loss": self._loss_sum.item() / (state.step - self._step),
            "grad_norm": float(grad_norm),
            "learning_rate": float(learning_rate),
            "samples_per_second": self._rows / (time.perf_counter() - self._started),
        }
        self._restart(step=state.step)
        return record

    def _restart(self, step: int) -> None:
        self._loss_sum.zero_()
        self._step, self._rows, self._started = step, 0, time.perf_counter()
