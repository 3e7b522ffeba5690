"""Validate the files to predict, before the model is loaded."""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.custom.columns import find_columns, match_name
from plainloop.data.files.nested import add_named
from plainloop.data.files.tables import Source
from plainloop.errors import UserError
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
    with tempfile.TemporaryDirectory(prefix="plainloop-") as folder:
        file = Path(folder) / f"stdin.{stream_format}"
        with file.open("wb") as spooled:
            shutil.copyfileobj(sys.stdin.buffer, spooled)
        try:
            yield [file]
        except UserError as error:
            texts = [str(problem).replace(f"{folder}/", "") for problem in error.problems()]
            raise UserError.together([UserError(text) for text in texts]) from None


def validate_inputs(
    batches: Iterable[pa.RecordBatch],
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
        batches: rows of the files, at least one batch.
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
    for batch in batches:
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
    rows = Source(pa.table({}), where)
    problems = []
    if without_text and on_null == "error":
        problems.append(
            UserError(
                f"no text in {rows.show(without_text)}",
                where=where,
                fix="--on-null empty takes them as empty",
            )
        )
    if with_nul:
        problems.append(
            UserError(
                f"{len(with_nul)} rows hold a NUL, which {form} cannot: {rows.show(with_nul)}",
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
