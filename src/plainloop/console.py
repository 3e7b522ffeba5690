"""What a command prints: short lines for a person, or one JSON object a line for a program."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from plainloop.errors import printable

LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Output:
    """How a process prints.

    Attributes:
        quiet: plain lines only: no bar, no table, no curve.
        json_stream: where JSON lines go; None: text, to stdout.
    """

    quiet: bool = False
    json_stream: TextIO | None = None


DEFAULT = Output()
# Of the process, as its stdout is: what prints stands deep in the training.
_output: ContextVar[Output] = ContextVar("output", default=DEFAULT)


@contextmanager
def printing(log_format: LogFormat, *, quiet: bool) -> Iterator[None]:
    """Print in this way within the block.

    With json, what libraries print to stdout goes to stderr, so that each line of stdout is an
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
    """Print what a step of the run has to say: a line of text, or {"event": "message", ...}."""
    emit("message", {"title": title, "text": text}, f"{title:<14} {text}")


def emit(event: str, record: Mapping[str, Any], line: str | None = None) -> None:
    """Print a record: as JSON with its kind as "event", as text in the words of `line` or not at all.

    Args:
        event: message, step, evaluation, scores or summary.
        record: plain values; no number in it is infinite or not a number.
        line: what a person reads; its control characters are escaped.
    """
    stream = _output.get().json_stream
    if stream is not None:
        print(json.dumps({"event": event, **record}, allow_nan=False), file=stream, flush=True)
    elif line is not None:
        from tqdm.auto import tqdm  # here, since --help imports this module

        tqdm.write(printable(line, most=len(line)))  # above the bar, where there is one


def progress_bar(
    rows: Iterable[Any] | None = None, *, visible: bool = True, **settings: Any
) -> Any:
    """A tqdm bar over an iterable or of a total, drawn where bars are.

    Args:
        rows: what to go over, if anything.
        visible: of a bar that one process of several draws: whether this is the one.
        settings: of tqdm.
    """
    from tqdm.auto import tqdm

    return tqdm(rows, disable=not (visible and shows_bars()), **settings)


def shows_bars() -> bool:
    """Whether bars are drawn: on a terminal or in a notebook, unless quiet; never into a file."""
    return _may_draw() and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def draws_on_terminal() -> bool:
    """Whether a table and a curve are drawn: on a terminal, unless quiet."""
    return _may_draw() and sys.stdout.isatty()


def _may_draw() -> bool:
    output = _output.get()
    return not output.quiet and output.json_stream is None
