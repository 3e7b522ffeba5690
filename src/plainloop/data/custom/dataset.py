"""Custom data sets: a user's files or a hub data set as a task and raw splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.custom.column_types import can_be_text, filled
from plainloop.data.custom.columns import Columns, find_columns, match_name
from plainloop.data.custom.decimal_commas import with_decimal_points
from plainloop.data.custom.given_rows import named_labels
from plainloop.data.custom.label_column import plain_labels
from plainloop.data.custom.labels import Labels, encode_labels, infer_labels
from plainloop.data.custom.one_hot import find_one_hot, join_one_hot
from plainloop.data.custom.split import number_texts, split_rows
from plainloop.data.files.nested import add_named
from plainloop.data.files.tables import Source, read_files
from plainloop.data.glue import to_dataset
from plainloop.data.hub import load_hub_dataset
from plainloop.errors import UserError
from plainloop.metrics.task_metric import DEFAULT_METRICS

if TYPE_CHECKING:
    from datasets import DatasetDict

MYSQL_NULL = "\\N"
"""What MySQL writes for null."""
TEXT_COLUMNS = ("text", "text_pair")
"""What the texts are called in the raw splits, whatever their files call them."""


@dataclass(frozen=True)
class CustomDataset:
    """A custom data set as read, and what was inferred from it.

    Attributes:
        task: made of what was found.
        raw: splits train, validation and, if there is a test file, test, as `read_splits` has them.
        config: the settings with what was found filled in, so that the next run need not look for it.
        found: printable lines: which columns, which labels, which split, and why.
        sources: split -> source of its rows; a split that was drawn from train has train's.
    """

    task: Task
    raw: "DatasetDict"
    config: TrainConfig
    found: tuple[str, ...]
    sources: Mapping[str, Source]

    def show(self, split: str, rows: Sequence[int]) -> str:
        """File lines of a split's rows, which are given by their `idx`."""
        return self.sources.get(split, self.sources["train"]).show(rows)


def read_custom_dataset(
    config: TrainConfig,
    checkpoint_labels: Sequence[str] | None = None,
    given: Mapping[str, Source] | None = None,
) -> CustomDataset:
    """Read the rows that the settings name, and find their columns, labels and validation part.

    Args:
        config: with `train_file` or `dataset`, unless rows are given.
        checkpoint_labels: the labels of a checkpoint that has a head, in its order.
        given: split -> its rows, instead of those that the settings name.

    Raises:
        UserError: what is wrong with the files, columns or labels, with the rows at fault.
    """
    read = given or read_sources(config)
    sources = {split: drop_empty_end(source) for split, source in read.items()}
    why = "--label-column" if config.label_column else "the only other columns"
    sources, config, hot = _join_label_columns(sources, config)
    assert not isinstance(config.label_column, tuple)  # noqa: S101 - they are one now
    train = sources["train"]
    columns = find_columns(
        train,
        text_column=config.text_column,
        label_column=config.label_column,
        group_column=config.group_column,
    )
    assert columns.label is not None  # noqa: S101
    if config.label_separator is None:
        sources = {s: with_decimal_points(one, columns.label) for s, one in sources.items()}
        train = sources["train"]
    unlabelled = leave_out_unlabelled_test(sources, columns.label, config)
    drop, known = config.on_null == "drop", checkpoint_labels or ()
    labels = infer_labels(
        plain_labels(
            train, columns.label, problem_type=config.problem_type, known=known, drop=drop
        ),
        columns.label,
        problem_type=config.problem_type,
        label_separator=config.label_separator,
        checkpoint_labels=checkpoint_labels,
        drop=drop,
    )
    tables = _read_tables(sources, columns, labels, config)
    notes = dict.fromkeys(note for source in sources.values() for note in source.notes)
    reasons = list(columns.reasons)
    if hot:
        reasons[-1] = f"label: {len(hot)} columns of 0 and 1, one for each label ({why})"
    found = [*notes, *reasons, labels.reason, *unlabelled]
    first = str(next(iter(filled(train.table[columns.label])), ""))
    if first[:1] in (*"[{(",) and first not in labels.label_names and not labels.is_list:
        found.append("labels: each list holds one label, so they are classes")
    found += _left_out_rows(sources, tables)
    if "validation" not in tables:
        found.append(_hold_out_validation(tables, train, columns, labels, config))
    task = Task(
        name=config.data_name,
        text_columns=TEXT_COLUMNS[: len(columns.text)],
        label_names=labels.label_names,
        metrics=DEFAULT_METRICS[labels.problem_type],
        problem_type=labels.problem_type,
    )
    tables["train"] = tables["train"].slice(0, config.max_train_samples)
    from datasets import DatasetDict

    order = [split for split in ("train", "validation", "test") if split in tables]
    raw = DatasetDict({split: to_dataset(tables[split], task) for split in order})
    resolved = replace(
        config,
        text_column=columns.text,
        label_column=hot or columns.label,
        problem_type=labels.problem_type,
        label_separator=labels.separator,
    )
    return CustomDataset(task, raw, resolved, tuple(found), sources)


def _read_tables(
    sources: Mapping[str, Source], columns: Columns, labels: Labels, config: TrainConfig
) -> dict[str, pa.Table]:
    """Run `read_rows` for each split; the problems of all of them are raised together."""
    tables, problems = {}, []
    for split, source in sources.items():
        try:
            tables[split] = read_rows(source, columns, labels, config)
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError.together(problems)
    return tables


def _left_out_rows(sources: Mapping[str, Source], tables: Mapping[str, pa.Table]) -> list[str]:
    """A line for each split of which `--on-null drop` has left out rows."""
    lines = []
    for split, source in sources.items():
        left_out = np.setdiff1d(np.arange(source.table.num_rows), tables[split]["idx"]).tolist()
        if left_out:
            what = f"{len(left_out)} rows without a text or label are left out"
            lines.append(f"{split}: {what}: {source.show(left_out)} (--on-null drop)")
    return lines


def _hold_out_validation(
    tables: dict[str, pa.Table],
    train: Source,
    columns: Columns,
    labels: Labels,
    config: TrainConfig,
) -> str:
    """Move a part of the training rows to a validation split, in `tables`; the line that says so."""
    table = tables["train"]
    texts = [table[name] for name in TEXT_COLUMNS[: len(columns.text)]]
    idx = table["idx"].to_numpy()
    rows, held_out = split_rows(
        _as_array(table["label"], labels),
        labels.problem_type,
        validation_fraction=config.validation_fraction,
        seed=config.split_seed,
        groups=_groups(train.table, config.group_column, table),
        copies=number_texts(texts) if config.group_duplicates else None,
        label_names=labels.label_names,
        show=lambda rows: train.show(idx[rows].tolist()),
    )
    tables["validation"] = table.take(pa.array(held_out))
    tables["train"] = table.take(pa.array(rows))
    return (
        f"validation: {len(held_out)} of {len(table)} rows, seed {config.split_seed} "
        f"(--validation-fraction {config.validation_fraction:g})"
    )


def read_rows(
    source: Source, columns: Columns, labels: Labels | None, config: TrainConfig
) -> pa.Table:
    """The columns of a raw split, of one source.

    Args:
        source: as read.
        columns: which of its columns are the texts and the label.
        labels: how to number its labels; None: leave them out.
        config: its `on_null` says what to do with a missing text or label.

    Raises:
        UserError: a column or a text is missing, or a label cannot be used.
    """
    named = [*columns.text, *([columns.label] if labels and columns.label else [])]
    source = replace(source, table=add_named(source.table, named))
    names = source.table.column_names
    label = match_name(columns.label, names) if labels and columns.label else None
    text_names = [match_name(name, names) for name in columns.text]
    missing = [name for name in [*text_names, label] if name and name not in names]
    if missing:
        raise UserError(
            f"no column {missing[0]!r}, which the training data have; found: {', '.join(names)}",
            where=source.path,
            fix="give a file with the same columns, or rename its own",
        )
    problems, data = [], {}
    texts = [source.table[name].cast(pa.string()) for name in text_names]
    texts = [pc.if_else(pc.equal(text, MYSQL_NULL), None, text) for text in texts]
    is_null = pc.is_null(texts[0])
    for text in texts[1:]:
        is_null = pc.or_(is_null, pc.is_null(text))
    rows = pc.indices_nonzero(is_null).to_pylist()
    if rows and config.on_null == "error":
        problems.append(
            UserError(
                f"no text in {source.show(rows)}",
                where=source.path,
                fix="--on-null drop leaves them out, --on-null empty takes them as empty",
            )
        )
    for name, text in zip(TEXT_COLUMNS, texts, strict=False):
        data[name] = pc.fill_null(text, "")
    drop = config.on_null == "drop"
    if labels and label:
        try:
            plain = plain_labels(
                source,
                label,
                problem_type=labels.problem_type,
                known=labels.label_names,
                drop=drop,
            )
            data["label"] = encode_labels(plain, label, labels, drop=drop)
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError.together(problems)
    data["idx"] = pa.array(np.arange(source.table.num_rows, dtype=np.int32))
    table = pa.table(data)
    if not drop:
        return table
    keep = pc.invert(is_null)
    if "label" in data:
        keep = pc.and_(keep, pc.is_valid(table["label"]))
    return table.filter(keep)


def _join_label_columns(
    sources: dict[str, Source], config: TrainConfig
) -> tuple[dict[str, Source], TrainConfig, tuple[str, ...]]:
    """Add the columns that dotted names stand for, and one for the labels that several columns hold.

    Returns:
        The sources, the settings with one label column, and the columns that it replaces, if any.
    """
    label = config.label_column or ()
    named = [*config.text_column, *([label] if isinstance(label, str) else label)]
    sources = {
        split: replace(source, table=add_named(source.table, named))
        for split, source in sources.items()
    }
    hot = find_one_hot(sources["train"], config)
    if not hot:
        return sources, config, ()
    joined = {split: join_one_hot(source, hot) for split, source in sources.items()}
    one_label = replace(
        config,
        label_column=joined["train"][1],
        problem_type=config.problem_type or "multi_label_classification",
    )
    return {split: source for split, (source, _) in joined.items()}, one_label, hot


def read_sources(config: TrainConfig) -> dict[str, Source]:
    """Read the files or the hub data set that the settings name: split -> its rows, all columns."""
    if config.dataset is not None:
        return _read_hub_sources(config.dataset)
    sources, problems = {}, []
    for split, paths in (
        ("train", config.train_file),
        ("validation", config.validation_file),
        ("test", config.test_file),
    ):
        try:
            if paths:
                sources[split] = read_files(paths, config.read_options)
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError.together(problems)
    return sources


def drop_empty_end(source: Source) -> Source:
    """Leave out the rows at the end of each file in which every cell is empty, as Excel writes them."""
    cells = [pc.cast(c, pa.string()) for c in source.table.columns if can_be_text(c.type)]
    if not source.parts or len(cells) < source.table.num_columns:
        return source
    empty = np.logical_and.reduce([pc.fill_null(pc.equal(c, ""), True).to_numpy() for c in cells])
    start, parts = 0, []
    kept = np.ones(len(empty), bool)
    for part in source.parts:
        filled_in = np.flatnonzero(~empty[start : start + part.num_rows])
        num_rows = int(filled_in[-1]) + 1 if len(filled_in) else part.num_rows
        kept[start + num_rows : start + part.num_rows] = False
        parts.append(replace(part, num_rows=num_rows))
        start += part.num_rows
    if kept.all():
        return source
    shown = source.show(np.flatnonzero(~kept).tolist())
    note = f"{np.count_nonzero(~kept)} empty rows at the end of {source.path} are left out: {shown}"
    table, notes = source.table.filter(pa.array(kept)), (*source.notes, note)
    return replace(source, table=table, parts=tuple(parts), notes=notes)


def _read_hub_sources(dataset: str) -> dict[str, Source]:
    name, _, configuration = dataset.partition(":")
    where = f"--dataset {dataset}"
    splits = load_hub_dataset(name, configuration or None, where=where)
    if "train" not in splits:
        raise UserError(
            f"no split 'train'; found: {', '.join(splits)}", where=where, fix="choose another"
        )
    return {
        split: Source(named_labels(rows), f"{where}, {split}")
        for split, rows in splits.items()
        if split in {"train", "validation", "test"}
    }


def leave_out_unlabelled_test(
    sources: dict[str, Source], label: str, config: TrainConfig
) -> list[str]:
    """Leave out a data set's test split without any label, as most have it on the hub; the line."""
    test = sources.get("test")
    if test is None or config.test_file:
        return []
    if label in test.table.column_names and test.table[label].null_count < test.table.num_rows:
        return []
    del sources["test"]
    return ["test: left out, since no row has a label"]


def _groups(table: pa.Table, column: str | None, rows: pa.Table) -> np.ndarray[Any, Any] | None:
    if column is None:
        return None
    groups = table[column].take(rows["idx"]).combine_chunks().dictionary_encode()
    numbers: np.ndarray[Any, Any] = pc.fill_null(groups.indices, -1).to_numpy(zero_copy_only=False)
    return numbers


def _as_array(column: pa.ChunkedArray, labels: Labels) -> np.ndarray[Any, Any]:
    if labels.problem_type == "multi_label_classification":
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat).reshape(len(column), len(labels.label_names))
    return np.asarray(column.to_numpy())
