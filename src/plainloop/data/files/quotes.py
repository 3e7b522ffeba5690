"""Quotes in text files: fields that begin with one, and the one at which a strict reader stops."""

import csv
import re
from itertools import islice
from pathlib import Path

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.text import LINE_BREAK, read_lines
from plainloop.errors import UserError, printable_path

LONGEST_FIELD = 2**24  # characters: more is a quote that was left open
QUOTE_AT_START, QUOTED_FIELD = re.compile(r'(^|\t)"'), re.compile(r'(^|\t)"[^\t]*"(\t|\r?\n?$)')


class QuoteError(UserError):
    """A quote that is not closed, or is closed before its field ends."""


def has_quotes(path: Path, options: ReadOptions, *, around: bool = False) -> bool:
    """Whether a field begins with a quote; `around`: and ends with one."""
    pattern = QUOTED_FIELD if around else QUOTE_AT_START
    return any(pattern.search(line) for line in read_lines(path, options.encoding))


def quote_error(path: Path, delimiter: str, encoding: str | None) -> QuoteError:
    """Say where the quote opens that stopped the strict reader."""
    reader = csv.reader(read_lines(path, encoding), delimiter=delimiter, strict=True)
    before, reason = 0, ""  # the last line of the last good row
    try:
        for _ in reader:
            before = reader.line_num
    except csv.Error as error:
        reason = str(error)
    line = reader.line_num
    if reason.endswith("expected after '\"'"):
        since = f" (its row begins on line {before + 1})" if line > before + 1 else ""
        what = f"line {line}: text follows the closing quote of a field{since}"
    else:
        too_long = "limit" in reason
        # A lenient reader closes the open field where the lines end, so it is the last one.
        lines = islice(read_lines(path, encoding), before, line - too_long)
        *earlier, _ = next(csv.reader(lines, delimiter=delimiter), [""])
        opened = before + 1 + sum(len(LINE_BREAK.findall(field)) for field in earlier)
        what = f"quote opened on line {opened} never closes"
        if too_long:
            size = f"{LONGEST_FIELD // 2**20} MB"
            what = f"field that begins on line {opened} is longer than {size}: an unclosed quote?"
    return QuoteError(
        what,
        where=printable_path(path),
        fix="a quote inside a quoted field is doubled, not escaped by a backslash"
        if any('\\"' in text for text in read_lines(path, encoding))
        else "a quote inside a quoted field is doubled, and one at its end closes it",
    )
