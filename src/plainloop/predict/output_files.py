"""Prediction files: csv, tsv, jsonl or parquet, written atomically."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plainloop.data.custom.column_types import is_text
from plainloop.errors import UserError, printable
from plainloop.run import output_file

PredictionFormat = Literal["csv", "tsv", "jsonl", "parquet"]
SUFFIXES: dict[str, PredictionFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}
STANDARD_STREAM = "-"
FORMULA = r"\A([=+\-@\t\r])"
"""Start of a cell that a spreadsheet would execute as a formula."""


def prediction_format(output: str, of_stream: PredictionFormat) -> PredictionFormat:
    """Determine the format of an output from its suffix.

    Args:
        output: path, or - for stdout.
        of_stream: format of stdout, which has no suffix.

    Raises:
        UserError: the suffix is unknown or missing.
    """
    if output == STANDARD_STREAM:
        return of_stream
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES:
        what = f"unknown suffix '{printable(suffix)}'" if suffix else "a file without a suffix"
        raise UserError(
            what,
            where=f"--output {printable(output, most=1000)}",
            fix="use .csv, .tsv, .jsonl or .parquet",
        )
    return SUFFIXES[suffix]


def check_schema(schema: pa.Schema, form: PredictionFormat, where: str) -> None:
    """Check that an output format can hold the input's columns.

    Raises:
        UserError: a column holds bytes and the format is not parquet.
    """
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    wrong = [field.name for field in schema if any(is_one(field.type) for is_one in binary)]
    if wrong and form != "parquet":
        raise UserError(
            f"column {wrong[0]!r} holds bytes, which {form} cannot",
            where=where,
            fix="give an --output with the suffix .parquet, or leave the column out of the file",
        )


def rows_with_nul(batch: pa.RecordBatch) -> list[int]:
    """Return the rows with a NUL character, at which readers of csv and tsv stop; sorted, from 0."""
    found: set[int] = set()
    for column in batch.columns:
        if is_text(column.type):
            found |= set(
                pc.indices_nonzero(pc.match_substring(column.cast(pa.string()), "\0")).to_pylist()
            )
    return sorted(found)


@contextmanager
def open_output(output: str) -> Iterator[BinaryIO]:
    """Open stdout, or a file that is written atomically (see `run.output_file`).

    Args:
        output: final path, whose folder exists, or - for stdout.
    """
    if output == STANDARD_STREAM:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with output_file.open_output(Path(output)) as file:
        yield file


def write_tables(
    tables: Iterable[pa.Table],
    file: BinaryIO,
    form: PredictionFormat,
    *,
    spreadsheet_safe: bool = False,
) -> None:
    r"""Write tables with the same columns to one file, with one table in memory at a time.

    csv and tsv follow RFC 4180 with UTF-8 and \n line ends: fields are quoted if needed, missing
    values are empty cells, lists and objects are JSON. jsonl keeps every string exactly; dates and
    decimals become strings.

    Args:
        tables: tables, at least one.
        file: binary file to write to.
        form: output format.
        spreadsheet_safe: in csv and tsv, put a ' before strings that a spreadsheet would execute as
            a formula: those that start with = + - @, tab or carriage return.
    """
    tables = iter(tables)
    first = next(tables)
    tables = chain([first], tables)
    if form == "parquet":
        with pq.ParquetWriter(file, first.schema) as writer:
            for table in tables:
                writer.write_table(table)
    elif form == "jsonl":
        for table in tables:
            rows = (json.dumps(row, ensure_ascii=False, default=str) for row in table.to_pylist())
            file.write("".join(f"{row}\n" for row in rows).encode())
    else:
        names = pa.array(first.column_names, pa.string())
        lines = csv.writer(_Lines(file), delimiter=DELIMITERS[form], lineterminator="\r\n")
        lines.writerow(_cells(names, spreadsheet_safe=spreadsheet_safe))
        for table in tables:
            columns = [
                _cells(column, spreadsheet_safe=spreadsheet_safe) for column in table.columns
            ]
            lines.writerows(zip(*columns, strict=True))


class _Lines:
    r"""File object for csv.writer that writes \n line ends.

    csv.writer itself must use \r\n, because only then does it quote a field with a lone \r.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n").encode() + b"\n")


def _cells(column: pa.Array | pa.ChunkedArray, *, spreadsheet_safe: bool) -> list[str | None]:
    was_text = is_text(column.type)
    if pa.types.is_nested(column.type):
        values: list[Any] = column.to_pylist()
        return [
            None if value is None else json.dumps(value, ensure_ascii=False, default=str)
            for value in values
        ]
    texts = column.cast(pa.string())
    if spreadsheet_safe and was_text:
        texts = pc.replace_substring_regex(texts, FORMULA, r"'\1")
    return cast("list[str | None]", texts.to_pylist())
