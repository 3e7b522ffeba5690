"""Raw splits of a GLUE task, from its files or from the hub, as a `datasets.DatasetDict`."""

import contextlib
import csv
import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.tasks import Layout, Task
from plainloop.data.files.csv_reader import (
    MOST_ROWS_SHOWN,
    and_more,
    check_has_rows,
    check_names_differ,
    count_rows,
    long_fields,
    read_counted,
    read_header,
)
from plainloop.data.files.memory_map import hold_on_disk
from plainloop.data.files.text import not_in_encoding
from plainloop.data.hub import load_hub_dataset
from plainloop.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)

SAMPLES_DIR = Path(str(files("plainloop.data"))) / "samples"


def read_splits(
    task: Task,
    data_dir: Path | None = None,
    *,
    test_file: Sequence[str] = (),
    max_train_samples: int | None = None,
) -> "DatasetDict":
    """Load the raw splits of a task.

    Args:
        task: of the table in tasks.py.
        data_dir: folder that holds the task's files, as its layout names them. Without it, the
            task's data set on the hub; the embedded samples for a task that is on no hub.
        test_file: a labelled file in the same layout, for a split named test; only one.
        max_train_samples: keep only the first rows of the training split.

    Returns:
        Splits train, validation, for MNLI validation_mismatched and, with a test file, test.
        Columns: the task's text columns (string), label (ClassLabel; float32 in a regression) and
        idx (int32, the row's number in its file, from 0).

    Raises:
        UserError: a file that is missing or cannot be used, with the lines at fault.
    """
    from datasets import DatasetDict

    layout = layout_of(task)
    if not layout.files:
        raise UserError(
            "has no labelled rows, so it cannot be trained",
            where=f"--task {task.name}",
            fix="train mnli, and predict this one with its run",
        )
    if data_dir is None and task.hub is None:
        data_dir = SAMPLES_DIR
    paths = {} if data_dir is None else {s: data_dir / name for s, name in layout.files.items()}
    if len(test_file) > 1:
        raise UserError(
            "a task has one", where=f"--test-file {test_file[1]}", fix="join them into one file"
        )
    if test_file:
        paths["test"] = Path(test_file[0])
    tables = _read_all(paths, task)
    raw = DatasetDict({} if data_dir else _load_from_hub(task))
    for split, table in tables.items():
        raw[split] = to_dataset(table, task)
    if max_train_samples is not None:
        raw["train"] = raw["train"].select(range(min(max_train_samples, len(raw["train"]))))
    return raw


def _read_all(paths: dict[str, Path], task: Task) -> dict[str, pa.Table]:
    """Read each file; all that are wrong are reported together, one missing folder once."""
    tables, problems = {}, {}
    for split, path in paths.items():
        try:
            tables[split] = read_glue_tsv(path, task)
        except UserError as problem:
            problems[str(problem)] = problem
    if problems:
        raise UserError.together(list(problems.values()))
    for split, table in tables.items():
        official = layout_of(task).num_rows.get(split, 0)
        if table.num_rows < official:
            logger.warning(
                "%s %s: %d rows, the official file has %d",
                task.name,
                split,
                table.num_rows,
                official,
            )
    return tables


def layout_of(task: Task) -> Layout:
    """Return the file layout of a GLUE task; only tasks of the user's files have none."""
    assert task.layout is not None, f"{task.name} is not of the table"  # noqa: S101
    return task.layout


def read_glue_tsv(path: Path, task: Task, *, labelled: bool = True) -> pa.Table:
    """Read one file in GLUE's own layout: UTF-8, tabs, quotes are text.

    Args:
        path: of the file.
        task: says which columns and labels the file must have.
        labelled: False for a test file whose labels are not given: it is read without them.

    Returns:
        The task's text columns (string), idx (int32) and, where labelled, label (int64; float32 in
        a regression). No text becomes a missing value: "NA" and "null" stay what they are.

    Raises:
        UserError: the file is missing, has a row with too few or too many fields, lacks a column,
            is not UTF-8, has no rows or no labels, or has a label that the task does not know.
    """
    layout = layout_of(task)
    header = layout.header if labelled else ()
    table = _read_tsv(path, header, skips_short_rows=layout.skips_short_rows)
    columns = {ours: theirs for ours, theirs in layout.columns.items() if ours != "label"}
    label = layout.columns["label"]
    missing = [theirs for theirs in columns.values() if theirs not in table.column_names]
    if missing:
        raise UserError(
            f"no column '{missing[0]}'; found: {', '.join(table.column_names)}",
            where=str(path),
            fix=f"--task {task.name} needs the columns {', '.join(layout.columns.values())}",
        )
    data = {ours: table[theirs] for ours, theirs in columns.items()}
    if labelled:
        if label not in table.column_names:
            raise UserError(
                f"no column '{label}', so no labels: this looks like an unlabelled test split",
                where=str(path),
                fix="give a labelled file",
            )
        data["label"] = _parse_labels(table[label], path, task, first_line=1 if header else 2)
    data["idx"] = pa.array(range(table.num_rows), pa.int32())
    return pa.table(data)


def _read_tsv(path: Path, header: tuple[str, ...], *, skips_short_rows: bool) -> pa.Table:
    """Every column as text; a blank line at the end of the file is not a row."""
    _check_file(path)
    where, names = str(path), list(header)
    # Not `read_lines`, which refuses a NUL: here it is text.
    with path.open(encoding="utf-8-sig", newline="") as lines, long_fields():
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            names = names or read_header(reader, where)
            check_names_differ(names, where)
            rows = count_rows(reader, names, blank_is_row=True)
        except UnicodeError as error:
            raise not_in_encoding(path, None, error, fix="save the file as UTF-8") from None
        except csv.Error as error:
            raise UserError(
                f"cannot be read as a table: {error}",
                where=where,
                fix="it must be UTF-8 text with tab-separated columns and a header",
            ) from None
    if rows.wrong and not (skips_short_rows and rows.all_short):
        raise UserError(
            f"{'; '.join(rows.wrong)}{and_more(rows.num_wrong)}; expected {len(names)}",
            where=where,
            fix="correct these lines: fields are separated by one tab each",
        )
    if rows.wrong:
        logger.warning("%s: %d rows lack fields and are left out", where, rows.num_wrong)
    check_has_rows(rows, where)
    return read_counted(path, names, rows, delimiter="\t", header=not header)


def _check_file(path: Path) -> None:
    if path.is_file():
        return
    folder = path.parent
    while not folder.is_dir():
        path, folder = folder, folder.parent
    if path.exists():
        what = "a file, not a folder" if path.is_file() else "a folder, not a file"
        raise UserError(what, where=str(path), fix="give the other")
    beside = [entry.name for entry in folder.iterdir()]
    hint = nearest(path.name, beside) or "there is nothing in it"
    raise UserError("no such file or folder", where=str(path), fix=f"in {folder}: {hint}")


def _parse_labels(
    column: pa.ChunkedArray, path: Path, task: Task, first_line: int
) -> pa.ChunkedArray | pa.Array:
    """Labels as the task has them: int64, or float32 in a regression.

    Raises:
        UserError: labels that the task does not know, with their lines.
    """
    if task.problem_type == "regression":
        return _parse_scores(column, path, first_line)
    known = (
        list(task.label_names)
        if task.layout and task.layout.labels_are_names
        else [str(label) for label in range(task.num_labels)]
    )
    labels = pc.index_in(column, pa.array(known))
    wrong = pc.indices_nonzero(pc.is_null(labels)).to_pylist()
    if wrong:
        shown = _show_labels(column, wrong, first_line)
        if len(wrong) == len(column) and all(column[row].as_py() == "-1" for row in wrong):
            shown = "every label is -1: this is an unlabelled split"
        raise UserError(shown, where=str(path), fix=f"a label must be one of {', '.join(known)}")
    return labels.cast(pa.int64())


def _parse_scores(column: pa.ChunkedArray, path: Path, first_line: int) -> pa.Array:
    scores = np.full(len(column), np.nan, np.float32)
    for row, text in enumerate(column.to_pylist()):
        with contextlib.suppress(ValueError):
            scores[row] = float(text)
    wrong = np.flatnonzero(~np.isfinite(scores)).tolist()
    if wrong:
        shown = _show_labels(column, wrong, first_line)
        raise UserError(shown, where=str(path), fix="a score must be a finite number")
    return pa.array(scores)


def _show_labels(column: pa.ChunkedArray, rows: list[int], first_line: int) -> str:
    shown = "; ".join(
        f"line {row + first_line} has the label '{column[row].as_py()}'"
        for row in rows[:MOST_ROWS_SHOWN]
    )
    return f"{shown}{and_more(len(rows))}"


def to_dataset(table: pa.Table, task: Task) -> Any:
    """A table as a `datasets.Dataset`, the label with the names of its classes."""
    from datasets import ClassLabel, Dataset, DatasetInfo, Features
    from datasets.fingerprint import generate_random_fingerprint
    from datasets.table import InMemoryTable

    features = Features.from_arrow_schema(table.schema)
    if task.problem_type == "single_label_classification" and "label" in features:
        features["label"] = ClassLabel(names=list(task.label_names))
    return Dataset(
        InMemoryTable(hold_on_disk(table)),
        info=DatasetInfo(features=features),
        # Without one, datasets pickles and hashes the rows, in four times their memory.
        fingerprint=generate_random_fingerprint(),
    )


def _load_from_hub(task: Task) -> dict[str, Any]:
    assert task.hub is not None, f"{task.name} has neither files nor a hub name"  # noqa: S101
    raw = load_hub_dataset(*task.hub, where=f"--task {task.name}, without --data-dir")
    # Test splits of GLUE have no labels: each is -1.
    theirs = {"validation": "validation_matched"} if task.name == "mnli" else {}
    return {split: raw[theirs.get(split, split)] for split in layout_of(task).files}
