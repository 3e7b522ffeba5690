"""Find how a text file of rows is written: its separator, and whether the first row is a header.

The separator is the one by which the header and the first rows have the same number of fields; of
several, the one that gives the most columns, then the suffix's own. A first line such as `sep=;`, as
Excel reads it, decides. R's `write.table` gives every row a name, and the header none for them: rows
with one field more than the header, which count or number the rows, have such names.

The first row is data, and no header, if a column says so and no other speaks against it: a number
above numbers, a sentence above sentences, or a value that is one of the column's few values.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.text import read_lines
from plainloop.errors import UserError

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}
SAMPLE_LINES = 200
EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# What R's write.table puts between fields unless told otherwise; its names and texts are in quotes.
QUOTED_BY_SPACES = re.compile(r'"[^"]*"( "[^"]*")*\s*')
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
SENTENCE_WORDS = 5
LONG_TEXT = 20  # characters
LONGER_THAN_NAME = 3  # times as long
MOST_ROWS = 0.5


@dataclass(frozen=True)
class Dialect:
    """How a text file of rows is written.

    Attributes:
        delimiter: one character.
        skip: lines above the header.
        width: columns, row names included.
        row_names: whether each row begins with a field that the header lacks.
        headed: whether the first row looks like a header, not like data.
        fits: share of the first rows that have as many fields as the header says.
    """

    delimiter: str
    skip: int
    width: int
    row_names: bool
    headed: bool
    fits: float


def find_dialect(path: Path, own: str, options: ReadOptions) -> Dialect:
    """Find a file's dialect from its first 200 lines.

    Args:
        path: a text file.
        own: the separator that its suffix stands for; empty if it stands for none.
        options: a separator that is given is taken.

    Raises:
        UserError: text that is not in this encoding, or a separator of several characters.
    """
    lines = list(islice(read_lines(path, options.encoding), SAMPLE_LINES))
    marked = EXCEL_SEPARATOR.fullmatch(lines[0]) if lines else None
    given = _one_character(options.separator) or (marked[1] if marked else "")
    # Quotes in a tsv file may be text.
    ways: list[tuple[str, Literal[0, 3]]] = [
        (one, csv.QUOTE_MINIMAL) for one in given or SEPARATORS
    ]
    ways += [(one, csv.QUOTE_NONE) for one, _ in ways if one == "\t"]
    found = [_split(lines, *way, skip=marked is not None) for way in ways]

    def quality(dialect: Dialect) -> tuple[bool, float, bool, int, bool]:
        is_own = dialect.delimiter == own
        fits = dialect.fits if dialect.width > 1 or is_own else 0.0
        several = dialect.width > 1 and fits >= MOST_ROWS
        return several, fits, not dialect.row_names, dialect.width if fits else 0, is_own

    return max(found, key=quality)


def _one_character(separator: str | None) -> str:
    character = {"tab": "\t", r"\t": "\t"}.get(separator or "", separator or "")
    if separator is not None and (
        len(character) != 1 or not character.isascii() or character in '"\r\n'
    ):
        fix = "give one ASCII character, or tab"
        raise UserError(f"{separator!r} is no separator", where="--separator", fix=fix)
    return character


def _split(lines: Sequence[str], separator: str, quoting: Literal[0, 3], *, skip: bool) -> Dialect:
    lines = lines[int(skip) :]
    rows: list[list[str]] = []
    if separator != " " or (lines and QUOTED_BY_SPACES.fullmatch(lines[0])):
        with suppress(csv.Error):  # the checks of all rows say what is wrong
            rows = [row for row in csv.reader(lines, delimiter=separator, quoting=quoting) if row]
    names, *rows = rows or [[]]
    if len(lines) + skip == SAMPLE_LINES:
        rows = rows[:-1]  # a quoted field may go on below
    widths = Counter(map(len, rows))
    first = [row[0].strip('"') for row in rows]
    row_names = (
        bool(rows)
        and {*widths} == {len(names) + 1}
        and all(map(str.isdecimal, first))
        and len({*first}) == len(rows)
    )
    return Dialect(
        delimiter=separator,
        skip=int(skip),
        width=len(names) + row_names,
        row_names=row_names,
        headed=row_names or not is_data(names, rows),
        fits=widths[len(names) + row_names] / max(1, len(rows)),
    )


def is_data(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first row is data by this module's rule, seen from the first rows below it."""
    # A row that repeats the header comes from files that were joined, and is no evidence.
    rows = [row for row in rows if len(row) == len(names) and list(row) != list(names)]
    looks = {
        _looks_like(name, [cell for cell in cells if cell])
        for name, *cells in zip(names, *rows, strict=True)
    }
    return "value" in looks or ("data" in looks and "name" not in looks)


def _looks_like(name: str, cells: Sequence[str]) -> str:
    """What a name looks like: surely a value of its column, data, a name, or nothing certain."""
    if not name or not cells:
        return ""
    numbers = sum(NUMBER.fullmatch(cell) is not None for cell in cells) / len(cells)
    if NUMBER.fullmatch(name):
        return "data" if numbers == 1 else "name" if numbers == 0 else ""
    digits = re.compile(r"\d").search
    if numbers == 1 or (all(map(digits, cells)) and not digits(name)):
        return "name"
    if 2 * len({*cells}) <= len(cells):
        return "value" if name in cells else "name"
    if sum(map(len, cells)) >= len(cells) * max(LONG_TEXT, LONGER_THAN_NAME * len(name)):
        return "name"
    words = sum(len(cell.split()) for cell in cells) / len(cells)
    return "data" if min(words, len(name.split())) >= SENTENCE_WORDS else ""
