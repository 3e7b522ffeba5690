"""SIGINT and SIGTERM: finish the step in hand, save, and stop."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from plainloop.errors import PlainloopError, StoppedError

if TYPE_CHECKING:
    from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Takes in the signals while it is entered.

    Before the training there is nothing to save: a signal raises StoppedError at once. While
    `deferred` is set the first one is only noted, for the loop to ask at the end of its step; a
    second one ends the process at once.

    Attributes:
        deferred: whether to note a signal instead of stopping at once.
        signal_number: the signal that was noted.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}
        self._raised: StoppedError | None = None

    def __enter__(self) -> Self:
        # Python lets only the main thread take signals.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
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
            # An import that was interrupted has made another error of it.
            raise self._raised from None

    def agreed(self, accelerator: "Accelerator") -> int | None:
        """The signal that any process has had: all of them stop after the same step."""
        if accelerator.num_processes == 1:
            return self.signal_number
        import torch  # slow to import, and signals are taken in from the very start

        number = torch.tensor(self.signal_number or 0, device=accelerator.device)
        return int(accelerator.gather(number.reshape(1)).max()) or None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.signal_number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal_number = number  # even if the error is swallowed: the loop stops then
        if not self.deferred:
            self._raised = StoppedError(number, f"stopped by {name} outside the training")
            raise self._raised
        print(f"{name}: stopping after this step; once more to stop at once", file=sys.stderr)
