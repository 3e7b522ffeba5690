"""The errors a person can do something about, and the exit code of each.

Everything else is a bug of ours and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class PlainloopError(Exception):
    """An expected failure: one line that says what, where, and how to fix it.

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
    """The user's input cannot be used. Several independent problems are reported together."""

    exit_code = 2

    @classmethod
    def together(cls, problems: Sequence["UserError"]) -> "UserError":
        """One error that reports every given one, a line each."""
        return problems[0] if len(problems) == 1 else cls("\n".join(map(str, problems)))


class CheckpointError(PlainloopError):
    """A checkpoint that is missing, damaged, or of another run."""

    exit_code = 3


class MachineError(PlainloopError):
    """The machine has too little of something: memory or disk."""

    exit_code = 4


class DivergedError(PlainloopError):
    """The loss is no longer a finite number."""

    exit_code = 5


class StoppedError(PlainloopError):
    """SIGINT or SIGTERM ended the run; the shell's code for it is 128 + the signal's number."""

    def __init__(self, signal_number: int, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known words closest to a misspelt one, or lists all of a few."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known[:12])}" if known else ""


def printable(text: object, *, most: int = 100) -> str:
    """Text of a file as a message shows it: control characters escaped, long text cut."""
    text = str(text)
    shown = text if len(text) <= most else text[:most] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)


def printable_path(path: Path) -> str:
    """A path as a message shows it: whole, control characters escaped."""
    return printable(path, most=len(str(path)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is of a GPU's, torch's CPU or Python's allocator."""
    # torch.OutOfMemoryError is a RuntimeError, and so is what the CPU allocator raises.
    words = ("out of memory", "can't allocate memory", "not enough memory")
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in said for word in words)
    )
