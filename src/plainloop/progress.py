"""What is seen and logged of the steps: the bar, the mean loss, the gradient, the speed."""

import time
from types import TracebackType
from typing import Any, Self

import torch
from tqdm.auto import tqdm

from plainloop.run_folder import RunFolder
from plainloop.state import TrainState


class Progress:
    """Adds up loss and rows from one logged step to the next, and shows them beside a bar.

    The loss stays on the device and is read only when a step is logged: reading it waits for the
    device. It is summed in float32, as `transformers.Trainer` sums it.

    Args:
        num_training_steps: the length of the bar, in optimizer steps.
        device: where the losses are.
        visible: whether to show the bar.
        run: where the records go as they are made.
    """

    def __init__(
        self, num_training_steps: int, device: torch.device, *, visible: bool, run: RunFolder | None
    ) -> None:
        self._bar = tqdm(
            total=num_training_steps, desc="Training", unit="step", disable=not visible
        )
        self._run = run
        self._loss_sum = torch.zeros((), device=device)
        self._restart(step=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def add(self, loss: torch.Tensor, rows: int) -> None:
        """Take in a batch: its share of its step's loss, and its rows over all processes."""
        self._loss_sum += loss.detach()
        self._rows += rows

    def step(self) -> None:
        """Move the bar by one optimizer step."""
        self._bar.update()

    def log(self, state: TrainState, grad_norm: torch.Tensor, learning_rate: float) -> None:
        """Make the record of the steps since the last one, as `TrainState.history` holds it."""
        record = {
            "step": state.step,
            "epoch": state.epoch,
            "loss": self._loss_sum.item() / (state.step - self._logged_step),
            "grad_norm": float(grad_norm),
            "learning_rate": float(learning_rate),
            "samples_per_second": self._rows / (time.perf_counter() - self._started),
        }
        self._restart(state.step)
        state.history.append(record)
        if self._run:
            self._run.log_step(record)
        self._bar.set_postfix_str(
            f"loss {record['loss']:.4f}, lr {record['learning_rate']:.2e}, "
            f"{record['samples_per_second']:.0f} samples/s"
        )

    def show_evaluation(self, record: dict[str, Any], seconds: float) -> None:
        """Print an evaluation above the bar; its time does not count as training."""
        self._bar.write(
            f"  epoch {record['epoch']:.2f}, step {record['step']}: {describe_scores(record)}"
        )
        self._started += seconds

    def _restart(self, step: int) -> None:
        self._loss_sum.zero_()
        self._logged_step, self._rows, self._started = step, 0, time.perf_counter()


def describe_scores(scores: dict[str, Any]) -> str:
    """Loss and metrics in one line."""
    return ", ".join(
        f"{name} {value:.4f}" for name, value in scores.items() if name not in {"step", "epoch"}
    )
