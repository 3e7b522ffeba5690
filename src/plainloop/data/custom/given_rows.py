"""Rows that are given in Python: a datasets.Dataset, a DatasetDict, a pandas or polars frame."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.data.files.tables import Source
from plainloop.errors import UserError, printable

SPLITS = ("train", "validation", "test")


def sources_of(train_dataset: Any, eval_dataset: Any = None) -> dict[str, Source]:
    """The rows of each split, as those of files have it.

    Args:
        train_dataset: a Dataset or a frame, or a DatasetDict, of which train, validation and test are
            taken.
        eval_dataset: a Dataset or a frame for the validation rows.

    Raises:
        UserError: it is something else, there are no training rows, or a column mixes types.
    """
    rows = {"train": ("train_dataset", train_dataset)}
    if isinstance(train_dataset, Mapping):
        rows = {
            split: (f"train_dataset['{split}']", train_dataset[split])
            for split in SPLITS
            if split in train_dataset
        }
    if "train" not in rows:
        raise UserError(
            f"no split 'train'; found: {', '.join(map(printable, train_dataset))}",
            where="train_dataset",
            fix="rename one of them",
        )
    if eval_dataset is not None:
        rows["validation"] = "eval_dataset", eval_dataset
    return {split: Source(_to_table(given, where), where) for split, (where, given) in rows.items()}


def named_labels(rows: Any) -> pa.Table:
    """The rows of a Dataset as a table, with each label's name instead of its number."""
    table = rows.with_format("arrow")[:]
    for position, (name, feature) in enumerate(rows.features.items()):
        if hasattr(feature, "int2str"):
            names = pa.array(feature.names).take(
                pc.if_else(pc.less(table[name], 0), None, table[name])
            )
            table = table.set_column(position, name, names)
    return table


def _to_table(rows: Any, where: str) -> pa.Table:
    try:
        if hasattr(rows, "features") and hasattr(rows, "__len__"):
            return named_labels(rows)
        if hasattr(rows, "__dataframe__") or hasattr(rows, "__arrow_c_stream__"):
            is_pandas = hasattr(rows, "iloc")
            table = (
                pa.Table.from_pandas(rows, preserve_index=False) if is_pandas else pa.table(rows)
            )
            decoded = [
                column.cast(column.type.value_type)
                if pa.types.is_dictionary(column.type)
                else column
                for column in table.columns
            ]
            return pa.table(decoded, table.column_names)
    except (ValueError, TypeError) as error:
        raise UserError(printable(error), where=where, fix="give each column one type") from None
    raise UserError(
        f"a {type(rows).__name__} has no table of texts and labels",
        where=where,
        fix="give a datasets.Dataset, a DatasetDict or a pandas frame",
    )
