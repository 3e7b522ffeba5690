"""Progress bar, step records (loss, gradient norm, learning rate, samples/s) and their logging."""

import math
import time
from typing import Any, Self

import torch
from accelerate import Accelerator

from plainloop import console
from plainloop.run.resume import OpenRun
from plainloop.run.state import TrainState
from plainloop.training.trackers import track


class Progress:
    """Running mean of the loss and the speed between logged steps, with a progress bar.

    The loss is summed on the device, in float32 as `transformers.Trainer` does, and read only when a
    step is logged, since reading it waits for the device.

    Args:
        num_training_steps: length of the bar, in optimizer steps.
        state: of the run, which may be a resumed one; updated when a step is logged.
        accelerator: its main process prints; its trackers get the numbers under train/ and eval/.
        run: each record is appended to the history in its folder.
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
        self._accelerator = accelerator
        self._state = state
        self._loss_sum = torch.tensor(state.loss_since_log, device=accelerator.device)
        self._started = time.perf_counter()
        # Rows that an interrupted run trained before the checkpoint: not within this process's time.
        self._rows_before = state.rows_since_log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self, loss: torch.Tensor, rows: int) -> None:
        """Count an optimizer step: its mean loss and its rows, both over all processes."""
        self._loss_sum += loss
        self._state.rows_since_log += rows
        self._bar.update()

    def mean_loss(self) -> float:
        """Mean loss of the steps since the last logged one; waits for the device."""
        return self._loss_sum.item() / (self._state.step - self._state.logged_step)

    def settle(self) -> None:
        """Copy the running loss sum into the state, for a checkpoint; waits for the device."""
        self._state.loss_since_log = self._loss_sum.item()

    def log(self, grad_norm: torch.Tensor, learning_rate: float) -> None:
        """Append a record of the steps since the last one to `TrainState.history` and log it."""
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
        track(self._accelerator, tracker_values("train", record), state.step)
        self._bar.set_postfix_str(
            f"loss {record['loss']:.4f}, lr {record['learning_rate']:.2e}, "
            f"{record['samples_per_second']:.0f} samples/s"
        )

    def show_evaluation(self, record: dict[str, Any], seconds: float, best_metric: str) -> None:
        """Print an evaluation above the bar: the loss, the first metric and the one that chooses the best.

        Args:
            record: step, epoch, loss and metrics.
            seconds: that it took, which do not count as training.
            best_metric: a metric of the record, or "loss".
        """
        if self._visible:
            place = f"  epoch {record['epoch']:.2f}, step {record['step']}"
            _step, _epoch, loss, *metrics = record
            names = (loss, *metrics[:1], best_metric)
            shown = {name: record[name] for name in names if name in record}
            console.emit("evaluation", record, f"{place}: validation {describe_scores(shown)}")
        track(self._accelerator, tracker_values("eval", record), record["step"])
        self._started += seconds


def tracker_values(kind: str, record: dict[str, Any]) -> dict[str, float]:
    """Prefix the names of a record as trackers group them (train/loss); drop undefined values."""
    return {
        f"{kind}/{name}": value
        for name, value in record.items()
        if name != "step" and value is not None
    }


def describe_scores(scores: dict[str, Any]) -> str:
    """Format loss and metrics in one line, without per-label metrics such as f1/positive."""
    return ", ".join(
        f"{name} {value:.4f}"
        for name, value in scores.items()
        if name not in {"step", "epoch"} and "/" not in name
    )
