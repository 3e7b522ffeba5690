"""How an ejected script reads the run's data: files, pyarrow options and label mapping."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.custom.column_types import is_list
from plainloop.data.custom.dataset import MYSQL_NULL, drop_empty_end
from plainloop.data.custom.label_checks import items_of
from plainloop.data.custom.label_column import plain_labels
from plainloop.data.files.csv_reader import Layout, check_csv
from plainloop.data.files.paths import find_files, format_of
from plainloop.data.files.tables import Source, open_files, read_files
from plainloop.data.files.text import COMPRESSIONS, encoding_of
from plainloop.data.glue import SAMPLES_DIR, layout_of
from plainloop.eject.literals import Code, literal
from plainloop.errors import UserError
from plainloop.training.prepare import Inputs

EJECTED_FORMATS = ("csv", "json array", "json lines", "parquet")


@dataclass(frozen=True)
class Rows:
    """How a script reads its rows.

    Attributes:
        settings: name -> value of the script's constants.
        files: split -> its file, or its files where a split has several.
        scored_splits: the splits that are scored after the training, beside the validation split.
        validation_rows: indices into the training rows, as the script reads them, of the validation
            split; None if it has its own files.
        copied: file name -> source path of the data files to copy into the script's data folder.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    scored_splits: Sequence[str] = ()
    validation_rows: Sequence[int] | None = None
    copied: Mapping[str, Path] = field(default_factory=dict)


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
    own = {} if config.data_dir else {name: SAMPLES_DIR / name for name in layout.files.values()}
    return Rows(settings, files, scored, copied=own)


def rows_of_files(inputs: Inputs) -> Rows:
    """Describe how to read the user's files.

    Args:
        inputs: the settings with the detected columns, and the rows as plainloop reads them.

    Raises:
        UserError: the files differ in format or quoting, or labels of multi-label rows are not
            written by name.
    """
    config, task = inputs.config, inputs.task
    given = {
        split: find_files(paths)
        for split, paths in (
            ("train", config.train_file),
            ("validation", config.validation_file),
            ("test", config.test_file),
        )
        if paths
    }
    form, encoding, layout = _only_format(
        [file for files in given.values() for file in files], config
    )
    several = any(len(files) > 1 for files in given.values())
    assert config.label_column is not None  # noqa: S101 - the resolved settings have it
    columns = dict(zip(task.text_columns, config.text_column, strict=True))
    sources = [read_files(files, config.read_options) for files in given.values()]
    _check_top_level(given["train"], config)
    _check_are_as_written(sources, config, task)
    numbers = _label_numbers(sources, config, task)
    if any(task.label_names[number] != text for text, number in numbers.items()):
        if task.problem_type == "multi_label_classification":
            text = next(text for text in numbers if text not in task.label_names)
            raise UserError(
                f"several labels a row, written as {text!r} and not by their names, are not ejected",
                where=f"--label-column {config.label_column}",
                fix="write the labels' names into the file",
            )
    else:
        numbers = {}
    has_text = [_has_text(source, config) for source in sources]
    validation_rows = None
    if "validation" not in given:
        # idx counts the rows of the file. With on_null=drop the script drops rows before it selects
        # the validation rows, so that their indices must count the kept rows only.
        kept = np.flatnonzero(has_text[0] | (config.on_null != "drop"))
        held_out = np.asarray(inputs.raw["validation"]["idx"][:])
        validation_rows = np.searchsorted(kept, held_out).tolist()
    parse_options: dict[str, Any] = {}
    read_options: dict[str, Any] = {"encoding": encoding} if encoding else {}
    if layout is not None:
        if layout.delimiter != ",":
            parse_options["delimiter"] = layout.delimiter
        parse_options |= {"newlines_in_values": True} if layout.quotes else {"quote_char": False}
        if not layout.names_above:
            read_options["column_names"] = layout.names
            read_options["skip_rows_after_names"] = layout.rows_above
    settings = {
        "HAS_SEVERAL_FILES": several,
        "FORMAT": form,
        "READ_OPTIONS": read_options,
        "PARSE_OPTIONS": parse_options,
        "ENCODING": encoding or "utf-8-sig",
        "COLUMNS": {**columns, "labels": config.label_column},
        "LIST_LABELS": is_list(sources[0].table.schema.field(config.label_column).type),
        "LABEL_NUMBERS": numbers,
        "LABELS_ARE_NAMES": True,
        "ON_NULL": "error" if np.concatenate(has_text).all() else config.on_null,
    }
    return Rows(
        settings,
        {
            split: [str(file) for file in files] if several else str(files[0])
            for split, files in given.items()
        },
        ["test"] if "test" in given else [],
        validation_rows,
    )


def _check_top_level(files: list[Path], config: TrainConfig) -> None:
    names = open_files(files, config.read_options).schema.names
    inside = [name for name in (*config.text_column, config.label_column) if name not in names]
    if inside:
        what, fix = "values inside objects are not ejected", "save the rows as csv or flat jsonl"
        raise UserError(what, where=f"column {inside[0]!r}", fix=fix)


def _only_format(files: list[Path], config: TrainConfig) -> tuple[str, str | None, Layout | None]:
    """Return the common format, encoding and, of text files of columns, layout of all files.

    Raises:
        UserError: the files differ in one of them; a script has a single function that reads.
    """
    if isinstance(config.label_column, tuple):
        what, fix = "several columns are not ejected", "write a row's labels into one column"
        raise UserError(what, where="--label-column", fix=fix)
    kinds: dict[str, tuple[str, str | None, Layout | None]] = {}
    for file in files:
        encoding = encoding_of(file, config.encoding)
        options = replace(config.read_options, encoding=encoding)
        form, layout = format_of(file, options), None
        kind = form if encoding == config.encoding else f"{form} in {encoding}"
        if form not in EJECTED_FORMATS or (form != "csv" and file.suffix.lower() in COMPRESSIONS):
            raise UserError(
                f"{'compressed ' * (form in EJECTED_FORMATS)}{form} files are not ejected",
                where=str(file),
                fix="save the rows as parquet, csv or jsonl",
            )
        if form == "csv":
            layout = check_csv(file, options)
            names = "" if layout.names_above else f", named {', '.join(layout.names)}"
            quotes = "" if layout.quotes else " and quotes as text"
            kind += f" with {layout.separator}{quotes}{names}"
        kinds[kind] = form, encoding, layout
    if len(kinds) > 1:
        raise UserError(
            f"files of different formats are not ejected: {' and '.join(sorted(kinds))}",
            where="--train-file, --validation-file, --test-file",
            fix="save them in one format",
        )
    return kinds.popitem()[1]


def _check_are_as_written(sources: list[Source], config: TrainConfig, task: Task) -> None:
    """Check that texts and labels are used as the files have them.

    Raises:
        UserError: a script would read other columns, rows or labels.
    """
    for source in sources:
        if what := _find_rewritten(source, config, task):
            fix = "write texts and labels plainly, in each row"
            raise UserError(f"{what}: not ejected", where=source.path, fix=fix)


def _find_rewritten(source: Source, config: TrainConfig, task: Task) -> str:
    label, names = str(config.label_column), source.table.column_names
    if missing := [name for name in (*config.text_column, label) if name not in names]:
        return f"column {missing[0]!r} has another name here"
    kind, known = task.problem_type, task.label_names
    plain = plain_labels(source, label, problem_type=kind, known=known, drop=True)
    if not plain.table[label].equals(source.table[label]):
        return "labels that are numbers of class names, lists in a text, or marks of a missing one"
    blank = pc.is_null(plain.table[label])
    if kind != "multi_label_classification":  # where an empty text has no label of several
        blank = pc.fill_null(pc.equal(plain.table[label].cast(pa.string()), ""), True)
    if drop_empty_end(source) is not source or (config.on_null == "drop" and pc.any(blank).as_py()):
        return "rows without a label"
    texts = [source.table[name].cast(pa.string()) for name in config.text_column]
    has_null = any(pc.any(pc.equal(text, MYSQL_NULL)).as_py() for text in texts)
    return f"texts {MYSQL_NULL}" if has_null else ""


def _label_numbers(sources: list[Source], config: TrainConfig, task: Task) -> dict[str, int]:
    """Map each label, as written in the files, to its label id; empty for regression."""
    column = str(config.label_column)
    if task.problem_type == "regression":
        return {}
    texts = pa.concat_arrays([_label_texts(source.table[column], config) for source in sources])
    texts = texts.unique()
    written = Source(pa.table({column: texts}), sources[0].path)
    names, _ = items_of(written, column, "single_label_classification", None)
    known = dict(zip(task.label_names, range(task.num_labels), strict=True))
    if not set(names.to_pylist()) <= known.keys():  # files with the label ids of a checkpoint
        known = {str(number): number for number in known.values()}
    numbers = [known[name] for name in names.to_pylist()]
    return dict(zip(texts.to_pylist(), numbers, strict=True))


def _label_texts(column: pa.ChunkedArray, config: TrainConfig) -> pa.Array:
    """Return the labels of all rows as strings (labels,), with multi-label rows flattened."""
    values = column.combine_chunks()
    if is_list(values.type):
        values = pc.list_flatten(values)
    elif config.label_separator is not None:
        values = pc.list_flatten(pc.split_pattern(values.cast(pa.string()), config.label_separator))
        values = pc.utf8_trim_whitespace(values)
        values = values.filter(pc.not_equal(values, ""))
    return values.cast(pa.string())


def _has_text(source: Source, config: TrainConfig) -> Any:
    """Return whether each row has all its texts, bool (rows,)."""
    valid = [pc.is_valid(source.table[name]).to_numpy() for name in config.text_column]
    return np.logical_and.reduce(valid)
