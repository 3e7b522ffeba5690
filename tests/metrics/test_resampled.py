"""Every formula for many resamples gives what scores.py gives for the rows of each resample."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from plainloop.config.tasks import TASKS
from plainloop.metrics.resampled import ResampledScores, score_keys
from plainloop.metrics.task_metric import METRICS, OWN_METRICS, PROBABILITY_METRICS, TaskMetric

NAMES = {
    "single_label_classification": [
        *OWN_METRICS["single_label_classification"],
        "matthews_correlation",
    ],
    "multi_label_classification": list(OWN_METRICS["multi_label_classification"]),
    "regression": list(OWN_METRICS["regression"]),
}


def scores_one_by_one(names, references, logits, resamples, *, problem_type, label_names):
    """The same from `TaskMetric`, a resample at a time; (scores, resamples)."""
    metric = TaskMetric(names, problem_type, label_names)
    columns = []
    for rows in resamples:
        metric.add_batch(predictions=logits[rows], references=references[rows])
        scores = metric.compute()
        keys = score_keys(names, label_names)
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
    scores = ResampledScores(names, references, logits, problem_type, label_names)
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
    used |= {name for names in OWN_METRICS.values() for name in names}
    tested = {name for names in NAMES.values() for name in names} | {"f1"}
    assert used | METRICS.keys() | PROBABILITY_METRICS.keys() == tested | {"per_label"}
