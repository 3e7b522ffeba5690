"""Metrics: equal to scikit-learn and scipy, batch by batch or at once."""

import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn import metrics as sklearn_metrics

from plainloop.metrics.decision_rule import compute_probabilities, predict_labels
from plainloop.metrics.scorer import Scorer, score_names
from plainloop.metrics.task_metric import DEFAULT_METRICS, TaskMetric

SINGLE, MULTI, REGRESSION = DEFAULT_METRICS
LOGIT = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 60.0]), st.floats(-30, 30, width=32))
VALUE = st.floats(-100, 100, width=32).map(lambda value: round(value, 3))

LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(rows=LABELS)
def test_accuracy_and_f1_are_their_formulas(rows):
    references, predictions = (np.array(column) for column in zip(*rows, strict=True))
    hits = int(((predictions == 1) & (references == 1)).sum())
    wrong = int((predictions != references).sum())
    f1 = 2 * hits / (2 * hits + wrong) if 2 * hits + wrong else 0.0
    wanted = {"accuracy": 1 - wrong / len(rows), "f1": f1}
    scores = Scorer(tuple(wanted), references, predictions, num_labels=2).plain_scores()
    assert scores == pytest.approx(wanted, abs=1e-12)


@st.composite
def outcomes(draw, problem_type):
    """(logits, references): one row or many, ties, constant columns, labels that are missing."""
    rows = draw(st.integers(1, 40))
    num_labels = {SINGLE: st.integers(2, 5), MULTI: st.integers(1, 5), REGRESSION: st.just(1)}
    shape = (rows, draw(num_labels[problem_type]))
    if problem_type == REGRESSION:
        values = arrays(np.float32, rows, elements=VALUE, fill=VALUE)
        return draw(values)[:, None], draw(values)
    logits = draw(arrays(np.float32, shape, elements=LOGIT, fill=LOGIT))
    if problem_type == SINGLE:
        label = st.integers(0, shape[1] - 1)
        return logits, draw(arrays(np.int64, rows, elements=label, fill=label))
    has = st.sampled_from([0.0, 1.0])
    return logits, draw(arrays(np.float32, shape, elements=has, fill=has))


def score(logits, references, problem_type, names=None):
    label_names = [f"label {number}" for number in range(logits.shape[1])]
    metric = TaskMetric(names or DEFAULT_METRICS[problem_type], problem_type, label_names)
    metric.add_batch(predictions=logits, references=references)
    return metric.compute()


def defined(theirs):
    """These scores to 1e-12, but for those that are no number for scikit-learn or scipy."""
    finite = {name: value for name, value in theirs.items() if np.isfinite(value)}
    return pytest.approx(finite, rel=1e-12, abs=1e-12)


def quiet(function, *args, **settings):
    """What the library says, its warning about what is undefined left aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **settings)


def per_label(references, predictions, labels):
    """Scikit-learn's four scores of each label, one label at a time."""
    scores = {}
    for label in labels:
        truth, predicted = (
            rows[:, label] if rows.ndim == 2 else rows == label
            for rows in (references, predictions)
        )
        four = sklearn_metrics.precision_recall_fscore_support(
            truth, predicted, labels=[1], zero_division=0
        )
        for kind, value in zip(("precision", "recall", "f1", "support"), four, strict=True):
            scores[f"{kind}/label {label}"] = value[0]
    return scores


def ranking_scores(truth, probabilities):
    """ROC AUC and average precision of columns; not a number where scikit-learn warns."""
    auc = quiet(sklearn_metrics.roc_auc_score, truth, probabilities)
    precision = quiet(sklearn_metrics.average_precision_score, truth, probabilities)
    undefined = not np.atleast_2d(truth.T).any(axis=1).all()
    return {"roc_auc": auc, "average_precision": np.nan if undefined else precision}


@given(outcome=outcomes(SINGLE))
def test_single_label_scores_are_scikit_learns(outcome):
    logits, labels = outcome
    classes = range(logits.shape[1])
    predicted = np.array([max(classes, key=lambda c, row=row: (row[c], -c)) for row in logits])
    powers = np.exp(np.float64(logits) - np.float64(logits).max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    macro, weighted = (
        sklearn_metrics.f1_score(labels, predicted, average=average, zero_division=0)
        for average in ("macro", "weighted")
    )
    one_hot = np.stack([labels == label for label in classes], axis=1)
    binary = len(classes) == 2
    theirs = {
        "accuracy": np.mean(labels == predicted),
        "f1_macro": macro,
        "f1_weighted": weighted,
        "log_loss": sklearn_metrics.log_loss(labels, probabilities, labels=classes),
        **ranking_scores(*(c[:, 1] if binary else c for c in (one_hot, probabilities))),
        **per_label(labels, predicted, classes),
    }
    if not binary and len(set(labels.tolist())) == len(classes):
        assert theirs["roc_auc"] == pytest.approx(
            sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr"), rel=1e-12
        )
    assert score(logits, labels, SINGLE) == defined(theirs)


@given(outcome=outcomes(MULTI))
def test_multi_label_scores_are_scikit_learns(outcome):
    logits, labels = outcome
    predicted = (logits > 0).astype(int)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    # To scikit-learn one column is not multi-label but binary.
    several = labels.shape[1] > 1
    shaped = (labels, predicted, probabilities)
    truth, guess, chances = shaped if several else (column[:, 0] for column in shaped)
    averages = ("micro", "macro") if several else ("binary", "binary")
    micro, macro = (
        sklearn_metrics.f1_score(truth, guess, average=average, zero_division=0)
        for average in averages
    )
    theirs = {
        "f1_micro": micro,
        "f1_macro": macro,
        "accuracy": sklearn_metrics.accuracy_score(truth, guess),
        **ranking_scores(truth, chances),
        **per_label(labels, predicted, range(labels.shape[1])),
    }
    assert score(logits, labels, MULTI) == defined(theirs)


@given(outcome=outcomes(REGRESSION))
def test_regression_scores_are_scikit_learns_and_scipys(outcome):
    logits, labels = outcome
    values, labels = logits[:, 0].astype(np.float64), labels.astype(np.float64)
    several = len(labels) > 1
    theirs = {
        "rmse": sklearn_metrics.root_mean_squared_error(labels, values),
        "mae": sklearn_metrics.mean_absolute_error(labels, values),
        "r2": quiet(sklearn_metrics.r2_score, labels, values, force_finite=False),
        "pearson": quiet(stats.pearsonr, labels, values).statistic if several else np.nan,
        "spearmanr": quiet(stats.spearmanr, labels, values).statistic if several else np.nan,
    }
    assert score(logits, labels, REGRESSION) == defined(theirs)


@given(outcome=outcomes(SINGLE))
def test_glue_scores_are_scikit_learns(outcome):
    logits, labels = outcome[0][:, :2], outcome[1] % 2
    names = ("accuracy", "f1", "matthews_correlation")
    predicted = logits.argmax(axis=1)
    theirs = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "f1": sklearn_metrics.f1_score(labels, predicted, zero_division=0),
        "matthews_correlation": quiet(sklearn_metrics.matthews_corrcoef, labels, predicted),
    }
    assert score(logits, labels, SINGLE, names) == defined(theirs)


@pytest.mark.parametrize("problem_type", DEFAULT_METRICS)
@given(data=st.data())
def test_any_cut_into_batches_gives_the_same_bits(problem_type, data):
    logits, references = data.draw(outcomes(problem_type))
    rows = len(logits)
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, rows), max_size=5))), rows]
    labels = [f"label {number}" for number in range(logits.shape[1])]
    metric = TaskMetric(DEFAULT_METRICS[problem_type], problem_type, labels)
    for start, end in pairwise(edges):  # tensors, as evaluation has them; some without rows
        metric.add_batch(
            predictions=torch.tensor(logits[start:end]),
            references=torch.tensor(references[start:end]),
        )
    assert metric.compute() == score(logits, references, problem_type)
    parts = [
        compute_probabilities(logits[start:end], problem_type) for start, end in pairwise(edges)
    ]
    assert np.array_equal(np.concatenate(parts), compute_probabilities(logits, problem_type))


@pytest.mark.parametrize("problem_type", DEFAULT_METRICS)
@given(data=st.data())
def test_score_names_are_the_keys_in_their_order(problem_type, data):
    logits, references = data.draw(outcomes(problem_type))
    labels = [f"label {number}" for number in range(logits.shape[1])]
    known = score_names(DEFAULT_METRICS[problem_type], labels)
    scores = score(logits, references, problem_type)
    assert list(scores) == [name for name in known if name in scores]
    assert len(known) == len(set(known))


def test_what_is_not_defined_is_left_out():
    one_class = score(np.zeros((3, 2)), np.zeros(3, int), SINGLE)
    assert not {"roc_auc", "average_precision"} & one_class.keys()
    assert one_class["log_loss"] == pytest.approx(np.log(2))
    constant = score(np.ones((3, 1)), np.array([1.0, 2.0, 3.0]), REGRESSION)
    assert constant.keys() == {"rmse", "mae", "r2"}
    assert score(np.ones((1, 1)), np.ones(1), REGRESSION) == {"rmse": 0.0, "mae": 0.0}


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_not_finite_have_no_scores(wrong):
    assert score(np.array([[0.0, wrong], [0.0, 1.0]]), np.array([0, 1]), SINGLE) == {}


def test_probabilities_do_not_overflow():
    logits = np.array([[1000.0, 0.0, -1000.0]], np.float32)
    assert compute_probabilities(logits, SINGLE).tolist() == [[1.0, 0.0, 0.0]]
    assert compute_probabilities(logits, MULTI).tolist() == [[1.0, 0.5, 0.0]]
    assert compute_probabilities([[2.5]], REGRESSION).tolist() == [[2.5]]


def test_predictions_are_the_largest_logit_the_positive_ones_or_the_value():
    logits = np.array([[-1.0, 2.0, 2.0], [0.5, 0.0, -1.0]], np.float32)
    assert predict_labels(logits, SINGLE).tolist() == [1, 0]
    assert predict_labels(logits, MULTI).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert predict_labels(logits[:, :1], REGRESSION).tolist() == [-1.0, 0.5]


def test_task_metric_starts_anew_and_refuses_what_does_not_fit():
    metric = TaskMetric(["accuracy"])
    with pytest.raises(ValueError, match="no row was added"):
        metric.compute()
    metric.add_batch(predictions=np.zeros((0, 2)), references=np.zeros(0, int))
    with pytest.raises(ValueError, match="no row was added"):
        metric.compute()
    for predictions, references in ([[0.0, 1.0]], [1, 1]), ([[[1.0]]], [0]):
        with pytest.raises(ValueError, match="for references"):
            metric.add_batch(predictions=predictions, references=references)
    for label, accuracy in (0, 0.0), (1, 1.0):
        metric.add_batch(predictions=[[0.0, 1.0]], references=[label])
        assert metric.compute() == {"accuracy": accuracy}


def test_scoring_draws_from_no_generator():
    script = """
import random
import numpy as np
from plainloop.metrics.task_metric import DEFAULT_METRICS, TaskMetric
for problem_type, names in DEFAULT_METRICS.items():
    metric = TaskMetric(names, problem_type, ["a", "b"])
    before = random.getstate(), np.random.get_state()[1].tolist()
    labels = np.eye(2) if problem_type.startswith("multi") else np.array([0, 1])
    width = 1 if problem_type == "regression" else 2
    metric.add_batch(predictions=np.arange(2.0 * width).reshape(2, width), references=labels)
    assert metric.compute()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before, problem_type
"""
    subprocess.run([sys.executable, "-c", script], check=True)
