"""Train/validation split of training rows, stratified or by group."""

import reprlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plainloop.errors import UserError

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType

Rows = NDArray[np.int64]
WHERE = "--validation-fraction"
DRAWS = 100


def split_rows(
    labels: NDArray[Any],
    problem_type: "ProblemType",
    *,
    validation_fraction: float,
    seed: int,
    groups: NDArray[Any] | None = None,
    label_names: Sequence[str] = (),
) -> tuple[Rows, Rows]:
    """Divide rows into a training and a validation part.

    Single labels are stratified: each class has about the same share in both parts, and at least one
    row in each. Multi-label rows and targets of a regression are drawn evenly. Rows of a group are
    all on one side: of 100 draws of groups that have each class in both parts, the one is taken
    whose counts of rows and of each class are nearest to the share.

    Args:
        labels: int (rows,), float (rows,), or multi-hot (rows, labels).
        problem_type: of the labels.
        validation_fraction: share of the validation part, between 0 and 1.
        seed: of the draw.
        groups: the group of each row.
        label_names: the name of label 0, 1, ..., for messages.

    Returns:
        The row numbers of the training part and of the validation part, each sorted.

    Raises:
        UserError: there are too few rows, groups, or rows of a class.
    """
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    num_units = len(labels) if groups is None else len(np.unique(groups))
    units = "rows" if groups is None else "groups"
    size = max(1, round(num_units * validation_fraction))
    if size >= num_units:
        raise UserError(
            f"{num_units} {units} are too few to divide",
            where=f"{WHERE} {validation_fraction:g}",
            fix="give more rows, a --validation-file, or a smaller share",
        )
    settings: dict[str, Any] = {"n_splits": 1, "test_size": size, "random_state": seed}
    rows = np.zeros((len(labels), 1))
    if groups is not None:
        if problem_type != "single_label_classification":
            labels = np.zeros(len(labels), dtype=np.int64)
        parts = _divide_groups(labels, groups, validation_fraction, settings, label_names)
    elif problem_type == "single_label_classification":
        classes, counts = np.unique(labels, return_counts=True)
        smallest = int(counts.min())
        size = max(size, len(classes))
        if smallest < 2 or size > len(labels) - len(classes):  # noqa: PLR2004
            raise UserError(
                f"class {_name(classes[counts.argmin()], label_names)} has {smallest} row{'s' * (smallest > 1)}, "
                "and each class needs one in the training part and one in the validation part",
                where=f"{WHERE} {validation_fraction:g}",
                fix="give more rows of it, or a --validation-file",
            )
        parts = next(StratifiedShuffleSplit(**{**settings, "test_size": size}).split(rows, labels))
        parts = _with_every_class(parts, labels)
    else:
        parts = next(ShuffleSplit(**settings).split(rows))
    train, validation = (np.sort(part).astype(np.int64) for part in parts)
    return train, validation


def _divide_groups(
    labels: NDArray[Any],
    groups: NDArray[Any],
    fraction: float,
    settings: dict[str, Any],
    label_names: Sequence[str],
) -> tuple[Rows, Rows]:
    from scipy.sparse import csr_array
    from sklearn.model_selection import ShuffleSplit

    classes, class_of_row = np.unique(labels, return_inverse=True)
    units, group_of_row = np.unique(groups, return_inverse=True)
    counts = csr_array((np.ones(len(labels)), (group_of_row, class_of_row)))  # group, class
    total = counts.sum(axis=0)
    best, smallest = None, np.inf
    for _, drawn in ShuffleSplit(**{**settings, "n_splits": DRAWS}).split(units):
        chosen = np.zeros(len(units))
        chosen[drawn] = 1
        found = chosen @ counts
        distance = np.abs(found - fraction * total).sum()
        if distance < smallest and np.all(found > 0) and np.all(found < total):
            best, smallest = chosen[group_of_row] > 0, distance
    if best is None:
        num_groups = np.asarray((counts > 0).sum(axis=0))
        rarest = int(num_groups.argmin())
        raise UserError(
            f"class {_name(classes[rarest], label_names)} is in {num_groups[rarest]} of {len(units)} groups, and "
            f"none of {DRAWS} draws has each class in the training and in the validation part",
            where=f"{WHERE} {fraction:g}",
            fix="give a --validation-file, a larger share, or another --group-column",
        )
    return np.flatnonzero(~best), np.flatnonzero(best)


def _with_every_class(parts: tuple[Rows, Rows], labels: NDArray[Any]) -> tuple[Rows, Rows]:
    """Move one row of each class that is only on one side: the share of a rare class rounds to 0."""
    train, validation = parts
    for_validation, for_train = (
        _first_of_those_not_in(train, validation, labels),
        _first_of_those_not_in(validation, train, labels),
    )
    train = np.append(np.setdiff1d(train, for_validation), for_train)
    validation = np.append(np.setdiff1d(validation, for_train), for_validation)
    return train, validation


def _first_of_those_not_in(part: Rows, other: Rows, labels: NDArray[Any]) -> Rows:
    """A row of `part` for each class that `other` lacks."""
    classes, first = np.unique(labels[part], return_index=True)
    rows: Rows = part[first[np.isin(classes, labels[other], invert=True)]]
    return rows


def _name(label: Any, label_names: Sequence[str]) -> str:
    return reprlib.repr(label_names[label]) if label_names else str(label)
