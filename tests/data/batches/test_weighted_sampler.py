"""Weighted sampling: the weights are their definition, the order is f(seed, epoch) alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from plainloop.data.batches.weighted_sampler import EpochWeightedSampler, row_weights

MULTI_HOT = st.tuples(st.integers(1, 30), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0]))
)


def two_draws(has_class):
    """The definition, draw by draw: a class with rows, evenly, then a row that has it, evenly."""
    chances = np.zeros(len(has_class[0]))
    classes = [rows for rows in has_class if rows.any()]
    for rows in classes:
        for row in np.flatnonzero(rows):
            chances[row] += 1 / len(classes) / rows.sum()
    return chances


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_every_class_that_has_rows_is_equally_likely(labels):
    weights = row_weights(labels)
    assert weights.dtype == np.float64
    expected = two_draws([np.equal(labels, label) for label in range(6)])
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    shares = [weights[np.equal(labels, label)].sum() for label in set(labels)]
    np.testing.assert_allclose(shares, 1 / len(set(labels)), rtol=1e-12)


@given(labels=MULTI_HOT)
def test_a_multi_label_row_is_drawn_by_each_of_its_labels_and_no_label_is_a_class(labels):
    expected = two_draws([*(labels.T == 1), labels.sum(axis=1) == 0])
    weights = row_weights(labels)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert weights.sum() == pytest.approx(1, rel=1e-12)


@given(
    weights=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=100),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 50),
)
def test_the_order_is_a_function_of_seed_and_epoch_alone(weights, seed, epoch):
    here, there = EpochWeightedSampler(weights, seed), EpochWeightedSampler(weights, seed)
    for earlier in range(epoch % 3):
        here.set_epoch(earlier)
        list(here)
    here.set_epoch(epoch)
    there.set_epoch(epoch)
    before = torch.get_rng_state()
    order = list(here)
    assert order == list(there) == list(here)
    assert torch.equal(torch.get_rng_state(), before), "dropout's generator stays where it is"
    assert len(order) == len(here) == len(weights)
    assert set(order) <= set(range(len(weights)))


def test_epochs_and_seeds_differ_in_their_order():
    order, other = (
        EpochWeightedSampler(np.ones(50), seed=1),
        EpochWeightedSampler(np.ones(50), seed=3),
    )
    first = list(order)
    order.set_epoch(1)
    assert list(order) != first
    assert list(other) != first


def test_a_row_of_weight_zero_is_never_drawn():
    weights = np.tile([0.0, 1.0, 0.0, 0.0], 500)
    assert {row % 4 for row in EpochWeightedSampler(weights, seed=0)} == {1}


def test_a_skewed_set_is_drawn_evenly():
    labels = np.array([0] * 9_000 + [1] * 900 + [2] * 100)
    order = EpochWeightedSampler(row_weights(labels), seed=7)
    drawn = Counter(labels[list(order)].tolist())
    # A share of 1/3 in 10,000 independent draws: standard deviation sqrt(10000 x 1/3 x 2/3) = 47.1.
    for label in range(3):
        assert abs(drawn[label] - 10_000 / 3) < 5 * 47.2


def test_rows_of_a_class_are_drawn_evenly():
    labels = [0] * 10 + [1] * 2
    order = EpochWeightedSampler(row_weights(labels), seed=0)
    drawn = np.zeros(12)
    for epoch in range(1_000):
        order.set_epoch(epoch)
        np.add.at(drawn, list(order), 1)
    # Each row is binomial with 12,000 draws: probability 1/20 or 1/4.
    chances = np.array([1 / 20] * 10 + [1 / 4] * 2)
    deviation = np.sqrt(12_000 * chances * (1 - chances))
    assert (np.abs(drawn - 12_000 * chances) < 5 * deviation).all()


def test_more_rows_than_torchs_own_sampler_takes():
    num_rows = 2**24 + 1
    with pytest.raises(RuntimeError, match="categories"):
        torch.multinomial(torch.ones(num_rows), 1, replacement=True)
    order = EpochWeightedSampler(np.ones(num_rows, np.float32), seed=0)
    order.num_rows = 1_000  # draws, of all rows
    rows = list(order)
    # The mean of 1,000 uniform numbers: standard deviation 1 / sqrt(12 x 1000) = 0.0091.
    assert abs(np.mean(rows) / num_rows - 0.5) < 5 * 0.0092
