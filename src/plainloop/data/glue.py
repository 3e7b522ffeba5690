"""Load the raw splits: a task's files, or its data set on the hub, as `datasets.DatasetDict`."""

import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from plainloop.config.tasks import Layout, Task
from plainloop.data.files.memory_map import hold_on_disk
from plainloop.data.glue_labels import MOST_LINES_SHOWN, and_more, parse_labels
from plainloop.data.hub import load_hub_dataset
from plainloop.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)

SAMPLES_DIR = Path(str(files("plainloop.data"))) / "samples"
SMALLEST_BLOCK_BYTES, LARGEST_BLOCK_BYTES = 2**20, 2**31 - 1


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
    """The layout of a task of the table; only a person's own files have none."""
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
        data["label"] = parse_labels(table[label], path, task, first_line=1 if header else 2)
    data["idx"] = pa.array(range(table.num_rows), pa.int32())
    return pa.table(data)


def _read_tsv(path: Path, header: tuple[str, ...], *, skips_short_rows: bool) -> pa.Table:
    """Every column as text; a blank line at the end of the file is not a row."""
    _check_file(path)
    wrong_rows: list[Any] = []

    def note_wrong_row(row: Any) -> str:
        wrong_rows.append(row)
        return "skip"

    names = list(header) or _read_header(path)
    _check_encoding(path)
    # One thread: only then does Arrow say which row is wrong. One block: a row may be of any length.
    block_size = min(max(SMALLEST_BLOCK_BYTES, path.stat().st_size), LARGEST_BLOCK_BYTES)
    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(
                use_threads=False, block_size=block_size, column_names=header or None
            ),
            parse_options=csv.ParseOptions(
                delimiter="\t",
                quote_char=False,
                ignore_empty_lines=False,
                invalid_row_handler=note_wrong_row,
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise UserError(
            f"cannot be read as a table: {error}",
            where=str(path),
            fix="it must be UTF-8 text with tab-separated columns and a header",
        ) from None
    if skips_short_rows and all(row.actual_columns < row.expected_columns for row in wrong_rows):
        if wrong_rows:
            logger.warning("%s: %d rows lack fields and are left out", path, len(wrong_rows))
    elif wrong_rows:
        shown = "; ".join(
            f"line {row.number} has {row.actual_columns} field{'s' * (row.actual_columns != 1)}"
            for row in wrong_rows[:MOST_LINES_SHOWN]
        )
        raise UserError(
            f"{shown}{and_more(len(wrong_rows))}; expected {wrong_rows[0].expected_columns}",
            where=str(path),
            fix="mend these lines: fields are separated by one tab each",
        )
    num_rows = _rows_before_trailing_blanks(table)
    if num_rows == 0:
        raise UserError("no rows below the header", where=str(path), fix="give a file with rows")
    return table.slice(0, num_rows)


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


def _check_encoding(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"byte 0x{line[error.start]:02X} on line {number} is not UTF-8",
                    where=str(path),
                    fix="save the file as UTF-8",
                ) from None


def _read_header(path: Path) -> list[str]:
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", errors="replace")
    if not header.strip():
        raise UserError("the file is empty", where=str(path), fix="give a file with rows")
    if not header.endswith("\n"):
        raise UserError("no rows below the header", where=str(path), fix="give a file with rows")
    names = header.rstrip("\r\n").split("\t")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"column '{twice[0]}' appears twice", where=str(path), fix="rename one of the two"
        )
    return names


def _rows_before_trailing_blanks(table: pa.Table) -> int:
    """How many rows are left when blank lines at the end are taken off."""
    rows = int(table.num_rows)
    while rows and all(column[rows - 1].as_py() == "" for column in table.columns):
        rows -= 1
    return rows


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
