"""The validation part: disjoint, complete, stratified, groups on one side, the same for a seed."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from plainloop.data.custom.split import split_rows
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
    [([0, 0, 1], "has 1 row, and each class needs one"), ([0], "1 rows are too few")],
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
