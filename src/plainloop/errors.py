"""Expected errors with their exit codes, and text that is safe to print.

Any other exception is a bug in plainloop and keeps its traceback.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls (C0, C1), line breaks, bidirectional embeddings, overrides and isolates, lone surrogates.

The joiners and marks that scripts and emoji are written with (ZWJ, ZWNJ, LRM, RLM) are not in it."""

OUT_OF_MEMORY = re.compile(
    "out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|"
    "can't start new thread|failed to map segment"
)


class PlainloopError(Exception):
    """An expected error, printed as one line: what is wrong, where, and how to fix it.

    Attributes:
        exit_code: what the process returns when the error ends it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix
        self.combined: Sequence[PlainloopError] = ()

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text

    def problems(self) -> "list[PlainloopError]":
        """The errors that `together` has combined in this one, or this one itself."""
        return [each for error in self.combined for each in error.problems()] or [self]

    def lines(self) -> list[str]:
        """The lines to print, one for each problem: a line break in a text starts no new one."""
        return [printable(problem, most=None) for problem in self.problems() if str(problem)]


class UserError(PlainloopError):
    """Invalid user input: flags, settings, data or a model. Independent problems are combined."""

    exit_code = 2

    @classmethod
    def together(cls, problems: Sequence["UserError"]) -> "UserError":
        """Combine errors into one that prints a line for each."""
        if len(problems) == 1:
            return problems[0]
        error = cls("\n".join(map(str, problems)))
        error.combined = problems
        return error

    def within(self, file: Path) -> "UserError":
        """The same problems, each with the file that it is in before its own place."""
        name = printable_path(file)
        return self.together(
            [
                UserError(each.what, where=f"{name}: {each.where}", fix=each.fix)
                for each in self.problems()
            ]
        )


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
    """SIGINT, SIGTERM or SIGHUP ended the run; the exit code is 128 + the signal's number, as in a shell."""

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


def printable(text: object, *, most: int | None = 100) -> str:
    """Make text safe to print in a line: escape `UNSAFE`, truncate to `most` characters."""
    text = str(text)
    shown = text if most is None or len(text) <= most else text[:most] + "..."
    return UNSAFE.sub(lambda found: repr(found[0])[1:-1], shown)


def printable_path(path: Path) -> str:
    """Make a path safe to print: escape control characters, never truncate."""
    return printable(path, most=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is an out-of-memory error, on a GPU or the CPU."""
    # torch.OutOfMemoryError is a RuntimeError, and so is what the CPU allocator raises; a library
    # that does not fit is an ImportError.
    return isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, ImportError))
        and OUT_OF_MEMORY.search(str(error).lower()) is not None
    )
