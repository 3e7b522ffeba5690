"""One-hot labels: several columns of 0 and 1, one for each label, as one column of lists.

Columns that `--label-column` names are taken. Without it they are found if at least three columns
hold 0 and 1 (or false and true, or 1 and nothing), both in each, and every other column is a text or
tells rows apart. A column called label is one label.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plainloop.config.settings import TrainConfig
from plainloop.data.custom.column_types import NO, YES, has_zeros_and_ones, is_long_text
from plainloop.data.custom.columns import is_known_label, is_known_text, tells_rows_apart
from plainloop.data.files.tables import Source
from plainloop.errors import UserError

FEWEST_FOUND = 3
MOST_NAMES_JOINED = 4


def find_one_hot(source: Source, config: TrainConfig) -> tuple[str, ...]:
    """The columns of one-hot labels by this module's rule; none if the label is one column."""
    if isinstance(config.label_column, tuple):
        return config.label_column
    table = source.table
    if config.label_column or any(map(is_known_label, table.column_names)):
        return ()
    given = (*config.text_column, config.group_column)
    rest = [name for name in table.column_names if name not in given]
    hot = tuple(name for name in rest if has_zeros_and_ones(table[name]))
    if len(hot) < FEWEST_FOUND:
        return ()
    others = [name for name in rest if name not in hot]
    is_rest_text = all(
        tells_rows_apart(name)
        or is_known_text(name)
        or is_long_text(table[name])
        or (
            not pa.types.is_nested(table[name].type)
            and pc.count_distinct(table[name]).as_py() == table.num_rows
        )
        for name in others
    )
    return hot if is_rest_text else ()


def join_one_hot(source: Source, names: Sequence[str]) -> tuple[Source, str]:
    """Add a column of lists: the names of the columns that are 1 in a row.

    Returns:
        The source with the column, and the column's name.

    Raises:
        UserError: a column is missing, or a row has neither 0 nor 1 in it.
    """
    problems, hot = [], np.zeros((source.table.num_rows, len(names)), bool)
    for position, name in enumerate(names):
        try:
            hot[:, position] = _read_column(source, name)
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError.together(problems)
    offsets = np.concatenate([[0], hot.sum(axis=1).cumsum()])
    labels = pa.array(names, pa.string()).take(pa.array(np.nonzero(hot)[1]))
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), labels)
    few = len(names) <= MOST_NAMES_JOINED
    joined = ", ".join(names) if few else f"{names[0]}, {names[1]}, ..., {names[-1]}"
    return replace(source, table=source.table.append_column(joined, lists)), joined


def _read_column(source: Source, name: str) -> NDArray[np.bool_]:
    where = f"{source.path}, column {name!r}"
    if name not in source.table.column_names:
        raise UserError("no such column", where=where, fix="--label-column names others")
    texts = pc.utf8_trim_whitespace(source.table[name].cast(pa.string()))
    texts = pc.utf8_lower(pc.fill_null(texts, ""))
    yes, no = pc.is_in(texts, pa.array(YES)), pc.is_in(texts, pa.array(NO))
    is_empty = pc.equal(texts, "")
    # Nothing is 0 if no row says 0; else it is a row that nobody labelled.
    no = pc.or_(no, is_empty) if not pc.any(no).as_py() else no
    wrong = pc.indices_nonzero(pc.invert(pc.or_(yes, no))).to_pylist()
    if wrong:
        what = f"neither 0 nor 1 in {source.show(wrong)}"
        raise UserError(what, where=where, fix="correct these rows, or leave the column out")
    return np.asarray(yes.to_numpy())
