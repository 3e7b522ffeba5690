"""Expected errors with their exit codes, and text that is safe to print.

Any other exception is a bug in plainloop and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class PlainloopError(Exception):
    """An expected error, printed as one line: what is wrong, where, and how to fix it.

    Attributes:
        exit_code: what the process returns when the error ends it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text


class UserError(PlainloopError):
    """Invalid user input: flags, settings, data or a model. Independent problems are combined."""

    exit_code = 2

    @classmethod
    def together(cls, problems: Sequence["UserError"]) -> "UserError":
        """Combine errors into one that prints a line for each."""
        return problems[0] if len(problems) == 1 else cls("\n".join(map(str, problems)))


class CheckpointError(PlainloopError):
    """A checkpoint or a finished run is corrupted, or a checkpoint is missing or of another run."""

    exit_code = 3


class MachineError(PlainloopError):
    """Out of memory, a full or read-only disk, or a lost process."""

    exit_code = 4


class DivergedError(PlainloopError):
    """The loss is NaN or infinite."""

    exit_code = 5


class StoppedError(PlainloopError):
    """SIGINT or SIGTERM ended the run; the exit code is 128 + the signal's number, as in a shell."""

    def __init__(self, signal_number: int, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known names closest to a misspelled one, or list the first 12 of them."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known[:12])}" if known else ""


def printable(text: object, *, most: int = 100) -> str:
    """Make text safe to print: escape control characters, truncate to `most` characters."""
    text = str(text)
    shown = text if len(text) <= most else text[:most] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)


def printable_path(path: Path) -> str:
    """Make a path safe to print: escape control characters, never truncate."""
    return printable(path, most=len(str(path)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is an out-of-memory error, on a GPU or the CPU."""
    # torch.OutOfMemoryError is a RuntimeError, and so is what the CPU allocator raises.
    words = ("out of memory", "can't allocate memory", "not enough memory")
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in said for word in words)
    )
