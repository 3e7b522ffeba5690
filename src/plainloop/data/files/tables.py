"""A user's files as one Arrow table or a stream of batches, and the line of each row."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.data.files.arrow_reader import Batches, open_arrow, open_parquet
from plainloop.data.files.csv_reader import open_csv, read_csv
from plainloop.data.files.json_reader import open_json, read_json
from plainloop.data.files.memory_map import hold_on_disk
from plainloop.data.files.paths import Format, find_files, format_of
from plainloop.data.files.text import check_encoding
from plainloop.errors import UserError, printable, printable_path

SEPARATORS = {"csv": ",", "tsv": "\t"}
MOST_ROWS_SHOWN = 3
ROWS_PER_BATCH = 65_536
SMALL_FILE_BYTES = 2**22  # what may be held in memory instead of being read again


@dataclass(frozen=True)
class Part:
    """The rows of a source that one file holds."""

    name: str
    format: Format
    num_rows: int


@dataclass(frozen=True)
class Source:
    """A table that was read from files.

    Attributes:
        table: columns as in the file. csv and tsv: string, never null. Others: their own types.
        path: what messages call it: the file, folder or pattern that was given, or the first of several.
        parts: the files, in the order of their rows; without them rows are only counted.
    """

    table: pa.Table
    path: str
    parts: tuple[Part, ...] = ()

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
        """Its file, where there are several, and its line or row in there, from 1."""
        start = 0
        for part in self.parts:
            if row < start + part.num_rows:
                name = f"{part.name}, " if len(self.parts) > 1 else ""
                if part.format == "json lines":
                    return name, "line", row - start + 1
                if part.format in SEPARATORS:
                    return name, "line", self._line(start, row)
                return name, "row", row - start + 1
            start += part.num_rows
        return "", "row", row + 1

    def _line(self, start: int, row: int) -> int:
        """The physical line where a row begins: texts above it may hold line breaks."""
        above = self.table.slice(start, row - start)
        broken = sum(_line_breaks(column) for column in above.columns)
        header = sum(_line_breaks(pa.array([name])) for name in self.table.column_names)
        return header + broken + (row - start) + 2


def _line_breaks(column: pa.Array | pa.ChunkedArray) -> int:
    r"""Count \n, \r and \r\n in all texts."""
    count = {
        end: pc.sum(pc.count_substring(column, end)).as_py() or 0 for end in ("\n", "\r", "\r\n")
    }
    return int(count["\n"] + count["\r"] - count["\r\n"])


def read_files(paths: Sequence[str | Path], *, encoding: str | None = None) -> Source:
    """Read files, `save_to_disk` folders and glob patterns as one table, in the order given.

    Args:
        paths: csv, tsv, json, jsonl/ndjson, parquet, arrow/feather, by suffix; matches of a pattern are sorted.
        encoding: of the text files; None is UTF-8. A byte-order mark is never part of the text.

    Returns:
        Every row of every file. Blank lines at the end of a text file are no rows; a blank line further
        up is a row with an empty text in a file of one column, and an error in others.

    Raises:
        UserError: all files that are missing or cannot be used, with the lines at fault.
    """
    files = find_files(paths)
    check_encoding(encoding)
    tables, formats, problems = [], [], []
    for file in files:
        try:
            formats.append(format_of(file, encoding))
            tables.append(_read(file, formats[-1], encoding))
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError.together(problems)
    names = _short_names(files)
    schema = _common_schema([table.schema for table in tables], names)
    tables = [_cast(table, schema, name) for table, name in zip(tables, names, strict=True)]
    parts = [
        Part(name, form, table.num_rows)
        for name, form, table in zip(names, formats, tables, strict=True)
    ]
    return Source(
        hold_on_disk(pa.concat_tables(tables)), printable(paths[0], most=1000), tuple(parts)
    )


@dataclass(frozen=True)
class CheckedFiles:
    """Files that were checked; each iteration yields their rows as record batches.

    Attributes:
        streams: of each file its schema, and what reads it.
        schema: of the batches.
        names: what messages call each file.
        rows: the most rows of a batch.
    """

    streams: Sequence[tuple[pa.Schema, Batches]]
    schema: pa.Schema
    names: Sequence[str]
    rows: int

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for (_, batches), name in zip(self.streams, self.names, strict=True):
            for batch in batches():
                table = _cast(pa.Table.from_batches([batch]), self.schema, name)
                yield from table.to_batches(max_chunksize=self.rows)


def open_files(
    paths: Sequence[str | Path], *, encoding: str | None = None, rows: int = 1000
) -> CheckedFiles:
    """Check files, so as to read the rows of `read_files` in batches, once or several times.

    All rows of the text files are checked before this returns, so that a bad row is known before the
    first good one is used. Memory does not grow with the files: those above 4 MB are read again by each
    iteration, except for an array in a .json file, which is held. Damaged pages of a large Parquet or
    Arrow file are found when they are reached.

    Args:
        paths: see `read_files`.
        encoding: see `read_files`.
        rows: the most rows a batch may have.

    Raises:
        UserError: see `read_files`.
    """
    files = find_files(paths)
    check_encoding(encoding)
    streams: list[tuple[pa.Schema, Batches]] = []
    problems = []
    for file in files:
        try:
            schema, batches = _open(file, format_of(file, encoding), encoding, rows)
            if file.stat().st_size <= SMALL_FILE_BYTES:
                batches = partial(iter, list(batches()))  # read once, however often it is iterated
            streams.append((schema, batches))
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError.together(problems)
    names = _short_names(files)
    schema = _common_schema([found for found, _ in streams], names)
    return CheckedFiles(streams, schema, names, rows)


def _read(file: Path, form: Format, encoding: str | None) -> pa.Table:
    if form in SEPARATORS:
        return read_csv(file, SEPARATORS[form], encoding)
    if form in ("json array", "json lines"):
        return read_json(file, encoding, array=form == "json array")
    schema, batches = _open(file, form, encoding, ROWS_PER_BATCH)
    return pa.Table.from_batches(list(batches()), schema)


def _open(file: Path, form: Format, encoding: str | None, rows: int) -> tuple[pa.Schema, Batches]:
    if form in SEPARATORS:
        return open_csv(file, SEPARATORS[form], encoding)
    if form in ("json array", "json lines"):
        return open_json(file, encoding, array=form == "json array")
    schema, batches = open_parquet(file, rows) if form == "parquet" else open_arrow(file)
    return schema, lambda: _with_rows(batches(), file)


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
