"""The numbers of a report, each against a count by hand."""

import json

import numpy as np
import pytest

from plainloop.config.tasks import Task
from plainloop.metrics.analysis import analyse, find_label_issues
from plainloop.metrics.calibration import measure_calibration
from plainloop.metrics.row_predictions import RowPredictions

CLASSES = Task("mine", ("text",), ("no", "yes"), ("accuracy", "f1"))
SEVERAL = Task("mine", ("text",), ("a", "b", "c"), ("f1_micro",), "multi_label_classification")
VALUE = Task("mine", ("text",), (), ("rmse", "pearson"), "regression")


def rows_of(references, logits, texts=None):
    count = len(references)
    texts = texts or ["x" * (1 + number) for number in range(count)]
    logits = np.array(logits, np.float32)
    return RowPredictions(np.arange(count) + 10, {"text": texts}, np.array(references), logits)


def log_odds(*probabilities):
    return [[0.0, float(np.log(p / (1 - p)))] for p in probabilities]


def test_confusion_counts_true_labels_from_top_and_predicted_from_left():
    found = analyse(rows_of([0, 0, 1, 1, 1], log_odds(0.1, 0.9, 0.9, 0.8, 0.2)), CLASSES)
    assert found["confusion"]["counts"] == [[1, 1], [1, 2]]
    assert found["confusion"]["shares"] == [[0.5, 0.5], pytest.approx([1 / 3, 2 / 3])]
    assert found["constant"] is None
    assert found["rows"] == 5


def test_a_model_that_answers_the_same_to_all_is_recognised():
    found = analyse(rows_of([0, 0, 1], log_odds(0.1, 0.2, 0.3)), CLASSES)
    assert found["constant"] == 0


def test_mistakes_begin_with_the_surest_and_doubts_with_the_least_sure():
    found = analyse(rows_of([0, 0, 1, 1], log_odds(0.7, 0.95, 0.1, 0.55)), CLASSES)
    assert [row["row"] for row in found["worst"]] == [11, 12, 10]
    assert [row["row"] for row in found["uncertain"]] == [13, 10, 12, 11]
    first = found["worst"][0]
    assert first["label"] == 0
    assert first["predicted"] == 1
    assert first["probability"] == pytest.approx(0.95)
    assert first["label_probability"] == pytest.approx(0.05)


def test_no_more_than_25_rows_are_listed():
    found = analyse(rows_of([0] * 40 + [1] * 40, log_odds(*[0.7] * 80)), CLASSES)
    assert len(found["worst"]) == len(found["uncertain"]) == 25


def test_calibration_error_is_the_mean_gap_weighted_by_rows():
    probabilities = np.array([[0.1, 0.9]] * 4 + [[0.7, 0.3]] * 2)
    has = np.array([[0, 1]] * 2 + [[1, 0]] * 2 + [[1, 0]] * 2, bool)
    found = measure_calibration(probabilities, has, multi_label=False)
    assert [bin_["rows"] for bin_ in found["bins"]] == [2, 4]
    assert found["expected_calibration_error"] == pytest.approx((4 * 0.4 + 2 * 0.3) / 6)


def test_a_swapped_label_is_suspected_and_a_hard_row_is_not():
    yes = np.array([0.9, 0.92, 0.95, 0.08, 0.1, 0.05, 0.97, 0.45])
    given = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    suspected = find_label_issues(np.stack([1 - yes, yes], axis=1), np.eye(2, dtype=bool)[given])
    assert suspected.tolist() == [False] * 6 + [True, False]


def test_rows_are_ranked_by_length_in_fifths():
    found = analyse(rows_of([0] * 10, log_odds(*[0.1] * 9, 0.9)), CLASSES)
    assert [part["rows"] for part in found["lengths"]] == [2] * 5
    assert [part["accuracy"] for part in found["lengths"]] == [1, 1, 1, 1, 0.5]
    assert found["lengths"][0]["to_characters"] == 2


def test_several_labels_a_row_have_a_table_each():
    references = [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    found = analyse(rows_of(references, [[2, -2, -2], [-2, -2, -2], [3, -2, -2]]), SEVERAL)
    assert found["confusion"]["counts"] == [[1, 1, 0, 1], [2, 0, 1, 0], [3, 0, 0, 0]]
    assert [row["row"] for row in found["worst"]] == [12, 11]
    assert found["worst"][0]["predicted"] == [1, 0, 0]


def test_values_are_ranked_by_their_error():
    found = analyse(rows_of([1.0, 2.0, 3.0], [[1.5], [2.0], [0.0]]), VALUE)
    assert [(row["row"], row["error"]) for row in found["worst"]] == [(12, -3), (10, 0.5), (11, 0)]
    assert found["scores"]["mae"] == pytest.approx(3.5 / 3)
    assert found["scores"].keys() == {"rmse", "mae", "r2", "pearson", "spearmanr"}
    assert "confusion" not in found


@pytest.mark.parametrize(
    ("task", "references", "logits"),
    [
        (CLASSES, [1], [[0, 1]]),
        (SEVERAL, [[1, 0, 0]], [[0, 1, 0]]),
        (VALUE, [1.0], [[2.0]]),
    ],
)
def test_one_row_is_enough_and_all_is_json(task, references, logits):
    found = analyse(rows_of(references, logits), task)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["rows"] == 1
