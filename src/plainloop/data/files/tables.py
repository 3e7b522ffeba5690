"""A user's files as one Arrow table or a stream of batches, and the line of each row."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.arrow_reader import Batches, open_arrow, open_parquet
from plainloop.data.files.csv_reader import check_csv, check_lines, read_csv, stream_csv
from plainloop.data.files.json_reader import read_json, stream_json_lines
from plainloop.data.files.memory_map import hold_on_disk
from plainloop.data.files.nested import flatten_objects
from plainloop.data.files.paths import Format, find_files, format_of
from plainloop.data.files.plain_text import read_classes, read_fasttext
from plainloop.data.files.sheet_reader import read_sheet
from plainloop.data.files.text import check_encoding, encoding_of
from plainloop.errors import UserError, printable, printable_path

MOST_ROWS_SHOWN = 3
ROWS_PER_BATCH = 65_536
SMALL_FILE_BYTES = 2**22  # what may be held in memory instead of being read again


@dataclass(frozen=True)
class Part:
    """The rows of a source that one file holds.

    Attributes:
        name: what messages call the file.
        num_rows: how many rows it has.
        unit: what its rows are counted in: line or row.
        first: line or row of the first one.
        separator: between its columns, if it is a text file of them.
    """

    name: str
    num_rows: int
    unit: str
    first: int
    separator: str


@dataclass(frozen=True)
class Source:
    """A table that was read from files.

    Attributes:
        table: columns as in the file, objects as a column for each value. csv and tsv: string, never
            null. Others: their own types.
        path: what messages call it: the file, folder or pattern that was given, or the first of several.
        parts: the files, in the order of their rows; without them rows are only counted.
        notes: printable lines: what was found about how the files are written.
    """

    table: pa.Table
    path: str
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    def show(self, rows: Sequence[int]) -> str:
        """Rows as a person finds them: "lines 4, 9, 12 (+3 more)", "b.csv, line 4".

        Args:
            rows: row numbers of `table`, from 0.
        """
        by_file: dict[tuple[str, str], list[int]] = {}
        for row in rows[:MOST_ROWS_SHOWN]:
            name, unit, number = self._find(row)
            by_file.setdefault((name, unit), []).append(number)
        shown = [
            f"{name}{unit}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
            for (name, unit), numbers in by_file.items()
        ]
        more = f" (+{len(rows) - MOST_ROWS_SHOWN} more)" if len(rows) > MOST_ROWS_SHOWN else ""
        return "; ".join(shown) + more

    def locate(self, row: int) -> str:
        """One row as a person finds it: "line 9", or "row 9" where a file has no lines."""
        return self.show([row])

    def _find(self, row: int) -> tuple[str, str, int]:
        """Its file, if there are several, and its line or row in that file, from 1."""
        start = 0
        for part in self.parts:
            if row < start + part.num_rows:
                name = f"{part.name}, " if len(self.parts) > 1 else ""
                # Texts above it may hold line breaks.
                above = self.table.slice(start, row - start if part.separator else 0)
                breaks = sum(_line_breaks(column) for column in above.columns)
                return name, part.unit, part.first + breaks + row - start
            start += part.num_rows
        return "", "row", row + 1


def _line_breaks(column: pa.Array | pa.ChunkedArray) -> int:
    r"""Count \n, \r and \r\n in all texts; what is no text was not in the file."""
    if column.type != pa.string():
        return 0
    count = {
        end: pc.sum(pc.count_substring(column, end)).as_py() or 0 for end in ("\n", "\r", "\r\n")
    }
    return int(count["\n"] + count["\r"] - count["\r\n"])


def read_files(paths: Sequence[str | Path], options: ReadOptions = ReadOptions()) -> Source:
    """Read files, `save_to_disk` folders and glob patterns as one table, in the order given.

    Args:
        paths: csv, tsv, json, jsonl/ndjson, parquet, arrow/feather, by suffix; matches of a pattern are sorted.
        options: how to read them. A byte-order mark is never part of the text.

    Returns:
        Every row of every file. Blank lines at the end of a text file are no rows; a blank line further
        up is a row with an empty text in a file of one column, and an error in others.

    Raises:
        UserError: all files that are missing or cannot be used, with the lines at fault.
    """
    files, opened = _open_all(paths, options, None)
    names = _short_names(files)
    schema = _common_schema([one.schema for one in opened], names)
    tables = [
        _cast(pa.Table.from_batches(list(one.batches()), one.schema), schema, name)
        for one, name in zip(opened, names, strict=True)
    ]
    parts = [
        Part(name, table.num_rows, one.unit, one.first, one.separator)
        for name, one, table in zip(names, opened, tables, strict=True)
    ]
    where = printable(paths[0], most=1000)
    return Source(
        hold_on_disk(flatten_objects(pa.concat_tables(tables))),
        where,
        tuple(parts),
        _notes(opened, names),
    )


@dataclass(frozen=True)
class OpenedFile:
    """A file that was checked.

    Attributes:
        schema: of its rows.
        batches: reads them.
        unit, first, separator: see `Part`.
        notes: printable lines: what was found about how it is written.
    """

    schema: pa.Schema
    batches: Batches
    unit: str = "row"
    first: int = 1
    separator: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckedFiles:
    """Files that were checked; each iteration yields their rows as record batches.

    Attributes:
        files: each file.
        schema: of the batches.
        names: what messages call each file.
        rows: the most rows of a batch.
        notes: see `Source`.
    """

    files: Sequence[OpenedFile]
    schema: pa.Schema
    names: Sequence[str]
    rows: int
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for file, name in zip(self.files, self.names, strict=True):
            for batch in file.batches():
                table = _cast(pa.Table.from_batches([batch]), self.schema, name)
                yield from table.to_batches(max_chunksize=self.rows)

    def show(self, rows: Sequence[int]) -> str:
        """Rows as a person finds them, see `Source.show`.

        Only for files whose lines hold no line breaks, so not for csv, whose cells are never null.
        """
        counts = [sum(batch.num_rows for batch in file.batches()) for file in self.files]
        parts = [
            Part(name, count, one.unit, one.first, "")
            for name, count, one in zip(self.names, counts, self.files, strict=True)
        ]
        return Source(pa.table({}), "", tuple(parts)).show(rows)


def open_files(
    paths: Sequence[str | Path], options: ReadOptions = ReadOptions(), *, rows: int = 1000
) -> CheckedFiles:
    """Check files, so as to read the rows of `read_files` in batches, once or several times.

    All rows of the text files are checked before this returns, so that a bad row is known before the
    first good one is used. Memory does not grow with the files: those above 4 MB are read again by each
    iteration, except for an array in a .json file, which is held. Damaged pages of a large Parquet or
    Arrow file are found when they are reached.

    Args:
        paths: see `read_files`.
        options: see `read_files`.
        rows: the most rows a batch may have.

    Raises:
        UserError: see `read_files`.
    """
    files, opened = _open_all(paths, options, rows)
    names = _short_names(files)
    schema = _common_schema([one.schema for one in opened], names)
    return CheckedFiles(opened, schema, names, rows, _notes(opened, names))


def _open_all(
    paths: Sequence[str | Path], options: ReadOptions, rows: int | None
) -> tuple[list[Path], list[OpenedFile]]:
    """Check all files: to stream batches of at most so many rows, or None to hold all rows."""
    files = find_files(paths)
    check_encoding(options.encoding)
    opened, forms, problems = [], [], []
    for file in files:
        try:
            encoding = encoding_of(file, options.encoding)
            found = replace(options, encoding=encoding)
            forms.append(format_of(file, found))
            one = _open(file, forms[-1], found, rows)
            if encoding != options.encoding:
                one = replace(one, notes=(f"its mark says {encoding}", *one.notes))
            if rows is not None and file.stat().st_size <= SMALL_FILE_BYTES:
                # Read once, however often it is iterated.
                one = replace(one, batches=partial(iter, list(one.batches())))
            opened.append(one)
        except UserError as problem:
            problems.append(problem)
    if len(problems) > MOST_ROWS_SHOWN:
        more = f"{len(problems) - MOST_ROWS_SHOWN} more of {len(files)} files cannot be read"
        problems[MOST_ROWS_SHOWN:] = [UserError(more, where=printable(paths[0]))]
    if problems:
        raise UserError.together(problems)
    folders = {file.parent for file in files}
    if rows is None and {*forms} == {"text lines"} and len(folders) > 1:
        what = f"{len(files)} files of texts in {len(folders)} folders: are these classes?"
        fix = f"give the folder of these folders: {printable_path(files[0].parent.parent)}"
        raise UserError(what, where=printable(paths[0], most=1000), fix=fix)
    return files, opened


def _notes(opened: Sequence[OpenedFile], names: Sequence[str]) -> tuple[str, ...]:
    """What was found in each file, once where it is the same in several."""
    files: dict[str, list[str]] = {}
    for one, name in zip(opened, names, strict=True):
        for note in one.notes:
            files.setdefault(note, []).append(name)
    return tuple(
        f"{found[0]}{f' and {len(found) - 1} more' * (len(found) > 1)}: {note}"
        for note, found in files.items()
    )


def _open(file: Path, form: Format, options: ReadOptions, rows: int | None) -> OpenedFile:
    if form in ("csv", "text lines"):
        is_table = form == "csv"
        layout = check_csv(file, options) if is_table else check_lines(file, options)
        read = _held(read_csv(file, layout)) if rows is None else stream_csv(file, layout)
        return OpenedFile(*read, "line", layout.first_line, layout.delimiter, layout.notes)
    if form == "json lines" and rows is not None:
        return OpenedFile(*stream_json_lines(file, options.encoding), "line")
    if form in ("json array", "json lines", "json object"):
        table, notes = read_json(file, options.encoding, form)
        return OpenedFile(*_held(table), "line" if form == "json lines" else "row", notes=notes)
    if form == "sheet":
        table, first, notes = read_sheet(file, options)
        return OpenedFile(*_held(table), first=first, notes=notes)
    if form in ("fastText", "folder of classes"):
        read_all = read_fasttext if form == "fastText" else read_classes
        unit = "line" if form == "fastText" else "row"
        return OpenedFile(*_held(read_all(file, options.encoding)), unit)
    most = rows or ROWS_PER_BATCH
    schema, batches = open_parquet(file, most) if form == "parquet" else open_arrow(file)
    return OpenedFile(schema, lambda: _with_rows(batches(), file))


def _held(table: pa.Table) -> tuple[pa.Schema, Batches]:
    return table.schema, partial(iter, table.to_batches())


def _with_rows(batches: Iterator[pa.RecordBatch], file: Path) -> Iterator[pa.RecordBatch]:
    num_rows = 0
    for batch in batches:
        num_rows += batch.num_rows
        yield batch
    if num_rows == 0:
        raise UserError(
            "no rows in the file", where=printable_path(file), fix="give a file with rows"
        )


def _short_names(files: list[Path]) -> list[str]:
    """What messages call each: the name alone where that is enough."""
    count = Counter(file.name for file in files)
    return [printable_path(file if count[file.name] > 1 else Path(file.name)) for file in files]


def _common_schema(schemas: list[pa.Schema], names: list[str]) -> pa.Schema:
    """The first file's columns in its order; types are widened, so null becomes any other.

    Raises:
        UserError: a file lacks a column that another has, or has it in another kind.
    """
    first, *others = schemas
    problems = []
    for schema, name in zip(others, names[1:], strict=True):
        for lacks, has, owner in ((schema, first, names[0]), (first, schema, name)):
            missing = [
                f"'{printable(column)}'" for column in has.names if column not in lacks.names
            ]
            if missing:
                lacking = name if lacks is schema else names[0]
                problems.append(
                    UserError(
                        f"lacks {', '.join(missing[:MOST_ROWS_SHOWN])}, which {owner} has",
                        where=lacking,
                        fix="files that are read as one must have the same columns",
                    )
                )
    if problems:
        raise UserError.together(problems)
    common = first
    for schema, name in zip(others, names[1:], strict=True):
        ordered = pa.schema([schema.field(column) for column in first.names])
        try:
            common = pa.unify_schemas([common, ordered], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise UserError(
                f"a column is of another kind than in {names[0]}: {printable(error)}",
                where=name,
                fix="files that are read as one must have the same columns",
            ) from None
    return common


def _cast(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """To the common columns and types; what a type cannot hold exactly is refused."""
    try:
        return table.select(schema.names).cast(schema)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"does not fit the other files: {printable(error)}",
            where=name,
            fix="files that are read as one must have the same kinds of values",
        ) from None
