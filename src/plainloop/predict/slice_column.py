"""The column of --slice-column: its values for the rows that are evaluated."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.read_options import ReadOptions
from plainloop.data.custom.columns import match_name
from plainloop.data.custom.dataset import drop_empty_end, read_sources
from plainloop.data.files.nested import add_named
from plainloop.data.files.tables import Source, read_files
from plainloop.errors import UserError, printable
from plainloop.predict.loaded_run import Run

if TYPE_CHECKING:
    from datasets import DatasetDict

MOST_VALUES = 50


def read_labelled_files(run: Run, files: Sequence[str | Path], options: ReadOptions) -> Source:
    """Read labelled files for a run on files, with all their columns."""
    header = run.config.header if options.header is None else options.header
    return drop_empty_end(read_files(files, replace(options, header=header)))


def read_slice_column(
    run: Run,
    raw: "DatasetDict",
    column: str,
    files: Sequence[str | Path] = (),
    options: ReadOptions = ReadOptions(),
) -> dict[str, list[str]]:
    """Read a column's value for each row of each split, as text; "" if it is missing.

    Args:
        run: on files or a data set of the hub.
        raw: the splits, with idx, the number of each row in its file.
        column: of the same file; dotted for a value inside an object.
        files: the files of the rows. Default: the run's own.
        options: how to read the files.

    Raises:
        UserError: there is no such column, or it has more than 50 values, or more than one for two
            rows; or the run is on a task, of whose files only the texts and labels are read.
    """
    where = f"--slice-column {printable(column)}"
    if run.task.layout is not None:
        what = f"only the texts and labels of --task {run.task.name} are read"
        raise UserError(what, where=where, fix="leave it out")
    own = {} if files else read_sources(run.config)
    values = {}
    for split, rows in raw.items():
        source = (
            read_labelled_files(run, files, options)
            if files
            else drop_empty_end(own.get(split, own["train"]))
        )
        values[split] = _values_of(source, column, rows["idx"][:], where)
    return values


def _values_of(source: Source, column: str, rows: list[int], where: str) -> list[str]:
    table = add_named(source.table, [column])
    name = match_name(column, table.column_names)
    if name not in table.column_names:
        names = ", ".join(map(printable, table.column_names))
        what = f"no such column in {source.path}"
        raise UserError(what, where=where, fix=f"its columns: {names}")
    values = table[name].take(pa.array(rows))
    fix = f"choose a column with at most {MOST_VALUES} values, each in several rows"
    try:
        texts: list[str] = pc.fill_null(values.cast(pa.string()), "").to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(f"holds {values.type}", where=where, fix=fix) from None
    if (count := len(set(texts))) > min(MOST_VALUES, len(texts) / 2):
        what = f"{count} different values in {len(texts)} rows of {source.path}"
        raise UserError(what, where=where, fix=fix)
    return texts
