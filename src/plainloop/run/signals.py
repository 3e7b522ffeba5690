"""SIGINT, SIGTERM and SIGHUP: finish the current step, save a checkpoint, and stop."""

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from plainloop.config.settings import TrainConfig
from plainloop.errors import PlainloopError, StoppedError, printable_path

if TYPE_CHECKING:
    from accelerate import Accelerator

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class StopRequest:
    """Signal handler, as a context manager.

    Before the training there is nothing to save: a signal raises StoppedError at once. If `deferred`
    is set, the first signal is stored, and the loop asks for it after each step, an evaluation after
    each batch; a second signal ends the process at once. After the training the model is saved, and a
    signal raises at once again: scores and pages can be made later.

    Attributes:
        deferred: whether to store a signal instead of raising.
        signal_number: the stored signal.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.signal_number: int | None = None
        self._saved, self._fix = "outside the training", ""
        self._before: dict[int, Any] = {}
        self._raised: StoppedError | None = None

    def __enter__(self) -> Self:
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # nohup has it ignored, so that the process outlives its terminal.
                if number and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._raised and isinstance(error, Exception) and not isinstance(error, PlainloopError):
            # An interrupted import has replaced the StoppedError by an ImportError.
            raise self._raised from None

    def signal_on_any_rank(self, accelerator: "Accelerator") -> int | None:
        """The signal that any rank has received: all ranks then stop after the same step."""
        if accelerator.num_processes == 1:
            return self.signal_number
        import torch  # slow to import, and the handler is set before anything else

        number = torch.tensor(self.signal_number or 0, device=accelerator.device)
        return int(accelerator.gather(number.reshape(1)).max()) or None

    def end_training(self, accelerator: "Accelerator", config: TrainConfig) -> None:
        """Raise at once on a signal from now on, and on one that came since the last step.

        Args:
            accelerator: all ranks call it.
            config: of the run, whose model is saved.

        Raises:
            StoppedError: any process had a signal.
        """
        folder = printable_path(config.run_path)
        again = f"for its scores and pages: plainloop train --config {folder}/run.yaml --resume"
        if config.save_strategy == "no":  # there is nothing to resume from
            again = f"for its scores: plainloop evaluate {folder}"
        self._saved, self._fix = f"after the training; the model is saved in {folder}", again
        self.deferred = False
        number = self.signal_on_any_rank(accelerator)
        if number:
            raise self._stopped(number)

    def _stopped(self, number: int) -> StoppedError:
        name = signal.Signals(number).name
        return StoppedError(number, f"stopped by {name} {self._saved}", fix=self._fix)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.signal_number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal_number = number  # if a library swallows the error, the loop still stops
        if not self.deferred:
            self._raised = self._stopped(number)
            raise self._raised
        with suppress(OSError):  # not print: the signal may have come within a print
            os.write(2, f"{name}: stopping after this step; once more to stop at once\n".encode())
