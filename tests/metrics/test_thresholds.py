"""Thresholds and a temperature: the best there are, and never tuned on the rows they are scored on."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import logit
from sklearn import metrics as sklearn_metrics

from plainloop.config.settings import TrainConfig
from plainloop.metrics.calibration import fit_temperature, row_losses
from plainloop.metrics.decision_rule import DecisionRule, compute_probabilities, predict_labels
from plainloop.metrics.thresholds import (
    THRESHOLD_METRICS,
    count_folds,
    cross_fit,
    fit_decision,
    list_candidates,
    split_folds,
)

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
METRICS = {
    "accuracy": sklearn_metrics.accuracy_score,
    "matthews_correlation": sklearn_metrics.matthews_corrcoef,
    **{
        f"f1{suffix}": partial(sklearn_metrics.f1_score, average=average, zero_division=0)
        for suffix, average in (
            ("", "binary"),
            ("_micro", "micro"),
            ("_macro", "macro"),
            ("_weighted", "weighted"),
        )
    },
}


def two_labels(probabilities):
    """Logits of two labels, of which label 1 has these probabilities."""
    return np.stack([np.zeros(len(probabilities)), logit(probabilities)], axis=1)


def every_threshold(probabilities):
    """One threshold in each gap between probabilities, and one beyond both ends."""
    values = np.unique(probabilities)
    return [-1.0, *((values[1:] + values[:-1]) / 2), 2.0]


# Few different probabilities make ties.
some_rows = st.lists(
    st.tuples(st.sampled_from([0.05, 0.2, 0.45, 0.5, 0.55, 0.7, 0.95]), st.integers(0, 1)),
    min_size=2,
    max_size=30,
).filter(lambda rows: {label for _, label in rows} == {0, 1})


@pytest.mark.parametrize("metric", THRESHOLD_METRICS[SINGLE])
@settings(max_examples=25)
@given(rows=some_rows)
def test_no_threshold_of_all_has_a_better_score(metric, rows):
    logits = two_labels(np.array([p for p, _ in rows]))
    references = np.array([label for _, label in rows])
    decision = fit_decision(logits, references, SINGLE, TrainConfig(threshold_metric=metric))
    score = METRICS[metric](references, predict_labels(logits, SINGLE, decision))
    probabilities = compute_probabilities(logits, SINGLE)[:, 1]
    others = [
        METRICS[metric](references, (probabilities > threshold).astype(int))
        for threshold in every_threshold(probabilities)
    ]
    assert score == pytest.approx(max(others), abs=1e-12)
    assert 0 <= decision.thresholds[0] <= 1
    # Nothing is gained: then one half stays.
    half = METRICS[metric](references, (probabilities > 0.5).astype(int))
    assert half < score - 1e-12 or decision.thresholds == (0.5,)


@given(rows=some_rows, costs=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)))
def test_no_threshold_of_all_costs_less(rows, costs):
    logits = two_labels(np.array([p for p, _ in rows]))
    references = np.array([label for _, label in rows])

    def cost(predicted):
        false_positives = ((predicted == 1) & (references == 0)).sum()
        return costs[0] * false_positives + costs[1] * ((predicted == 0) & (references == 1)).sum()

    decision = fit_decision(logits, references, SINGLE, TrainConfig(threshold_costs=costs))
    probabilities = compute_probabilities(logits, SINGLE)[:, 1]
    others = [cost(probabilities > threshold) for threshold in every_threshold(probabilities)]
    assert cost(predict_labels(logits, SINGLE, decision)) == pytest.approx(min(others))


@pytest.mark.parametrize("metric", THRESHOLD_METRICS[MULTI])
@settings(max_examples=15)
@given(
    rows=st.lists(
        st.tuples(*[st.sampled_from([0.1, 0.4, 0.6, 0.9])] * 2, *[st.integers(0, 1)] * 2),
        min_size=2,
        max_size=10,
    )
)
def test_no_thresholds_of_several_labels_have_a_better_score(metric, rows):
    table = np.array(rows, float)
    logits, references = logit(table[:, :2]), table[:, 2:]
    truth = references.astype(int)
    decision = fit_decision(logits, references, MULTI, TrainConfig(threshold_metric=metric))
    probabilities = compute_probabilities(logits, MULTI)
    # A label that no row has, or every one, keeps one half.
    given_rows = references.sum(axis=0)
    tried = [
        every_threshold(of_label) if 0 < count < len(rows) else [0.5]
        for of_label, count in zip(probabilities.T, given_rows, strict=True)
    ]
    best = max(
        METRICS[metric](truth, (probabilities > pair).astype(int)) for pair in product(*tried)
    )
    score = METRICS[metric](truth, predict_labels(logits, MULTI, decision))
    assert score == pytest.approx(best, abs=1e-9)


def test_equal_probabilities_are_never_divided_and_a_saturated_one_has_no_threshold_below_it():
    cuts = list_candidates(np.array([0.0, 0.3, 0.3, 1.0]), np.array([False, True, False, True]))
    assert cuts.above.tolist() == [3, 1, 0]  # nothing is below 0, so all four are never above
    assert cuts.hits.tolist() == [2, 1, 0]
    assert cuts.thresholds.tolist() == pytest.approx([0.15, 0.5, 1.0])


@given(low=st.floats(0, 1, exclude_max=True))
def test_a_threshold_divides_neighbouring_floats(low):
    probabilities = np.array([low, np.nextafter(low, 1)])
    cuts = list_candidates(probabilities, np.array([False, True]))
    above = [int((probabilities > threshold).sum()) for threshold in cuts.thresholds]
    assert above == cuts.above.tolist()
    assert 1 in above


@pytest.mark.parametrize("costs", [(1.0, 1.0), (1.0, 4.0), (3.0, 1.0)])
def test_of_calibrated_probabilities_the_cheapest_threshold_is_the_ratio_of_the_costs(costs):
    draw = np.random.default_rng(0)
    probabilities = draw.uniform(size=200_000)
    references = (draw.uniform(size=200_000) < probabilities).astype(int)
    config = TrainConfig(threshold_costs=costs)
    [threshold] = fit_decision(two_labels(probabilities), references, SINGLE, config).thresholds
    assert threshold == pytest.approx(costs[0] / sum(costs), abs=0.02)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_the_temperature_of_overconfident_logits_is_found(problem_type, temperature):
    draw = np.random.default_rng(0)
    true_logits = draw.normal(scale=2, size=(20_000, 3))
    probabilities = compute_probabilities(true_logits, problem_type)
    if problem_type == SINGLE:
        references = (probabilities.cumsum(axis=1) < draw.uniform(size=(20_000, 1))).sum(axis=1)
    else:
        references = (draw.uniform(size=probabilities.shape) < probabilities).astype(np.float32)
    found = fit_temperature(true_logits * temperature, references, problem_type)
    assert found == pytest.approx(temperature, rel=0.03)


@given(seed=st.integers(0, 1000))
def test_a_temperature_never_makes_the_log_loss_of_its_rows_worse_and_moves_no_label(seed):
    draw = np.random.default_rng(seed)
    logits, references = draw.normal(size=(12, 3)), draw.integers(3, size=12)
    decision = fit_decision(logits, references, SINGLE, TrainConfig(calibrate=True))
    before, after = (row_losses(logits, references, SINGLE, d).mean() for d in (None, decision))
    assert after <= before + 1e-9
    assert np.array_equal(predict_labels(logits, SINGLE), predict_labels(logits, SINGLE, decision))
    assert after == pytest.approx(
        sklearn_metrics.log_loss(
            references, compute_probabilities(logits, SINGLE, decision), labels=range(3)
        )
    )


def test_a_temperature_has_limits_and_stays_1_where_nothing_is_gained():
    logits, references = np.array([[0.2, -0.2], [-0.2, 0.2]]), np.array([0, 1])
    assert fit_temperature(logits, references, SINGLE) == pytest.approx(0.05, rel=0.01)
    assert fit_temperature(logits, 1 - references, SINGLE) == pytest.approx(20, rel=1e-3)
    assert fit_temperature(4500 * logits, references, SINGLE) == 1.0


# --- never tuned on the rows that are scored


def noise(num_rows, seed):
    """Logits that say nothing of the labels, half of which are 1."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(num_rows, 2)), np.arange(num_rows) % 2


def mean_scores(choose):
    """The mean Matthews' correlation over 200 draws of 60 rows of noise; of no skill it is 0."""
    config = TrainConfig(threshold_metric="matthews_correlation")
    scores = []
    for seed in range(200):
        logits, references = noise(60, seed)
        decision = choose(logits, references, SINGLE, config)
        predictions = predict_labels(logits, SINGLE, decision)
        scores.append(METRICS["matthews_correlation"](references, predictions))
    return np.mean(scores)


@pytest.mark.slow
def test_of_noise_the_rows_that_chose_look_good_and_cross_fitted_ones_do_not():
    assert mean_scores(fit_decision) > 0.12
    assert mean_scores(cross_fit) < 0.02


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_what_a_row_is_decided_by_does_not_depend_on_its_fold(problem_type):
    draw = np.random.default_rng(3)
    references = np.arange(53) % 2
    if problem_type == MULTI:
        references = draw.integers(2, size=(53, 3)).astype(np.float32)
    logits = draw.normal(size=(53, 2 if problem_type == SINGLE else 3))
    metric = "f1" if problem_type == SINGLE else "f1_macro"
    config = TrainConfig(threshold_metric=metric, calibrate=True)
    before = cross_fit(logits, references, problem_type, config)
    for _, fold in split_folds(references):
        others = np.setdiff1d(np.arange(53), fold)
        changed = logits.copy()
        changed[fold] = draw.normal(scale=9, size=changed[fold].shape)
        after = cross_fit(changed, references, problem_type, config)
        for name in ("temperature", "thresholds"):
            one, two = getattr(before, name), getattr(after, name)
            assert np.array_equal(one[fold], two[fold])
            assert not np.array_equal(one[others], two[others])


def test_every_row_is_in_one_fold_and_each_fold_has_each_label():
    references = np.array([0] * 30 + [1] * 7)
    folds = [fold for _, fold in split_folds(references)]
    assert sorted(np.concatenate(folds).tolist()) == list(range(37))
    assert all(set(references[fold].tolist()) == {0, 1} for fold in folds)
    assert len(folds) == count_folds(references) == 5


@pytest.mark.parametrize(
    ("references", "folds"),
    [
        (np.array([0, 0, 0, 1, 1]), 2),
        (np.array([0, 0, 0, 1]), 4),
        (np.array([0, 0]), 2),
        (np.array([[1, 0], [0, 0], [1, 1]]), 3),
        (np.arange(40) % 3, 5),
    ],
)
def test_few_rows_have_fewer_folds(references, folds):
    assert count_folds(references) == len(list(split_folds(references))) == folds


@given(
    labels=st.lists(st.integers(0, 1), min_size=4, max_size=9).filter(
        lambda labels: 2 <= sum(labels) <= len(labels) - 2
    ),
    seed=st.integers(0, 99),
)
def test_the_smallest_parts_are_decided(labels, seed):
    logits = np.random.default_rng(seed).normal(size=(len(labels), 2))
    config = TrainConfig(threshold_metric="f1", calibrate=True)
    found = cross_fit(logits, np.array(labels), SINGLE, config)
    assert np.isfinite(found.temperature).all()
    assert np.isfinite(found.thresholds).all()
    assert found.thresholds.shape == (len(labels), 1)


def test_a_temperature_alone_leaves_thresholds_out():
    logits, references = noise(20, 1)
    config = TrainConfig(calibrate=True)
    assert fit_decision(logits, references, SINGLE, config).thresholds is None
    assert cross_fit(logits, references, SINGLE, config).thresholds is None
    assert isinstance(fit_decision(logits, references, SINGLE, config), DecisionRule)
