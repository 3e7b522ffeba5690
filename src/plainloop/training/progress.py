"""What is seen and logged of the steps: the bar, the mean loss, the gradient, the speed."""

import math
import time
from types import TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator

from plainloop import console
from plainloop.run.resume import OpenRun
from plainloop.run.state import TrainState


class Progress:
    """Adds up loss and rows from one logged step to the next, and shows them beside a bar.

    The loss stays on the device and is read only when a step is logged: reading it waits for the
    device. It is summed in float32, as `transformers.Trainer` sums it.

    Args:
        num_training_steps: the length of the bar.
        state: where the run is; a resumed one is not at the start.
        accelerator: its main process prints; its trackers get the numbers under train/ and eval/.
        run: whose folder gets the records as they are made.
    """

    def __init__(
        self,
        num_training_steps: int,
        state: TrainState,
        *,
        accelerator: Accelerator,
        run: OpenRun | None,
    ) -> None:
        self._visible = accelerator.is_main_process
        self._bar = console.progress_bar(
            total=num_training_steps,
            initial=state.step,
            desc="Training",
            unit="step",
            visible=self._visible,
        )
        self._folder = run.folder if run else None
        self._track = accelerator.log
        self._state = state
        self._loss_sum = torch.tensor(state.loss_since_log, device=accelerator.device)
        self._started = time.perf_counter()
        self._rows_before = state.rows_since_log  # of a run that was stopped, so not of this time

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def step(self, loss: torch.Tensor, rows: int) -> None:
        """Take in an optimizer step: its mean loss and its rows, both over all processes."""
        self._loss_sum += loss
        self._state.rows_since_log += rows
        self._bar.update()

    def mean_loss(self) -> float:
        """The mean loss of the steps since the last logged one; waits for the device."""
        return self._loss_sum.item() / (self._state.step - self._state.logged_step)

    def settle(self) -> None:
        """Read the sum of the losses into the state, for a checkpoint."""
        self._state.loss_since_log = self._loss_sum.item()

    def log(self, grad_norm: torch.Tensor, learning_rate: float) -> None:
        """Make the record of the steps since the last one, as `TrainState.history` holds it."""
        state = self._state
        norm = float(grad_norm)
        rows = state.rows_since_log - self._rows_before
        record = {
            "step": state.step,
            "epoch": state.epoch,
            "loss": self.mean_loss(),
            "grad_norm": norm if math.isfinite(norm) else None,
            "learning_rate": float(learning_rate),
            "samples_per_second": rows / (time.perf_counter() - self._started),
        }
        state.history.append(record)
        state.logged_step, state.rows_since_log, state.loss_since_log = state.step, 0, 0.0
        self._loss_sum.zero_()
        self._rows_before, self._started = 0, time.perf_counter()
        if self._folder:
            self._folder.log_step(record)
        if self._visible:
            console.emit("step", record)
        self._track(tracked("train", record), step=state.step)
        self._bar.set_postfix_str(
            f"loss {record['loss']:.4f}, lr {record['learning_rate']:.2e}, "
            f"{record['samples_per_second']:.0f} samples/s"
        )

    def show_evaluation(self, record: dict[str, Any], seconds: float) -> None:
        """Print an evaluation above the bar; its time does not count as training."""
        if self._visible:
            place = f"  epoch {record['epoch']:.2f}, step {record['step']}"
            console.emit("evaluation", record, f"{place}: {describe_scores(record)}")
        self._track(tracked("eval", record), step=record["step"])
        self._started += seconds


def tracked(kind: str, record: dict[str, Any]) -> dict[str, float]:
    """A record as trackers take it: train/loss, eval/accuracy; without what is not defined."""
    return {
        f"{kind}/{name}": value
        for name, value in record.items()
        if name != "step" and value is not None
    }


def describe_scores(scores: dict[str, Any]) -> str:
    """Loss and metrics in one line, but for those of single labels, as in f1/positive."""
    return ", ".join(
        f"{name} {value:.4f}"
        for name, value in scores.items()
        if name not in {"step", "epoch"} and "/" not in name
    )
