"""SIGINT and SIGTERM: finish the current step, save a checkpoint, and stop."""

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
    """Signal handler, as a context manager.

    Before the training there is nothing to save: a signal raises StoppedError at once. If `deferred`
    is set, the first signal is stored, and the loop asks for it after each step, an evaluation after
    each batch; a second signal ends the process at once.

    Attributes:
        deferred: whether to store a signal instead of raising.
        signal_number: the stored signal.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}
        self._raised: StoppedError | None = None

    def __enter__(self) -> Self:
        # Python allows signal handlers in the main thread only.
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
            # An interrupted import has replaced the StoppedError by an ImportError.
            raise self._raised from None

    def signal_on_any_rank(self, accelerator: "Accelerator") -> int | None:
        """The signal that any rank has received: all ranks then stop after the same step."""
        if accelerator.num_processes == 1:
            return self.signal_number
        import torch  # slow to import, and the handler is set before anything else

        number = torch.tensor(self.signal_number or 0, device=accelerator.device)
        return int(accelerator.gather(number.reshape(1)).max()) or None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.signal_number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal_number = number  # if a library swallows the error, the loop still stops
        if not self.deferred:
            self._raised = StoppedError(number, f"stopped by {name} outside the training")
            raise self._raised
        print(f"{name}: stopping after this step; once more to stop at once", file=sys.stderr)
