"""Problem type, label names and label numbers of a column.

- Lists, or texts with `--label-separator`, are multi-label. No label at all is a label set too.
- Text is classes, and so are booleans and integers (at most 300 different ones). "1.0" is the
  integer 1: some tools write integers so, where a row lacks one. Numbers with fractions may be
  classes or the targets of a regression: `--problem-type` decides.
- Names are sorted, numbers by value, unless the labels are those of the checkpoint: then its order is
  kept. The numbers 0 to n-1 may stand for the checkpoint's n names, if none of these is a number.
- A label is never guessed: if it is null, empty, unknown, or differs from another only in case or white
  space, it is refused with its row.
"""

import re
import reprlib
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plainloop.data.custom.column_types import is_list, is_text
from plainloop.data.custom.label_checks import (
    MOST_SHOWN,
    NUMBER,
    check_kind,
    find_missing,
    find_no_classes,
    find_several_in_one,
    items_of,
    near_duplicate_labels,
    parse_targets,
    rows_of,
)
from plainloop.errors import UserError, nearest

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType
    from plainloop.data.files.tables import Source

MOST_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Labels:
    """Problem type of a column of labels, and the label names in the order of their numbers.

    Attributes:
        problem_type: Hugging Face's name of the kind.
        label_names: the name of label 0, 1, ...; none for a regression.
        separator: between the labels of a text; None for a list column and for one label a row.
        reason: one printable line: why this kind.
        numbered: the column holds the labels' numbers instead of their names.
        is_list: the column holds lists.
    """

    problem_type: "ProblemType"
    label_names: tuple[str, ...]
    separator: str | None
    reason: str
    numbered: bool = False
    is_list: bool = False


def infer_labels(
    source: "Source",
    column: str,
    *,
    problem_type: "ProblemType | None" = None,
    label_separator: str | None = None,
    checkpoint_labels: Sequence[str] | None = None,
    drop: bool = False,
) -> Labels:
    """Find the kind and the names of the labels of a training file, by this module's rule.

    Args:
        source: the file.
        column: its column of labels.
        problem_type: what `--problem-type` says; then any numbers may be classes, and classes may
            be as many as rows.
        label_separator: what `--label-separator` says.
        checkpoint_labels: names of a checkpoint that has a trained head, in its order.
        drop: rows without a label are left out instead of being refused.

    Raises:
        UserError: labels that are missing or cannot be of one kind, with their rows.
    """
    kind = source.table.schema.field(column).type
    if label_separator is not None:
        _check_separator(source, column, problem_type, label_separator)
    explicit = problem_type is not None
    if problem_type is None:
        several = is_list(kind) or label_separator is not None
        problem_type = "multi_label_classification" if several else "single_label_classification"
    if problem_type == "regression":
        parse_targets(source, column, drop=drop)
        return Labels(problem_type, (), None, "labels: numbers (--problem-type regression)")
    items, rows = items_of(source, column, problem_type, label_separator)
    names = items.drop_null().unique().to_pylist()
    problems = find_missing(source, column, items, rows, problem_type, drop=drop)
    if names and not explicit:
        problems += find_no_classes(source, column, items, rows, names) or find_several_in_one(
            source, column, items, rows, names
        )
    if not problems:
        problems = near_duplicate_labels(source, column, items, rows, names)
    if not problems and problem_type == "single_label_classification" and len(names) == 1:
        problems = [
            UserError(
                f"need at least 2 classes, found only {reprlib.repr(names[0])}",
                where=source.path,
                fix="give a file with rows of another class, or name another --label-column",
            )
        ]
    if problems:
        raise UserError.together(problems)
    named = _name(names, problem_type, label_separator, checkpoint_labels)
    return replace(named, is_list=is_list(kind))


def encode_labels(source: "Source", column: str, labels: Labels, *, drop: bool = False) -> pa.Array:
    """Turn a column of labels into numbers.

    Returns:
        int64 label numbers; for multi-label a list_(float32, num_labels) of 0.0 and 1.0; for a
        regression float32. With `drop`, null in a row without a label.

    Raises:
        UserError: labels that are missing, unknown or no finite numbers, with their rows.
    """
    check_kind(source, column, labels.problem_type, labels.separator)
    if labels.problem_type == "regression":
        return parse_targets(source, column, drop=drop)
    items, rows = items_of(source, column, labels.problem_type, labels.separator)
    known = (
        [str(n) for n in range(len(labels.label_names))] if labels.numbered else labels.label_names
    )
    numbers = pc.index_in(items, value_set=pa.array(known, pa.string()))
    unknown = pc.and_(pc.is_null(numbers), pc.is_valid(items))
    problems = find_missing(source, column, items, rows, labels.problem_type, drop=drop)
    strange = items.filter(unknown).unique().to_pylist()
    for name in strange[:MOST_SHOWN]:
        fix = nearest(reprlib.repr(name), map(reprlib.repr, known))
        if (composed := unicodedata.normalize("NFC", name)) in (
            unicodedata.normalize("NFC", other) for other in known
        ):
            fix = f"{composed!r} is, in another Unicode form (NFC, NFD): write both files in one"
        what = f"label {reprlib.repr(name)} ({source.show(rows_of(items, rows, name))})"
        problems.append(
            UserError(
                f"{what} is not among the labels of the training data", where=source.path, fix=fix
            )
        )
    if len(strange) > MOST_SHOWN:
        more = f"{len(strange) - MOST_SHOWN} more labels are not among those of the training data"
        problems.append(UserError(more, where=source.path))
    if problems:
        raise UserError.together(problems)
    if labels.problem_type == "single_label_classification":
        return numbers.cast(pa.int64())
    hot = np.zeros((source.table.num_rows, len(known)), np.float32)
    there = pc.is_valid(numbers).to_numpy(zero_copy_only=False)
    hot[rows[there], numbers.drop_null().to_numpy()] = 1.0
    missing = pc.is_null(source.table[column]).combine_chunks() if drop else None
    return pa.FixedSizeListArray.from_arrays(pa.array(hot.ravel()), len(known), mask=missing)


def are_label_numbers(found: Collection[str], names: Sequence[str]) -> bool:
    """Whether labels are the numbers 0 to n-1 of n names, none of which is a number."""
    numbers = {str(number) for number in range(len(names))}
    return {*found} <= numbers and not any(re.match(NUMBER, name) for name in names)


def _check_separator(
    source: "Source", column: str, problem_type: "ProblemType | None", separator: str
) -> None:
    values, what = source.table[column], ""
    if problem_type not in (None, "multi_label_classification"):
        what = f"has no effect with --problem-type {problem_type}"
    elif is_list(values.type):
        what = f"has no effect: column {column!r} holds lists"
    elif not separator:
        what = "is empty"
    elif is_text(values.type) and not pc.any(pc.match_substring(values, separator)).as_py():
        what = f"{separator!r} is in no row of column {column!r}"
    if what:
        raise UserError(
            what, where=f"{source.path}, --label-separator", fix="leave it out, or give another"
        )


def _name(
    names: Sequence[str],
    problem_type: "ProblemType",
    separator: str | None,
    checkpoint_labels: Sequence[str] | None,
) -> Labels:
    """Order the label names: as in the checkpoint, or sorted."""
    numbered = False
    order, why = sorted(names), "sorted"
    if pc.all(pc.match_substring_regex(pa.array(names, pa.string()), NUMBER)).as_py():
        order, why = sorted(names, key=Decimal), "sorted by value"
    if checkpoint_labels and set(names) <= set(checkpoint_labels):
        order, why = list(checkpoint_labels), "the checkpoint's own"
    elif (
        checkpoint_labels
        and len(names) == len(checkpoint_labels)
        and are_label_numbers(names, checkpoint_labels)
    ):
        order, why, numbered = list(checkpoint_labels), "the checkpoint's own, by number", True
    shown = ", ".join(map(reprlib.repr, order[:MOST_NAMES_SHOWN]))
    more = f", ... ({len(order)} in all)" if len(order) > MOST_NAMES_SHOWN else ""
    several = " (several in a row)" if problem_type == "multi_label_classification" else ""
    reason = f"labels: {shown}{more}{several} ({why})"
    return Labels(problem_type, tuple(order), separator, reason, numbered)
