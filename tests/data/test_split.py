"""The validation part: disjoint, complete, stratified, groups on one side, the same for a seed."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from plainloop.data.split import split_rows
from plainloop.errors import UserError

SINGLE = "single_label_classification"
classes = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(labels=classes, fraction=st.floats(0.01, 0.9), seed=st.integers(0, 2**32 - 1))
def test_every_row_is_on_one_side_and_every_class_on_both(labels, fraction, seed):
    labels = np.array(labels)
    try:
        train, validation = split_rows(labels, SINGLE, validation_fraction=fraction, seed=seed)
    except UserError as error:
        counts = np.unique(labels, return_counts=True)[1]
        size = max(1, round(len(labels) * fraction), len(counts))
        assert counts.min() < 2 or size > len(labels) - len(counts), str(error)
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
        assert len(set(groups)) == 1
        return
    assert not set(groups[train]) & set(groups[validation])
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
