"""The validation part: disjoint, complete, stratified, groups on one side, the same for a seed."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from plainloop.data.custom.split import number_texts, one_of_each, split_rows
from plainloop.errors import UserError

SINGLE = "single_label_classification"
classes = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(labels=classes, fraction=st.floats(0.01, 0.9), seed=st.integers(0, 2**32 - 1))
def test_every_row_is_on_one_side_and_every_class_on_both(labels, fraction, seed):
    labels = np.array(labels)
    try:
        train, validation = split_rows(labels, SINGLE, validation_fraction=fraction, seed=seed)
    except UserError:
        counts = np.unique(labels, return_counts=True)[1]
        size = max(1, round(len(labels) * fraction), len(counts))
        assert counts.min() < 2 or size > len(labels) - len(counts)
        return
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert set(labels[train]) == set(labels[validation]) == set(labels)
    again = split_rows(labels, SINGLE, validation_fraction=fraction, seed=seed)
    assert np.array_equal(again[0], train)


def test_classes_keep_their_shares():
    labels = np.repeat([0, 1], [900, 100])
    train, validation = split_rows(labels, SINGLE, validation_fraction=0.1, seed=0)
    assert (len(train), len(validation)) == (900, 100)
    assert labels[validation].sum() == 10


@given(groups=st.lists(st.integers(0, 8), min_size=2, max_size=60), seed=st.integers(0, 99))
def test_a_group_is_on_one_side(groups, seed):
    groups = np.array(groups)
    labels = np.arange(len(groups)) % 2
    try:
        train, validation = split_rows(
            labels, SINGLE, validation_fraction=0.3, seed=seed, groups=groups
        )
    except UserError:
        # Refused are few groups only: a class needs one of its groups in each part.
        spread = [len(set(groups[labels == class_])) for class_ in set(labels.tolist())]
        assert min(spread) == 1 or len(set(groups)) < 5
        return
    assert not set(groups[train]) & set(groups[validation])
    assert set(labels[train]) == set(labels[validation]) == set(labels)
    assert sorted([*train, *validation]) == list(range(len(groups)))


def test_targets_and_several_labels_are_drawn_evenly():
    for labels, kind in (
        (np.linspace(0, 1, 50), "regression"),
        (np.eye(50), "multi_label_classification"),
    ):
        train, validation = split_rows(labels, kind, validation_fraction=0.2, seed=1)
        assert (len(train), len(validation)) == (40, 10)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 0, 1],
            r"too few rows with different texts for classes 1 \(\[2\]\): each class needs one",
        ),
        ([0, 0, 1, 2, 3, 4, 5, 6, 7], r"classes 1 .*, 5 \(\[6\]\) \(\+2 more\): each class"),
        ([0], "1 rows are too few"),
    ],
)
def test_too_few_rows_are_refused(labels, message):
    with pytest.raises(UserError, match=message):
        split_rows(np.array(labels), SINGLE, validation_fraction=0.5, seed=0)


def test_groups_are_drawn_so_that_classes_keep_their_shares():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 600)
    labels = (rng.random(600) < 0.05).astype(int)
    for seed in range(20):
        train, validation = split_rows(
            labels, SINGLE, validation_fraction=0.2, seed=seed, groups=groups
        )
        assert abs(len(validation) / 600 - 0.2) < 0.03
        assert abs(labels[validation].sum() / labels.sum() - 0.2) < 0.15
        assert labels[train].sum() > 0


def test_a_class_in_one_group_cannot_be_on_both_sides():
    groups = np.repeat(np.arange(10), 10)
    with pytest.raises(UserError, match="class 1 is in 1 of 10 groups"):
        split_rows(
            (groups == 3).astype(int), SINGLE, validation_fraction=0.2, seed=0, groups=groups
        )


def test_integer_classes_of_one_row_are_offered_as_numbers():
    names = [str(n) for n in range(8)]
    with pytest.raises(UserError, match="or --problem-type regression if these are numbers"):
        split_rows(
            np.arange(8).repeat([1, 2, 2, 2, 2, 2, 2, 2]),
            SINGLE,
            validation_fraction=0.5,
            seed=0,
            label_names=names,
        )


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=4, max_size=60),
    seed=st.integers(0, 99),
    kind=st.sampled_from([SINGLE, "regression"]),
)
def test_equal_texts_are_on_one_side_and_every_class_on_both(rows, seed, kind):
    copies, labels = np.array(rows).T
    try:
        train, held_out = split_rows(
            labels, kind, validation_fraction=0.3, seed=seed, copies=copies
        )
    except UserError:
        # Each class needs two texts, and some classes have fewer between them (Hall 1935).
        of_class = [set(copies[labels == label].tolist()) for label in set(labels.tolist())]
        subsets = [some for size in (1, 2, 3) for some in itertools.combinations(of_class, size)]
        assert any(len(set.union(*some)) < 2 * len(some) for some in subsets)
        return
    assert sorted([*train, *held_out]) == list(range(len(rows)))
    assert not set(copies[train]) & set(copies[held_out])
    if kind == SINGLE:
        assert set(labels[train]) == set(labels[held_out]) == set(labels)


def test_without_copies_the_split_is_the_one_without_the_rule():
    labels = np.arange(100) % 3
    for kind in (SINGLE, "regression"):
        plain, ruled = (
            split_rows(labels, kind, validation_fraction=0.2, seed=7, copies=copies)
            for copies in (None, np.arange(100))
        )
        assert all(map(np.array_equal, plain, ruled))


def test_groups_that_share_a_text_are_on_one_side():
    groups = np.repeat(np.arange(20), 5)
    copies = np.arange(100)
    copies[5], copies[99] = copies[0], copies[0]  # groups 0, 1 and 19
    labels = np.arange(100) % 2
    for seed in range(10):
        _, held_out = split_rows(
            labels, SINGLE, validation_fraction=0.3, seed=seed, groups=groups, copies=copies
        )
        assert len({group in set(groups[held_out]) for group in (0, 1, 19)}) == 1


def test_texts_are_equal_in_all_columns_without_white_space():
    first = pa.chunked_array([["a", "b "], ["b", "a"]])
    assert number_texts([first]).tolist() == [0, 1, 1, 0]
    assert number_texts([first, pa.array(["x", "x", "x", "z"])]).tolist() == [0, 2, 2, 1]


def test_one_row_of_each_text_is_of_the_rarest_class():
    copies, labels = np.array([4, 4, 2, 2, 2, 4]), np.array([0, 1, 0, 0, 2, 0])
    chosen, unit_of_row = one_of_each(copies, labels)
    assert chosen.tolist() == [1, 4]
    assert unit_of_row.tolist() == [0, 0, 1, 1, 1, 0]
    # The two rarer classes share all texts of the third with it, and have enough of their own.
    copies = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 4, 5, 0, 1, 4, 5])
    labels = np.array([0] * 4 + [1] * 4 + [2] * 8)
    chosen, unit_of_row = one_of_each(copies, labels)
    assert np.bincount(labels[chosen]).min() == 2
    assert np.array_equal(copies[chosen][unit_of_row], copies)
    chosen, unit_of_row = one_of_each(np.array([3, 1, 2]))
    assert (chosen.tolist(), unit_of_row.tolist()) == ([0, 1, 2], [0, 1, 2])
