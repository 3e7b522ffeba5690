"""A validation part of the training rows, where there is no file for it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plainloop.errors import UserError

if TYPE_CHECKING:
    from plainloop.tasks import ProblemType

Rows = NDArray[np.int64]
WHERE = "--validation-fraction"


def split_rows(
    labels: NDArray[Any],
    problem_type: "ProblemType",
    *,
    validation_fraction: float,
    seed: int,
    groups: NDArray[Any] | None = None,
) -> tuple[Rows, Rows]:
    """Divide rows into a training and a validation part.

    Single labels are stratified: each class has about the same share in both parts, and at least one
    row in each. Multi-label rows and targets of a regression are drawn evenly. Rows of a group are
    all on one side; the share is then one of groups, and classes are not stratified.

    Args:
        labels: int (rows,), float (rows,), or multi-hot (rows, labels).
        problem_type: of the labels.
        validation_fraction: share of the validation part, between 0 and 1.
        seed: of the draw.
        groups: the group of each row.

    Returns:
        The row numbers of the training part and of the validation part, each sorted.

    Raises:
        UserError: there are too few rows, groups, or rows of a class.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

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
        parts = next(GroupShuffleSplit(**settings).split(rows, groups=groups))
    elif problem_type == "single_label_classification":
        classes, counts = np.unique(labels, return_counts=True)
        smallest = int(counts.min())
        size = max(size, len(classes))
        if smallest < 2 or size > len(labels) - len(classes):  # noqa: PLR2004
            raise UserError(
                f"class number {classes[counts.argmin()]} has {smallest} row{'s' * (smallest > 1)}, "
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


def _with_every_class(parts: tuple[Rows, Rows], labels: NDArray[Any]) -> tuple[Rows, Rows]:
    """Move one row of each class that is all on one side: a share of a rare class rounds to none."""
    train, validation = parts
    for class_ in np.unique(labels):
        of_train, of_validation = (
            train[labels[train] == class_],
            validation[labels[validation] == class_],
        )
        if len(of_validation) == 0:
            train, validation = train[train != of_train[0]], np.append(validation, of_train[0])
        elif len(of_train) == 0:
            validation = validation[validation != of_validation[0]]
            train = np.append(train, of_validation[0])
    return train, validation
