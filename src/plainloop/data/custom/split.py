"""Train/validation split of training rows, stratified or by group."""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plainloop.errors import UserError

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType

Rows = NDArray[np.int64]
WHERE = "--validation-fraction"
DRAWS = 100
MOST_SHOWN = 5


def split_rows(
    labels: NDArray[Any],
    problem_type: "ProblemType",
    *,
    validation_fraction: float,
    seed: int,
    groups: NDArray[Any] | None = None,
    copies: NDArray[Any] | None = None,
    label_names: Sequence[str] = (),
    show: Callable[[list[int]], str] = str,
) -> tuple[Rows, Rows]:
    """Divide rows into a training and a validation part.

    Single labels are stratified: each class has about the same share in both parts, and at least one
    row in each. Multi-label rows and targets of a regression are drawn evenly. Rows of a group are
    all on one side, and so are rows of equal texts (which joins groups): of 100 draws of groups that have each class in both parts, the one is taken
    whose counts of rows and of each class are nearest to the share.

    Args:
        labels: int (rows,), float (rows,), or multi-hot (rows, labels).
        problem_type: of the labels.
        validation_fraction: share of the validation part, between 0 and 1.
        seed: of the draw.
        groups: the group of each row.
        copies: a number for each row, from `number_texts`; rows of one number are all on one side.
        label_names: the name of label 0, 1, ..., for messages.
        show: row numbers -> rows as a person finds them, for messages.

    Returns:
        The row numbers of the training part and of the validation part, each sorted.

    Raises:
        UserError: there are too few rows, groups, or rows of a class.
    """
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    single = problem_type == "single_label_classification"
    if copies is not None and len(np.unique(copies)) < len(labels):
        if groups is None:
            chosen, unit_of_row = one_of_each(copies, labels if single else None)
            _, held_out = split_rows(
                labels[chosen],
                problem_type,
                validation_fraction=validation_fraction,
                seed=seed,
                label_names=label_names,
                show=lambda rows: show(chosen[rows].tolist()),
            )
            is_held_out = np.isin(unit_of_row, held_out)
            sides = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
            for side in sides if single else ():
                for lost in np.setdiff1d(labels, labels[side])[:1]:
                    raise UserError(
                        f"each text of class {_name(lost, label_names)} is in another class too",
                        where=f"{WHERE} {validation_fraction:g}",
                        fix="correct these labels, or --no-group-duplicates",
                    )
            return sides
        groups = _join(groups, copies)
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
        if not single:
            labels = np.zeros(len(labels), dtype=np.int64)
        parts = _divide_groups(labels, groups, validation_fraction, settings, label_names)
    elif single:
        classes, counts = np.unique(labels, return_counts=True)
        size = max(size, len(classes))
        if counts.min() < 2 or size > len(labels) - len(classes):  # noqa: PLR2004
            raise _too_few(labels, label_names, show, validation_fraction)
        parts = next(StratifiedShuffleSplit(**{**settings, "test_size": size}).split(rows, labels))
        parts = _with_every_class(parts, labels)
    else:
        parts = next(ShuffleSplit(**settings).split(rows))
    train, validation = (np.sort(part).astype(np.int64) for part in parts)
    return train, validation


def number_texts(columns: Iterable[pa.Array | pa.ChunkedArray]) -> Rows:
    """Number rows, so that those have equal numbers whose texts are equal in each column.

    Texts are compared without surrounding white space.
    """
    codes: Any = 0
    for column in columns:
        # As one array, since unifying the dictionaries of many chunks would take quadratic time.
        joined = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
        texts = pc.utf8_trim_whitespace(joined.combine_chunks())
        numbers = pc.dictionary_encode(texts).indices.to_numpy(zero_copy_only=False)
        codes = np.unique(codes * (len(numbers) + 1) + numbers, return_inverse=True)[1]
    return np.asarray(codes, np.int64)


def one_of_each(copies: NDArray[Any], labels: NDArray[Any] | None = None) -> tuple[Rows, Rows]:
    """Choose one row of each number, and number the rows by the chosen ones.

    Args:
        copies: from `number_texts`.
        labels: of the rows with one number, one of the rarest class is chosen, unless another class would
            then have less than two though it can have them; None: the first.
    """
    order = np.arange(len(copies))
    if labels is not None:
        _, class_of_row, counts = np.unique(labels, return_inverse=True, return_counts=True)
        order = np.argsort(counts[class_of_row], kind="stable")
        rows = order[np.unique(copies[order], return_index=True)[1]]
        if np.bincount(class_of_row[rows], minlength=len(counts)).min() < 2:  # noqa: PLR2004
            found = _two_of_each_class(copies, class_of_row)
            if len(found) == 2 * len(counts):
                order = np.append(found, order[~np.isin(order, found)])
    _, first, unit_of_row = np.unique(copies[order], return_index=True, return_inverse=True)
    by_row = np.argsort(order[first])  # so that without copies the rows keep their order
    return order[first][by_row], np.argsort(by_row)[unit_of_row[np.argsort(order)]]


def _two_of_each_class(copies: NDArray[Any], class_of_row: NDArray[Any]) -> Rows:
    """Two rows of each class, no two with one number, as far as there are such."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    texts = np.unique(copies, return_inverse=True)[1]
    size = texts.max() + 1
    pairs, first = np.unique(class_of_row * size + texts, return_index=True)
    classes, texts = np.divmod(pairs, size)
    places = np.append(2 * classes, 2 * classes + 1)
    graph = csr_array((np.ones(len(places)), (places, np.tile(texts, 2))))
    text_of_place = maximum_bipartite_matching(graph, perm_type="column")
    place = np.flatnonzero(text_of_place >= 0)
    rows: Rows = first[np.searchsorted(pairs, place // 2 * size + text_of_place[place])]
    return rows


def _join(groups: NDArray[Any], copies: NDArray[Any]) -> NDArray[Any]:
    """Groups that share a text become one."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    first, second = (np.unique(side, return_inverse=True)[1] for side in (groups, copies))
    links = csr_array((np.ones(len(first)), (first, second)))
    size = sum(links.shape)
    rows, columns = links.nonzero()
    graph = csr_array((np.ones(len(rows)), (rows, columns + links.shape[0])), (size, size))
    return np.asarray(connected_components(graph, directed=False)[1])[first]


def _too_few(
    labels: NDArray[Any], label_names: Sequence[str], show: Callable[[list[int]], str], share: float
) -> UserError:
    classes, counts = np.unique(labels, return_counts=True)
    rare = classes[counts < 2] if counts.min() < 2 else classes[[counts.argmin()]]  # noqa: PLR2004
    shown = [
        f"{_name(label, label_names)} ({show(np.flatnonzero(labels == label).tolist())})"
        for label in rare[:MOST_SHOWN]
    ]
    more = f" (+{len(rare) - MOST_SHOWN} more)" if len(rare) > MOST_SHOWN else ""
    fix = "give more rows of them, or a --validation-file"
    numbers = [name for name in label_names if name.lstrip("-").isdigit()]
    if len(numbers) == len(label_names) > MOST_SHOWN:
        fix += ", or --problem-type regression if these are numbers and no classes"
    return UserError(
        f"too few rows with different texts for classes {', '.join(shown)}{more}: each class needs one "
        "in the training part and one in the validation part",
        where=f"{WHERE} {share:g}",
        fix=fix,
    )


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
