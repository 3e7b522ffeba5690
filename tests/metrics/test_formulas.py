"""The formulas: plain scores have scikit-learn's bits, and each resample scores as its rows do."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from sklearn import metrics as sklearn_metrics

from plainloop.config.tasks import TASKS
from plainloop.metrics.formulas import LABEL_METRICS, VALUE_METRICS
from plainloop.metrics.scorer import PROBABILITY_METRICS, Scorer
from plainloop.metrics.task_metric import DEFAULT_METRICS, TaskMetric

NAMES = {
    "single_label_classification": [
        *DEFAULT_METRICS["single_label_classification"],
        "matthews_correlation",
    ],
    "multi_label_classification": list(DEFAULT_METRICS["multi_label_classification"]),
    "regression": list(DEFAULT_METRICS["regression"]),
}
NUM_ROWS = st.one_of(st.integers(1, 30), st.sampled_from([200, 1000, 5000]))
SEEDS = st.integers(0, 2**32 - 1)


def sklearn_f1(references, predictions, average):
    return sklearn_metrics.f1_score(references, predictions, average=average, zero_division=0)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(num_rows=NUM_ROWS, num_labels=st.integers(2, 40), seed=SEEDS)
def test_scores_of_single_labels_have_the_bits_of_scikit_learn(num_rows, num_labels, seed):
    draw = np.random.default_rng(seed)
    drawn = draw.integers(1, num_labels + 1, size=2)  # some labels in neither, one or both
    references, predictions = (draw.integers(most, size=num_rows) for most in drawn)
    wanted = {
        "accuracy": sklearn_metrics.accuracy_score(references, predictions),
        "f1_macro": sklearn_f1(references, predictions, "macro"),
        "f1_weighted": sklearn_f1(references, predictions, "weighted"),
        "matthews_correlation": sklearn_metrics.matthews_corrcoef(references, predictions),
    }
    if num_labels == 2:
        wanted["f1"] = sklearn_f1(references, predictions, "binary")
    scores = Scorer(tuple(wanted), references, predictions, num_labels=num_labels).plain_scores()
    assert scores == wanted


@given(num_rows=NUM_ROWS, num_labels=st.integers(2, 40), seed=SEEDS)
def test_scores_of_several_labels_have_the_bits_of_scikit_learn(num_rows, num_labels, seed):
    draw = np.random.default_rng(seed)
    shares = draw.random((2, num_labels)) * draw.choice([0.1, 1])
    references, predictions = (
        (draw.random((num_rows, num_labels)) < share).astype(int) for share in shares
    )
    wanted = {
        "accuracy": sklearn_metrics.accuracy_score(references, predictions),
        "f1_micro": sklearn_f1(references, predictions, "micro"),
        "f1_macro": sklearn_f1(references, predictions, "macro"),
        "f1_weighted": sklearn_f1(references, predictions, "weighted"),
    }
    scores = Scorer(tuple(wanted), references, predictions, num_labels=num_labels).plain_scores()
    assert scores == wanted


@given(num_rows=NUM_ROWS, seed=SEEDS, dtype=st.sampled_from([np.float32, np.float64]))
def test_scores_of_values_have_the_bits_of_scikit_learn(num_rows, seed, dtype):
    draw = np.random.default_rng(seed)
    references = draw.normal(size=num_rows).astype(dtype)  # a baseline is scored on float32 labels
    predictions = references + draw.normal(size=num_rows)
    wanted = {
        "rmse": sklearn_metrics.root_mean_squared_error(references, predictions),
        "mae": sklearn_metrics.mean_absolute_error(references, predictions),
    }
    if num_rows > 1:
        wanted["r2"] = sklearn_metrics.r2_score(references, predictions)
    names = ("rmse", "mae", "r2")
    assert Scorer(names, references, predictions, num_labels=1).plain_scores() == wanted


def test_products_of_counts_do_not_overflow():
    references = np.arange(400_000) % 2
    predictions = (np.arange(400_000) % 4 > 1).astype(int)
    scores = Scorer(("matthews_correlation",), references, predictions, num_labels=2).plain_scores()
    assert scores == {"matthews_correlation": 0.0}
    scores = Scorer(("matthews_correlation",), references, references, num_labels=2).plain_scores()
    assert scores == {"matthews_correlation": 1.0}


def scores_one_by_one(names, references, logits, resamples, *, problem_type, label_names):
    """The same from `TaskMetric`, a resample at a time; (scores, resamples)."""
    metric = TaskMetric(names, problem_type, label_names)
    columns = []
    for rows in resamples:
        metric.add_batch(predictions=logits[rows], references=references[rows])
        scores = metric.compute()
        keys = Scorer(names, references, logits, num_labels=1, label_names=label_names).keys
        columns.append([scores.get(key, math.nan) for key in keys])
    return np.array(columns).T


def case(problem_type, num_labels, num_rows, seed, decimals):
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(num_rows, num_labels)).round(decimals)  # few decimals: ties
    references = {
        "single_label_classification": lambda: draw.integers(num_labels, size=num_rows),
        "multi_label_classification": lambda: draw.integers(2, size=(num_rows, num_labels)),
        "regression": lambda: draw.normal(size=num_rows).round(decimals),
    }[problem_type]()
    resamples = draw.integers(num_rows, size=(4, num_rows))
    return references, logits, resamples


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=60)
@given(
    kind=st.sampled_from(
        [
            ("single_label_classification", 2),
            ("single_label_classification", 4),
            ("multi_label_classification", 3),
            ("regression", 1),
        ]
    ),
    num_rows=st.integers(2, 30),
    seed=st.integers(0, 2**32 - 1),
    decimals=st.sampled_from([0, 1, 6]),
)
# A resample that draws one row three times: the sum of squares about its mean is not quite 0.
@example(kind=("regression", 1), num_rows=3, seed=145, decimals=0)
def test_each_resample_scores_as_its_rows_do(kind, num_rows, seed, decimals):
    problem_type, num_labels = kind
    names = NAMES[problem_type] + (["f1"] if num_labels == 2 else [])
    label_names = () if problem_type == "regression" else tuple("abcd"[:num_labels])
    references, logits, resamples = case(problem_type, num_labels, num_rows, seed, decimals)
    scores = Scorer.from_logits(names, references, logits, problem_type, label_names)
    counts = np.stack([np.bincount(rows, minlength=num_rows) for rows in resamples])
    wanted = scores_one_by_one(
        names, references, logits, resamples, problem_type=problem_type, label_names=label_names
    )
    for key, ours, theirs in zip(scores.keys, scores(counts), wanted, strict=True):
        defined = np.isfinite(theirs)
        assert ours[defined] == pytest.approx(theirs[defined], abs=1e-9), key
        # scikit-learn and SciPy define less than nothing: where they have no value, neither have we.
        assert not np.isfinite(ours[~defined]).any(), key


def test_every_metric_of_ours_has_its_formula_here():
    used = {name for task in TASKS.values() for name in task.metrics}
    used |= {name for names in DEFAULT_METRICS.values() for name in names}
    tested = {name for names in NAMES.values() for name in names} | {"f1"}
    assert used | {*LABEL_METRICS, *VALUE_METRICS, *PROBABILITY_METRICS} == tested | {"per_label"}
