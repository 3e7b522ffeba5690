"""Validate the files and texts to predict, before the model is loaded."""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.custom.columns import find_columns, match_name
from plainloop.data.files.nested import add_named
from plainloop.data.files.tables import CheckedFiles, Source
from plainloop.errors import UserError, printable
from plainloop.predict.output_columns import name_columns
from plainloop.predict.output_files import (
    DELIMITERS,
    STANDARD_STREAM,
    PredictionFormat,
    check_schema,
    rows_with_nul,
)

ROWS_PER_CHUNK = 1000
TEXT = "text"
OnNull = Literal["error", "empty"]


@dataclass(frozen=True)
class ValidatedInputs:
    """Result of `validate_inputs`.

    Attributes:
        text: names of the text columns.
        added: names of the columns that the prediction adds.
        num_rows: rows of all files together.
    """

    text: tuple[str, ...]
    added: list[str]
    num_rows: int


@contextmanager
def open_inputs(
    paths: Sequence[str | Path], stream_format: PredictionFormat
) -> Iterator[Sequence[str | Path]]:
    """Yield the paths; replace - by a temporary copy of stdin, because inputs are read twice.

    The first pass validates all rows, the second predicts them.

    Args:
        paths: files, or - alone.
        stream_format: file format of stdin.

    Raises:
        UserError: - is combined with other files.
    """
    if STANDARD_STREAM not in map(str, paths):
        yield paths
        return
    if len(paths) > 1:
        raise UserError("is stdin, which is read alone", where="--file -", fix="give it alone")
    with _spooled(f"stdin.{stream_format}") as (path, file):
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.close()
        yield [path]


@contextmanager
def open_texts(
    rows: Iterable[Sequence[str | None]], columns: Sequence[str]
) -> Iterator[Sequence[str | Path]]:
    """Yield a temporary file of texts, which is read as the files to predict are.

    Args:
        rows: the texts of each row; None is a missing one.
        columns: their names.

    Raises:
        UserError: a row has another number of texts, or there are none.
    """
    number = 0
    with _spooled("texts.jsonl") as (path, file):
        for number, row in enumerate(rows, start=1):
            if len(row) != len(columns):
                raise UserError(
                    f"the run predicts {' and '.join(columns)}, and this has {len(row)} texts",
                    where=f"text {number}",
                    fix="give two for each row; on stdin a tab separates them",
                )
            file.write(json.dumps(dict(zip(columns, row, strict=True))).encode() + b"\n")
        if not number:
            raise UserError(
                "nothing to predict", fix="give a file, --text TEXT, or lines of text on stdin"
            )
        file.close()
        yield [path]


def group_texts(texts: Sequence[str], columns: Sequence[str]) -> list[Sequence[str]]:
    """The rows of texts that were given one after the other."""
    return [texts[start : start + len(columns)] for start in range(0, len(texts), len(columns))]


def read_lines(columns: Sequence[str]) -> Iterator[list[str | None]]:
    """Yield the texts of each line of stdin; a blank line has None, and the last ones are none.

    Raises:
        UserError: it is not UTF-8, or its first line is that of a csv, tsv or jsonl file.
    """
    blank = 0
    for number, line in enumerate([] if sys.stdin.isatty() else sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8" if number > 1 else "utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(
                "not UTF-8", where=f"stdin, line {number}", fix="convert it to UTF-8"
            ) from None
        cells = {cell.strip(' "') for cell in re.split(r"[,;\t:{}]", text)}
        if number == 1 and not cells.isdisjoint(columns):
            raise UserError(
                f"the first line, {printable(text)}, is not a text but of a table",
                where="stdin",
                fix="--file - reads csv, and with --format also tsv and jsonl",
            )
        if not text.strip():
            blank += 1
            continue
        for _ in range(blank):
            yield [None] * len(columns)
        yield text.split("\t") if len(columns) > 1 else [text]
        blank = 0


@contextmanager
def _spooled(name: str) -> Iterator[tuple[Path, BinaryIO]]:
    """A temporary file, open to be written, whose folder is in no message."""
    with tempfile.TemporaryDirectory(prefix="plainloop-") as folder:
        path = Path(folder) / name
        try:
            with path.open("wb") as file:
                yield path, file
        except UserError as error:
            texts = [str(problem).replace(f"{folder}/", "") for problem in error.problems()]
            raise UserError.together([UserError(text) for text in texts]) from None


def validate_inputs(
    files: CheckedFiles,
    where: str,
    task: Task,
    config: TrainConfig,
    *,
    text_column: Sequence[str],
    on_null: OnNull,
    form: PredictionFormat,
) -> ValidatedInputs:
    """Read all rows once, batch by batch, and report everything that would stop their prediction.

    Args:
        files: the files.
        where: name of the files in messages.
        task: task of the run.
        config: settings of the run.
        text_column: names of the text columns. Default: those of the training.
        on_null: whether rows without text are an error or count as empty texts.
        form: format of the output, which must be able to hold the files' columns.

    Raises:
        UserError: every problem, with the row numbers.
    """
    found: ValidatedInputs | None = None
    num_rows = 0
    without_text: list[int] = []
    with_nul: list[int] = []
    for batch in files:
        names = batch.schema.names
        if found is None:
            wanted = tuple(text_column) or _columns_of_training(task, config, names)
            source = Source(add_named(pa.Table.from_batches([batch]), wanted), where)
            text = find_columns(source, text_column=wanted, labelled=False).text
            if len(text) != len(task.text_columns):
                raise UserError(
                    f"{len(text)} given, and the run was trained on {len(task.text_columns)}",
                    where="--text-column",
                    fix="name as many columns",
                )
            check_schema(batch.schema, form, where)
            found = ValidatedInputs(text, name_columns(task, names, where), 0)
        texts = add_named(pa.Table.from_batches([batch]), found.text)
        nulls = {row for name in found.text for row in _null_rows(texts[name])}
        without_text += [num_rows + row for row in sorted(nulls)]
        if form in DELIMITERS:
            with_nul += [num_rows + row for row in rows_with_nul(batch)]
        num_rows += batch.num_rows
    assert found is not None  # noqa: S101 - files without rows are refused
    problems = []
    if without_text and on_null == "error":
        problems.append(
            UserError(
                f"no text in {files.show(without_text)}",
                where=where,
                fix="--on-null empty takes them as empty",
            )
        )
    if with_nul:
        problems.append(
            UserError(
                f"{len(with_nul)} rows hold a NUL, which {form} cannot: {files.show(with_nul)}",
                where=where,
                fix="give an --output with the suffix .jsonl or .parquet",
            )
        )
    if problems:
        raise UserError.together(problems)
    return replace(found, num_rows=num_rows)


def _null_rows(column: pa.Array) -> list[int]:
    rows: list[int] = pc.indices_nonzero(pc.is_null(column)).to_pylist()
    return rows


def _columns_of_training(task: Task, config: TrainConfig, names: Sequence[str]) -> tuple[str, ...]:
    """Text columns as in the training; for a GLUE task, by name in its files or in plainloop."""
    if task.layout is None and len(config.text_column) == 1 and names == [TEXT]:
        return (TEXT,)  # a file of one text a line has no names
    if task.layout is None:
        return tuple(match_name(name, names) for name in config.text_column)
    theirs = tuple(task.layout.columns[name] for name in task.text_columns)
    return theirs if set(theirs) <= set(names) else task.text_columns
