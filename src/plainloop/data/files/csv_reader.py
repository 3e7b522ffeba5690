"""Read csv and tsv files as tables of text: Python checks each line, then Arrow reads.

Two passes: Arrow reads fast but does not know the lines of a file, and reads an unclosed quote as if
it were closed. Python's `csv` reads the file once in strict mode, a row at a time, and knows the
line of everything that is wrong. What it lets through, Arrow reads to the same fields.

The rules: RFC 4180, with any line end. A field that begins with a quote ends with one; quotes inside
it are doubled; line breaks and separators inside it are text. Quotes elsewhere are text. In a tsv file
some tools write quotes like this (Excel, pandas) and others write them as text: a tsv file that
cannot be read with the rules is read without, so that every quote of it is text.
"""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from plainloop.data.files.arrow_reader import Batches
from plainloop.data.files.text import LINE_BREAK, check_is_text, read_lines
from plainloop.errors import UserError, printable, printable_path

MOST_ROWS_SHOWN = 3
LONGEST_NAME = 100
LONGEST_FIELD = 2**24  # characters: more is a quote that was left open
BLOCK_BYTES, MOST_BLOCK_BYTES = 2**20, 2**31 - 1
MOST_BYTES_A_CHARACTER = 4  # in UTF-8; a quote that is doubled takes two
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


@dataclass(frozen=True)
class RowCount:
    """What the first pass counted.

    Attributes:
        num_rows: rows with as many fields as the header; blank lines at the end are not rows.
        longest: characters of the longest row, its separators and quotes included.
        wrong: the first rows with another number of fields, in words.
        num_wrong: how many there are.
        all_short: whether each of them has too few fields.
    """

    num_rows: int
    longest: int
    wrong: list[str]
    num_wrong: int
    all_short: bool


@dataclass(frozen=True)
class _Layout:
    """A file that was checked: its header, its rows, and whether quotes enclose fields."""

    names: list[str]
    rows: RowCount
    delimiter: str
    quotes: bool


class _QuoteError(UserError):
    """A quote that is not closed, or is closed before its field ends."""


def read_csv(path: Path, delimiter: str, encoding: str | None) -> pa.Table:
    """Read a file with a header; every column is text, and no text becomes a missing value.

    Raises:
        UserError: see `_check_rows`.
    """
    layout = _check_file(path, delimiter, encoding)
    table = arrow_csv.read_csv(str(path), **_options(layout, encoding))
    return table.slice(0, layout.rows.num_rows)


def read_counted(
    path: Path, names: list[str], rows: RowCount, *, delimiter: str, header: bool
) -> pa.Table:
    """Read a file whose quotes are text, in UTF-8, without its wrong rows.

    Args:
        path: the file.
        names: of its columns.
        rows: what `count_rows` counted in it.
        delimiter: between fields.
        header: whether its first line is a header.
    """
    options = _options(_Layout(names, rows, delimiter, quotes=False), None)
    options["read_options"].skip_rows_after_names = int(header)
    options["parse_options"].invalid_row_handler = lambda _row: "skip"
    return arrow_csv.read_csv(str(path), **options).slice(0, rows.num_rows)


def open_csv(path: Path, delimiter: str, encoding: str | None) -> tuple[pa.Schema, Batches]:
    """Check all of a file at flat memory, then stream it.

    Raises:
        UserError: see `_check_rows`.
    """
    layout = _check_file(path, delimiter, encoding)

    def batches() -> Iterator[pa.RecordBatch]:
        left = layout.rows.num_rows
        with arrow_csv.open_csv(str(path), **_options(layout, encoding)) as reader:
            for batch in reader:
                yield batch.slice(0, left)
                left = max(0, left - batch.num_rows)

    return pa.schema([(name, pa.string()) for name in layout.names]), batches


def quotes_enclose(path: Path, delimiter: str, encoding: str | None) -> bool:
    """Whether the quotes of a file enclose fields; else they are text.

    Raises:
        UserError: see `_check_rows`.
    """
    return _check_file(path, delimiter, encoding).quotes


def _options(layout: _Layout, encoding: str | None) -> dict[str, Any]:
    # Arrow wants every row to fit into a block.
    block_size = max(BLOCK_BYTES, layout.rows.longest * MOST_BYTES_A_CHARACTER)
    return {
        "read_options": arrow_csv.ReadOptions(
            column_names=layout.names,
            skip_rows_after_names=1,
            block_size=min(block_size, MOST_BLOCK_BYTES),
            encoding=encoding or "utf8",
        ),
        "parse_options": arrow_csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char='"' if layout.quotes else False,
            newlines_in_values=layout.quotes,
            ignore_empty_lines=False,
        ),
        "convert_options": arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(layout.names, pa.string()), strings_can_be_null=False
        ),
    }


@contextmanager
def long_fields() -> Iterator[None]:
    """Let `csv` read fields of up to 16 million characters within the block."""
    limit = csv.field_size_limit(LONGEST_FIELD)  # of the process, so it is restored
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _check_file(path: Path, delimiter: str, encoding: str | None) -> _Layout:
    check_is_text(path, encoding)
    with long_fields():
        try:
            return _check_rows(path, delimiter, encoding, quotes=True)
        except UserError as with_quotes:
            if delimiter != "\t":
                raise
            try:
                return _check_rows(path, delimiter, encoding, quotes=False)
            except UserError as without:
                raise (without if isinstance(with_quotes, _QuoteError) else with_quotes) from None


def _check_rows(path: Path, delimiter: str, encoding: str | None, *, quotes: bool) -> _Layout:
    """Read every row once.

    Raises:
        UserError: no rows, a header that cannot be one, rows with another number of fields than the
            header, a quote that does not close, or text that is not in this encoding: with the lines.
    """
    where = printable_path(path)
    reader = csv.reader(
        read_lines(path, encoding),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        names = read_header(reader, where)
        _check_header(names, where)
        rows = count_rows(reader, names, blank_is_row=len(names) == 1)
    except csv.Error:
        raise _quote_error(path, delimiter, encoding) from None
    if rows.wrong:
        raise UserError(
            f"{'; '.join(rows.wrong)}{and_more(rows.num_wrong)}, expected {len(names)}",
            where=where,
            fix=f"put text that holds {SEPARATORS[delimiter]} or line breaks in double quotes",
        )
    check_has_rows(rows, where)
    return _Layout(names, rows, delimiter, quotes)


def read_header(reader: Any, where: str) -> list[str]:
    """Read the first row of a `csv.reader`.

    Raises:
        UserError: the file is empty.
    """
    names: list[str] = next(reader, [])
    if not names and not any(reader):
        raise UserError("the file is empty", where=where, fix="give a file with rows")
    return names


def check_names_differ(names: list[str], where: str) -> None:
    """Check that no two columns have the same name.

    Raises:
        UserError: two have.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"column '{printable(twice[0])}' appears twice",
            where=where,
            fix="rename one of the two",
        )


def check_has_rows(rows: RowCount, where: str) -> None:
    """Check that there is a row below the header.

    Raises:
        UserError: there is none.
    """
    if rows.num_rows == 0:
        raise UserError("no rows below the header", where=where, fix="give a file with rows")


def count_rows(reader: Any, names: list[str], *, blank_is_row: bool) -> RowCount:
    """Check the number of fields of each row.

    Args:
        reader: a `csv.reader` below the header.
        names: of the columns; a row must have as many fields.
        blank_is_row: whether a blank line above another row is a row of empty fields; else it is wrong.
    """
    width, longest = len(names), sum(map(len, names))
    num_rows = num_wrong = blanks = 0
    all_short, wrong = True, list[str]()
    last_line = reader.line_num
    for row in reader:
        longest = max(longest, sum(map(len, row)))
        if len(row) == width and not blanks:
            num_rows += 1
        elif not row:
            blanks += 1  # rows, or wrong, only if another row follows them
        else:
            found = [f"line {last_line - n} is blank" for n in reversed(range(blanks))]
            if blank_is_row:
                num_rows, found = num_rows + blanks, []
            if len(row) == width:
                num_rows += 1
            else:
                found.append(_describe(row, last_line + 1, reader.line_num))
                all_short = all_short and len(row) < width
            num_wrong += len(found)
            wrong += found[: MOST_ROWS_SHOWN - len(wrong)]
            blanks = 0
        last_line = reader.line_num
    return RowCount(num_rows, longest + 3 * width + 2, wrong, num_wrong, all_short)


def and_more(count: int) -> str:
    """How many rows are not shown."""
    return f" (+{count - MOST_ROWS_SHOWN} more)" if count > MOST_ROWS_SHOWN else ""


def _describe(row: list[str], first: int, last: int) -> str:
    count = f"{len(row)} field{'s' * (len(row) != 1)}"
    return (
        f"line {first} has {count}"
        if first == last
        else f"lines {first} to {last} are one row of {count}"
    )


def _check_header(names: list[str], where: str) -> None:
    """Refuse a first row that is certainly no header, or whose columns cannot be told apart.

    An empty first name is let through: pandas writes its index like this.
    """
    if not names:
        raise UserError("line 1 is blank", where=where, fix="begin the file with a header")
    if len(names) == 1:
        for separator in SEPARATORS:
            if separator in names[0]:
                raise _wrong_separator(separator, where)
    data = [name for name in names if NUMBER.fullmatch(name) or len(name) > LONGEST_NAME]
    if data:
        raise UserError(
            f"the first row looks like data, not like a header: '{printable(data[0])}'",
            where=where,
            fix="put a line with the names of the columns on top",
        )
    unnamed = [number for number, name in enumerate(names, 1) if not name.strip()]
    if unnamed and (unnamed != [1] or len(names) == 1):
        raise UserError(
            f"column {unnamed[-1]} has no name", where=where, fix="name it in the header"
        )
    check_names_differ(names, where)


def _wrong_separator(separator: str, where: str) -> UserError:
    suffix = {",": ".csv", "\t": ".tsv"}.get(separator)
    return UserError(
        f"only one column, and its name holds {SEPARATORS[separator]}: is the file separated by them?",
        where=where,
        fix=f"name it {suffix}" if suffix else "save it as csv with commas, or as tsv",
    )


def _quote_error(path: Path, delimiter: str, encoding: str | None) -> _QuoteError:
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
    return _QuoteError(
        what,
        where=printable_path(path),
        fix="a quote inside a quoted field is doubled, and one at its end closes it",
    )
