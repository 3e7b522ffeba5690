"""Intervals: seeded, stratified, paired, wider with seeds, and nothing global is touched."""

import random

import numpy as np
import pytest
import torch

from plainloop.metrics.bootstrap import (
    count_draws,
    difference_intervals,
    label_strata,
    mean_intervals,
    score_intervals,
    seeds_expansion,
)
from plainloop.metrics.scorer import Scorer


def classified(num_rows, right, seed, labels=None, names=("accuracy", "f1")):
    """The scores of a model that is right in a share of the rows."""
    draw = np.random.default_rng(seed)
    labels = np.arange(num_rows) % 2 if labels is None else labels
    predicted = np.where(draw.random(len(labels)) < right, labels, 1 - labels)
    return Scorer(names, labels, predicted, num_labels=2)


def test_the_interval_of_an_accuracy_is_the_binomials():
    [(low, high)] = score_intervals(classified(2000, 0.8, 1, names=("accuracy",))).values()
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.8 * 0.2 / 2000), rel=0.08)
    assert low < 0.8 < high


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    scores = classified(50, 0.7, 1)
    assert score_intervals(scores) == score_intervals(scores)
    assert score_intervals(scores) != score_intervals(scores, seed=1)


def test_no_global_generator_is_touched():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    models = [classified(50, 0.7, seed) for seed in range(3)]
    score_intervals(models[0])
    mean_intervals(models)
    difference_intervals(models[:1], models[1:])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_every_resample_has_the_same_number_of_rows_of_each_label():
    labels = np.array([0] * 30 + [1] * 10)
    scores = classified(40, 0.6, 1, labels=labels, names=("accuracy",))
    seen = []
    statistic = Scorer.__call__

    def spy(self, counts):
        seen.append(counts)
        return statistic(self, counts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scorer, "__call__", spy)
        score_intervals(scores, num_resamples=50)
    counts = np.concatenate(seen)
    assert (counts[:, :30].sum(axis=1) == 30).all()
    assert (counts[:, 30:].sum(axis=1) == 10).all()


@pytest.mark.parametrize("labels", [[0], [1, 0], [0, 0, 1], [1, 1]])
def test_few_rows_are_no_error(labels):
    scores = classified(0, 0.5, 1, labels=np.array(labels))
    assert all(low <= high for low, high in score_intervals(scores).values())


def test_a_score_that_a_resample_does_not_define_has_no_interval():
    values = np.array([1.0, 2.0])
    scores = Scorer(("rmse", "pearson"), values, values**2 + 1, num_labels=1)
    assert list(score_intervals(scores)) == ["rmse"]


@pytest.mark.parametrize(
    "intervals", [score_intervals, lambda scores: mean_intervals([scores] * 3)]
)
@pytest.mark.parametrize(
    ("right", "ends"),
    # The lower end of n of n is n / (n + z^2), with z = 1.95996.
    [(0.0, (0.0, 0.1379762)), (1.0, (0.8620238, 1.0))],
)
def test_an_accuracy_without_variation_has_wilsons_interval_and_other_scores_none(
    intervals, right, ends
):
    found = intervals(classified(24, right, 1))
    assert found == {"accuracy": pytest.approx(ends, abs=1e-6)}


def test_a_model_does_not_differ_from_itself_whatever_rows_are_drawn():
    scores = classified(40, 0.7, 3)
    assert set(difference_intervals([scores], [scores]).values()) == {(0.0, 0.0)}


def test_pairing_narrows_the_interval_of_a_difference():
    labels = np.arange(400) % 2
    first = np.where(np.random.default_rng(0).random(400) < 0.8, labels, 1 - labels)
    second = first.copy()
    second[:8] = labels[:8]  # eight rows at most differ
    models = [Scorer(("accuracy",), labels, p, num_labels=2) for p in (first, second)]
    [(low, high)] = difference_intervals(models[:1], models[1:]).values()
    [(alone_low, alone_high)] = score_intervals(models[0]).values()
    assert high - low < (alone_high - alone_low) / 4


def test_seeds_that_differ_widen_the_interval_of_their_mean():
    labels = np.arange(400) % 2
    alike = [classified(400, 0.8, seed, labels, ("accuracy",)) for seed in range(4)]
    unlike = [classified(400, 0.6 + 0.1 * seed, 7, labels, ("accuracy",)) for seed in range(4)]
    widths = [high - low for side in (alike, unlike) for low, high in mean_intervals(side).values()]
    assert widths[1] > 2 * widths[0]


def test_seeds_drawn_with_replacement_vary_as_new_ones_do():
    draw = np.random.default_rng(0)
    seeds = draw.normal(size=3)
    means = draw.choice(seeds, (100_000, 3)).mean(axis=1)
    spread = seeds.mean() + seeds_expansion(3) * (means - seeds.mean())
    assert spread.var() == pytest.approx(seeds.var(ddof=1) / 3, rel=0.02)


def test_rows_are_counted_in_each_resample():
    assert count_draws(np.array([[0, 0, 2], [1, 1, 1]]), 3).tolist() == [[2, 0, 1], [0, 3, 0]]


def test_strata_are_labels_where_a_row_has_one():
    assert [rows.tolist() for rows in label_strata(np.array([1, 0, 1]))] == [[1], [0, 2]]
    assert [rows.tolist() for rows in label_strata(np.array([1.0, 2.0]))] == [[0, 1]]
    assert [rows.tolist() for rows in label_strata(np.eye(2, dtype=int))] == [[0, 1]]
