"""How an ejected script reads the run's data: from its files, or from copies of the rows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.custom.column_types import is_list
from plainloop.data.files.csv_reader import check_csv
from plainloop.data.files.paths import find_files, format_of
from plainloop.data.files.tables import read_files
from plainloop.data.files.text import COMPRESSIONS, encoding_of
from plainloop.data.glue import SAMPLES_DIR, layout_of
from plainloop.eject.literals import Code, literal
from plainloop.training.prepare import Inputs

PLAIN_FORMATS = ("json lines", "parquet")


@dataclass(frozen=True)
class Rows:
    """How a script reads its rows.

    Attributes:
        settings: name -> value of the script's constants.
        files: split -> its file, or its files where a split has several.
        scored_splits: the splits that are scored after the training, other than the validation split.
        validation_rows: indices into the training rows, as the script reads them, of the validation
            split; None if it has its own files.
        copied: file name -> path or content of the files in the script's data folder.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    scored_splits: Sequence[str] = ()
    validation_rows: Sequence[int] | None = None
    copied: Mapping[str, Path | bytes] = field(default_factory=dict)


def rows_of_task(config: TrainConfig, task: Task) -> Rows:
    """Describe how to read a task's rows: from GLUE's files, the embedded samples or the Hub."""
    layout = layout_of(task)
    if config.data_dir is None and task.hub is not None:
        scored = ["validation_mismatched"] if task.name == "mnli" else []
        return Rows({"DATASET_NAME": task.hub[0], "DATASET_CONFIG_NAME": task.hub[1]}, {}, scored)
    files: dict[str, str] = {
        split: Code(f"f{literal(f'{{DATA_DIR}}/{name}')}") for split, name in layout.files.items()
    }
    if config.test_file:
        files["test"] = config.test_file[0]
    options: dict[str, Any] = {"delimiter": "\t", "quote_char": False}
    if layout.skips_short_rows:  # rows of the official file that lack fields
        options["invalid_row_handler"] = Code('lambda _row: "skip"')
    columns = {ours: theirs for ours, theirs in layout.columns.items() if ours != "label"}
    settings = {
        "READ_OPTIONS": {"column_names": list(layout.header)} if layout.header else {},
        "PARSE_OPTIONS": options,
        "COLUMNS": {**columns, "labels": layout.columns["label"]},
        "LABELS_ARE_NAMES": layout.labels_are_names,
    }
    scored = [split for split in files if split not in ("train", "validation")]
    own: dict[str, Path | bytes] = {}
    if config.data_dir is None:
        own = {name: SAMPLES_DIR / name for name in layout.files.values()}
    return Rows(settings, files, scored, copied=own)


def rows_of_files(inputs: Inputs) -> Rows:
    """Describe how to read the user's rows: from their files, or else from copies next to the script.

    Args:
        inputs: the settings with the detected columns, and the rows as plainloop reads them.
    """
    config, task = inputs.config, inputs.task
    files = {
        split: find_files(paths)
        for split, paths in (
            ("train", config.train_file),
            ("validation", config.validation_file),
            ("test", config.test_file),
        )
        if paths
    }
    options = _format_options([file for paths in files.values() for file in paths], config)
    scored = ["test"] if "test" in inputs.raw else []
    tables = {split: read_files(paths, config.read_options).table for split, paths in files.items()}
    if options is None or not _are_as_written(tables, inputs):
        return _copied_rows(inputs, scored)
    columns = dict(zip(task.text_columns, config.text_column, strict=True))
    several = any(len(paths) > 1 for paths in files.values())
    settings = {
        **options,
        "HAS_SEVERAL_FILES": several,
        "COLUMNS": {**columns, "labels": config.label_column},
        "LIST_LABELS": is_list(tables["train"].schema.field(config.label_column).type),
        "LABELS_ARE_NAMES": True,
    }
    held_out = None if "validation" in files else inputs.raw["validation"]["idx"][:]
    named = {s: [*map(str, paths)] if several else str(paths[0]) for s, paths in files.items()}
    return Rows(settings, named, scored, held_out)


def _copied_rows(inputs: Inputs, scored: Sequence[str]) -> Rows:
    """Rows as plainloop reads them, as parquet files next to the script, with the labels' names."""
    task, names, copied = inputs.task, inputs.task.label_names, {}
    for split, rows in inputs.raw.items():
        labels: Any = rows.with_format("numpy")["label"][:]
        if task.problem_type == "multi_label_classification":
            labels = [[names[label] for label in np.flatnonzero(of_row)] for of_row in labels]
        elif names:
            labels = [names[label] for label in labels]
        columns = {name: rows[name][:] for name in task.text_columns}
        target = pa.BufferOutputStream()
        pq.write_table(pa.table({**columns, "label": labels}), target)
        copied[f"{split}.parquet"] = target.getvalue().to_pybytes()
    files: dict[str, str] = {
        split: Code(f"f{literal(f'{{DATA_DIR}}/{split}.parquet')}") for split in inputs.raw
    }
    settings = {
        "FORMAT": "parquet",
        "COLUMNS": {**{name: name for name in task.text_columns}, "labels": "label"},
        "LIST_LABELS": task.problem_type == "multi_label_classification",
        "LABELS_ARE_NAMES": True,
    }
    return Rows(settings, files, scored, copied=copied)


def _format_options(files: Sequence[Path], config: TrainConfig) -> dict[str, Any] | None:
    """Return the settings of the one function that reads the files; None if it would need others."""
    found = []
    for file in files:
        encoding = encoding_of(file, config.encoding)
        options = replace(config.read_options, encoding=encoding)
        form = format_of(file, options)
        read: dict[str, Any] = {"encoding": encoding} if encoding else {}
        parse: dict[str, Any] = {}
        if form == "csv":
            layout = check_csv(file, options)
            if layout.delimiter != ",":
                parse["delimiter"] = layout.delimiter
            parse |= {"newlines_in_values": True} if layout.quotes else {"quote_char": False}
            if not layout.names_above:
                read["column_names"] = layout.names
                read["skip_rows_after_names"] = layout.rows_above
        elif encoding or form not in PLAIN_FORMATS or file.suffix.lower() in COMPRESSIONS:
            return None
        found.append({"FORMAT": form, "READ_OPTIONS": read, "PARSE_OPTIONS": parse})
    is_one = found and all(options == found[0] for options in found)
    return found[0] if is_one else None


def _are_as_written(tables: Mapping[str, pa.Table], inputs: Inputs) -> bool:
    """Whether plainloop's rows are those of the tables, with all their texts and labels as they are."""
    config, label = inputs.config, inputs.config.label_column
    for split, rows in inputs.raw.items():
        table = tables.get(split, tables["train"])
        if not {*config.text_column, label} <= {*table.column_names}:
            return False
        numbers = np.asarray(rows["idx"][:])
        if split == "train":
            held_out = [] if "validation" in tables else inputs.raw["validation"]["idx"][:]
            there = np.setdiff1d(np.arange(table.num_rows), held_out)[: config.max_train_samples]
        else:
            there = np.arange(table.num_rows) if split in tables else numbers
        if not np.array_equal(numbers, there):
            return False
        table = table.take(numbers)
        texts = zip(inputs.task.text_columns, config.text_column, strict=True)
        if any(table[name].cast(pa.string()).to_pylist() != rows[ours][:] for ours, name in texts):
            return False
        if not _are_labels(table[label], rows["label"][:], inputs):
            return False
    return True


def _are_labels(column: pa.ChunkedArray, labels: Sequence[Any], inputs: Inputs) -> bool:
    """Whether a column has the names of labels, or in a regression the numbers, or lists of names."""
    names, kind, written = inputs.task.label_names, inputs.task.problem_type, column.to_pylist()
    if None in written or (is_list(column.type) and kind != "multi_label_classification"):
        return False
    if kind == "multi_label_classification":
        if not is_list(column.type):
            written = [text.split(inputs.config.label_separator) for text in written]
        sets = [{str(name).strip() for name in of_row} - {""} for of_row in written]
        return sets == [{names[n] for n in np.flatnonzero(of_row)} for of_row in labels]
    texts = column.cast(pa.string()).to_pylist()
    if kind == "regression":
        with suppress(ValueError):  # as of a comma, for which the script has no eye
            return np.array_equal(np.array(texts, float).astype("f4"), np.array(labels, "f4"))
        return False
    return bool(texts == [names[label] for label in labels])
