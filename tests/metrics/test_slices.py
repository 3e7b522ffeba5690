"""Slices: each one's score and interval are those of its rows alone; the worst comes first."""

import numpy as np
import pytest

from plainloop.config.tasks import Task
from plainloop.metrics.bootstrap import score_intervals
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.slices import explain_slices, score_slices

LANGUAGES = ["de"] * 40 + ["en"] * 60 + ["ko"] * 19 + [""] * 20


def task_of(problem_type, *metrics):
    names = () if problem_type == "regression" else ("no", "yes")
    return Task("t", ("text",), names, metrics, problem_type)


def rows_of(references, logits):
    return RowPredictions(np.arange(len(references)), {}, references, logits)


@pytest.fixture
def rows():
    """Right in 30 of 40 rows, 54 of 60, 0 of 19 and 17 of 20."""
    references = np.arange(len(LANGUAGES)) % 2
    right = [True] * 30 + [False] * 10 + [True] * 54 + [False] * 25 + [True] * 17 + [False] * 3
    predicted = np.where(right, references, 1 - references)
    return rows_of(references, np.eye(2, dtype=np.float32)[predicted])


def test_slices_are_ranked_from_the_worst_and_small_ones_come_last_without_a_rank(rows):
    slices = score_slices(rows, LANGUAGES, task_of("single_label_classification", "accuracy", "f1"))
    found = [(one.value, one.rows, one.score, one.rank) for one in slices]
    assert found == [
        ("de", 40, 0.75, 1),
        ("", 20, 0.85, 2),
        ("en", 60, 0.9, 3),
        ("ko", 19, 0.0, None),
    ]
    said = explain_slices(slices)
    assert said.startswith("4 slices were compared.")
    assert "multiple comparisons" in said


def test_an_interval_is_that_of_the_slices_own_rows(rows):
    task = task_of("single_label_classification", "accuracy")
    slices = score_slices(rows, LANGUAGES, task)
    german = rows_of(rows.references[:40], rows.logits[:40])
    assert slices[0].interval == score_intervals(german.scorer(("accuracy",), task))["accuracy"]
    assert slices[0].interval[0] < 0.75 < slices[0].interval[1]
    assert slices[-1].interval[0] == slices[-1].score == 0 < slices[-1].interval[1], "Wilson's"


def test_of_an_error_the_largest_is_the_worst():
    references = np.zeros(60, np.float32)
    logits = np.repeat(np.array([1, 3, 2], np.float32), 20)[:, None]
    values = ["a"] * 20 + ["b"] * 20 + ["c"] * 20
    slices = score_slices(rows_of(references, logits), values, task_of("regression", "rmse"))
    assert [(one.value, one.score) for one in slices] == [("b", 3.0), ("c", 2.0), ("a", 1.0)]


def test_a_slice_whose_score_is_not_defined_has_no_rank():
    references = np.array([0.0] * 20 + [0.0, 1.0] * 10, np.float32)
    logits = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    slices = score_slices(
        rows_of(references, logits), ["a"] * 20 + ["b"] * 20, task_of("regression", "pearson")
    )
    assert [(one.value, one.score is None, one.rank) for one in slices] == [
        ("b", False, 1),
        ("a", True, None),
    ]
