"""Console output: lines of text for people, JSON lines for programs, progress bars."""

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from plainloop.errors import printable

LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Output:
    """The output mode of a process.

    Attributes:
        quiet: print plain lines only, without progress bars, tables and plots.
        json_stream: stream for JSON lines; None prints text to stdout.
    """

    quiet: bool = False
    json_stream: TextIO | None = None


DEFAULT = Output()
# Global, as stdout is: passing it to every function that prints would touch most of the code.
_output: ContextVar[Output] = ContextVar("output", default=DEFAULT)


@contextmanager
def printing(log_format: LogFormat, *, quiet: bool) -> Iterator[None]:
    """Set the output mode within the block.

    With json, what libraries print to stdout goes to stderr, so that each line of stdout is a JSON
    object.
    """
    as_json = log_format == "json"
    before = _output.set(Output(quiet, sys.stdout if as_json else None))
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            yield
    finally:
        _output.reset(before)


def say(title: str, text: str) -> None:
    """Print a message: as a line of text, or as {"event": "message", ...}."""
    emit("message", {"title": title, "text": text}, f"{title:<14} {text}")


def emit(event: str, record: Mapping[str, Any], line: str | None = None) -> None:
    """Print a record: as JSON with its kind as "event", or as the text of `line`.

    Args:
        event: message, step, evaluation, scores or summary.
        record: plain values; numbers must be finite.
        line: the text, which is made safe to print; None prints nothing as text.
    """
    stream = _output.get().json_stream
    if stream is not None:
        print(json.dumps({"event": event, **record}, allow_nan=False), file=stream, flush=True)
    elif line is not None:
        from tqdm.auto import tqdm  # here, since --help imports this module

        tqdm.write(_shown(line, sys.stdout))  # above the bar, if there is one


def print_line(line: str, stream: TextIO | None = None) -> None:
    """Print a line of a command's answer to stdout or another stream, made safe to print."""
    stream = stream or sys.stdout
    print(_shown(line, stream), file=stream)


def _shown(line: str, stream: TextIO) -> str:
    """Escape what `printable` escapes, and what the stream's encoding does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(line, most=None).encode(encoding, "backslashreplace").decode(encoding)


def open_standard_streams() -> None:
    """Give a process streams that it can write to, whatever it was started with.

    A closed one becomes the null device: else the next file that is opened would get its number, and
    with it what is printed. stdout escapes what its encoding does not have, as stderr does.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - stderr
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _Unstoppable(io.FileIO):
    """A stream whose process continues without it once it cannot be written."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:  # the reader has ended (head), the terminal was closed, the disk is full
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return super().write(data)


@contextmanager
def outliving_readers() -> Iterator[None]:
    """Within the block, output that can no longer be written is dropped, and nothing is raised."""
    if (sys.stdout, sys.stderr) != (sys.__stdout__, sys.__stderr__):  # a notebook's, or a test's
        yield
        return
    out, err = (
        io.TextIOWrapper(
            io.BufferedWriter(_Unstoppable(number, "w", closefd=False)),
            stream.encoding,
            "backslashreplace",
            # python -u leaves stdout without a line's buffer, and writes each piece through
            line_buffering=bool(stream.line_buffering or getattr(stream, "write_through", False)),
        )
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    )
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:  # a library may keep a stream until Python has ended, and it would not be flushed
            out.flush()
            err.flush()


def progress_bar(
    rows: Iterable[Any] | None = None, *, visible: bool = True, **settings: Any
) -> Any:
    """Create a tqdm progress bar, disabled if `shows_bars` is false.

    Args:
        rows: an iterable to wrap, if any.
        visible: false on processes other than the main one.
        settings: keyword arguments of tqdm.
    """
    from tqdm.auto import tqdm

    return tqdm(rows, disable=not (visible and shows_bars()), **settings)


def shows_bars() -> bool:
    """Whether progress bars are shown: on a terminal or in a notebook, unless quiet."""
    return _may_draw() and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def draws_on_terminal() -> bool:
    """Whether tables and plots are printed: on a terminal, unless quiet."""
    return _may_draw() and sys.stdout.isatty()


def _may_draw() -> bool:
    output = _output.get()
    return not output.quiet and output.json_stream is None
