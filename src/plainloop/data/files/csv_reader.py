"""Read csv and tsv files as tables of text: Python checks each line, then Arrow reads.

Two passes: Arrow reads fast but does not know the lines of a file, and reads an unclosed quote as if
it were closed. Python's `csv` reads the file once in strict mode, a row at a time, and knows the
line of everything that is wrong. What it lets through, Arrow reads to the same fields.

`dialect.py` finds the separator and the header. The rules: RFC 4180, with any line end. A field that begins with a quote ends with one; quotes inside
it are doubled; line breaks and separators inside it are text. Quotes elsewhere are text. In a tsv file
some tools write quotes like this (Excel, pandas) and others write them as text: a tsv file that
cannot be read with the rules is read without, so that every quote of it is text. If it can be read in
both ways with different rows, `--quotes` has to say which.
"""

import csv
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.arrow_reader import Batches
from plainloop.data.files.dialect import SEPARATORS, Dialect, find_dialect
from plainloop.data.files.quotes import LONGEST_FIELD, QuoteError, has_quotes, quote_error
from plainloop.data.files.text import (
    check_is_text,
    open_bytes,
    own_separator,
    read_lines,
)
from plainloop.errors import UserError, printable, printable_path

MOST_ROWS_SHOWN = 3
MOST_NAMES_SHOWN = 12
BLOCK_BYTES, MOST_BLOCK_BYTES = 2**20, 2**31 - 1
MOST_BYTES_A_CHARACTER = 4  # in UTF-8; a quote that is doubled takes two
NO_SEPARATOR = "\x1f"  # Arrow and csv want one; no text has this control character
NO_NAME = "Unnamed: {}"  # as pandas calls a column by its number from 0


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
class Layout:
    """A file that was checked: how to read it.

    Attributes:
        names: of the columns, in the file's order; none twice.
        rows: what the first pass counted.
        delimiter: between fields.
        quotes: whether quotes enclose fields.
        encoding: a codec of Python; None is UTF-8.
        rows_above: rows above the data, the header included.
        names_above: whether the row above the data has exactly these names.
        first_line: where the data begin.
        left_out: columns that have no name and are empty.
        notes: printable lines: what was found that the suffix does not say.
    """

    names: list[str]
    rows: RowCount
    delimiter: str
    quotes: bool
    encoding: str | None = None
    rows_above: int = 0
    names_above: bool = False
    first_line: int = 1
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def separator(self) -> str:
        """What messages call the delimiter."""
        return SEPARATORS.get(self.delimiter, repr(self.delimiter))


def read_csv(path: Path, layout: Layout) -> pa.Table:
    """Read all rows of a checked file; every column is text, and no text becomes a missing value."""
    table = arrow_csv.read_csv(open_bytes(path), **_options(layout))
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
    layout = Layout(names, rows, delimiter, quotes=False, rows_above=int(header))
    options = _options(layout)
    options["parse_options"].invalid_row_handler = lambda _row: "skip"
    return arrow_csv.read_csv(str(path), **options).slice(0, rows.num_rows)


def stream_csv(path: Path, layout: Layout) -> tuple[pa.Schema, Batches]:
    """Stream the rows of a checked file."""

    def batches() -> Iterator[pa.RecordBatch]:
        left = layout.rows.num_rows
        with arrow_csv.open_csv(open_bytes(path), **_options(layout)) as reader:
            for batch in reader:
                yield batch.slice(0, left)
                left = max(0, left - batch.num_rows)

    names = [name for name in layout.names if name not in layout.left_out]
    return pa.schema([(name, pa.string()) for name in names]), batches


def _options(layout: Layout) -> dict[str, Any]:
    # Arrow wants every row to fit into a block.
    block_size = max(BLOCK_BYTES, layout.rows.longest * MOST_BYTES_A_CHARACTER)
    return {
        "read_options": arrow_csv.ReadOptions(
            column_names=layout.names,
            skip_rows_after_names=layout.rows_above,
            block_size=min(block_size, MOST_BLOCK_BYTES),
            encoding=layout.encoding or "utf8",
        ),
        "parse_options": arrow_csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char='"' if layout.quotes else False,
            newlines_in_values=layout.quotes,
            ignore_empty_lines=False,
        ),
        "convert_options": arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(layout.names, pa.string()),
            include_columns=[name for name in layout.names if name not in layout.left_out],
            strings_can_be_null=False,
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


def check_csv(path: Path, options: ReadOptions) -> Layout:
    """Check all rows of a file, at flat memory.

    Args:
        path: a text file.
        options: what was said about the file.

    Raises:
        UserError: see `_check_rows`.
    """
    check_is_text(path)
    own = own_separator(path)
    with long_fields():
        dialect = find_dialect(path, own, options)
        layout = _choose_quotes(path, dialect, options)
    notes = [f"separated by {layout.separator}"] if layout.delimiter != own else []
    unnamed = [name for number, name in enumerate(layout.names) if name == NO_NAME.format(number)]
    empty = _find_empty(path, layout, unnamed) if unnamed else []
    filled = [name for name in unnamed if name not in empty]
    if empty:
        notes.append(f"{len(empty)} empty columns without a name are left out")
    if filled:
        shown = ", ".join(map(repr, filled[:MOST_ROWS_SHOWN])) + and_more(len(filled))
        notes.append(f"columns without a name are called {shown}")
    if options.quotes is None and layout.delimiter == "\t" and has_quotes(path, options):
        used = "enclose fields" if layout.quotes else "are text"
        notes.append(f"quotes {used} (--quotes text or enclose)")
    if dialect.row_names:
        notes.append("each row begins with a name of its own, as R writes it")
    return replace(layout, left_out=tuple(empty), notes=tuple(notes))


def _choose_quotes(path: Path, dialect: Dialect, options: ReadOptions) -> Layout:
    """Read quotes as `--quotes` says; in a tsv file without it, as they can be read.

    Raises:
        UserError: see `_check_rows`; or both ways are plausible and give different rows.
    """
    if options.quotes or dialect.delimiter != "\t":
        return _check_rows(path, dialect, options, quotes=options.quotes != "text")
    found: dict[bool, Layout] = {}
    problems: dict[bool, UserError] = {}
    for quotes in (True, False):
        try:
            found[quotes] = _check_rows(path, dialect, options, quotes=quotes)
            if quotes and not has_quotes(path, options):
                return found[quotes]
        except UserError as problem:
            problems[quotes] = problem
    if not found:
        raise problems[not isinstance(problems[True], QuoteError)]
    counts = {quotes: f"{layout.rows.num_rows} rows" for quotes, layout in found.items()}
    odd = problems.get(True)
    if odd and isinstance(odd, QuoteError) and has_quotes(path, options, around=True):
        counts[True] = f"an error ({odd.what})"
    if len(counts) > 1 and counts[True] != counts[False]:
        raise UserError(
            f"quotes can be read in two ways: as text they give {counts[False]}, as marks that enclose "
            f"fields {counts[True]}",
            where=printable_path(path),
            fix="choose with --quotes text or --quotes enclose",
        )
    return found.get(True) or found[False]


def check_lines(path: Path, options: ReadOptions) -> Layout:
    """Check a file of one text a line: a column without a header, in which quotes are text."""
    check_is_text(path)
    lines = Dialect(NO_SEPARATOR, skip=0, width=1, row_names=False, headed=True, fits=1.0)
    with long_fields():
        layout = _check_rows(path, lines, replace(options, header=False), quotes=False)
    return replace(layout, names=["text"], notes=("one text a line",))


def _find_empty(path: Path, layout: Layout, names: list[str]) -> list[str]:
    """Which of these columns have no text in any row."""
    for batch in stream_csv(path, layout)[1]():
        names = [name for name in names if not pc.any(pc.not_equal(batch[name], "")).as_py()]
    return names


def _check_rows(path: Path, dialect: Dialect, options: ReadOptions, *, quotes: bool) -> Layout:
    """Read every row once.

    Raises:
        UserError: no rows, a header that cannot be one, rows with another number of fields than the
            header, a quote that does not close, or text that is not in this encoding: with the lines.
    """
    where = printable_path(path)
    reader = csv.reader(
        read_lines(path, options.encoding),
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        for _ in range(dialect.skip):
            next(reader)
        if options.header is False:
            names = [str(number + 1) for number in range(dialect.width)]
        else:
            header = [""] * dialect.row_names + read_header(reader, where)
            names = check_header(header, where, headed=dialect.headed or options.header is True)
        above = reader.line_num
        rows = count_rows(reader, names, blank_is_row=len(names) == 1)
    except csv.Error:
        raise quote_error(path, dialect.delimiter, options.encoding) from None
    if rows.wrong:
        separators = SEPARATORS.get(dialect.delimiter, repr(dialect.delimiter))
        raise UserError(
            f"{'; '.join(rows.wrong)}{and_more(rows.num_wrong)}, expected {len(names)}",
            where=where,
            fix="delete the blank lines"
            if all(row.endswith("is blank") for row in rows.wrong)
            else f"put text that holds {separators} or line breaks in double quotes",
        )
    check_has_rows(rows, where)
    return Layout(
        names,
        rows,
        dialect.delimiter,
        quotes,
        encoding=options.encoding,
        rows_above=dialect.skip + (options.header is not False),
        names_above=options.header is not False and not dialect.skip and not dialect.row_names,
        first_line=above + 1,
    )


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
        shown = [
            f"column '{printable(name)}' appears twice ({', '.join(map(str, numbers))})"
            for name in twice[:MOST_ROWS_SHOWN]
            if (numbers := [number for number, other in enumerate(names, 1) if other == name])
        ]
        raise UserError(
            ", ".join(shown) + and_more(len(twice)),
            where=where,
            fix="rename all but one of them in the header",
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


def check_header(names: list[str], where: str, *, headed: bool) -> list[str]:
    """Refuse a first row that is no header, or whose columns cannot be told apart.

    Returns:
        The columns' names. An empty first name is kept: pandas and R write row names like this.

    Raises:
        UserError: the row is blank, looks like data, or has a name twice.
    """
    if not names:
        raise UserError("line 1 is blank", where=where, fix="begin the file with a header")
    if not headed:
        shown = ", ".join(map(reprlib.repr, names[:MOST_NAMES_SHOWN]))
        numbers = ", ".join(str(number + 1) for number in range(len(names[:MOST_NAMES_SHOWN])))
        raise UserError(
            f"no header: the first row looks like data ({shown})",
            where=where,
            fix=f"--no-header takes it as a row of columns {numbers}; --header if these are names; "
            "name it .txt if each line is one text",
        )
    named = [
        name if name.strip() or 0 == number < len(names) - 1 else NO_NAME.format(number)
        for number, name in enumerate(names)
    ]
    check_names_differ(named, where)
    return named
