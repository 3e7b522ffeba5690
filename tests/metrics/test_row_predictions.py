"""The rows' predictions: in the file's order whatever order they come in, read back as written."""

import numpy as np
import pytest
from datasets import Dataset

from plainloop.config.tasks import get_task
from plainloop.errors import UserError
from plainloop.metrics.row_predictions import PredictionCollector, RowPredictions, predicted_splits


def test_rows_come_in_any_order_and_leave_in_that_of_their_file():
    rows = Dataset.from_dict(
        {"idx": [7, 2, 9], "sentence1": list("abc"), "sentence2": list("ABC"), "label": [1, 0, 1]}
    )
    kept = PredictionCollector()
    kept.add(np.array([9]), np.array([[3.0, 9.0]]), np.array([1]))
    kept.add(np.array([7, 2]), np.array([[1.0, 7.0], [2.0, 2.0]]), np.array([1, 0]))
    found = kept.finish(rows, get_task("demo"))
    assert found.idx.tolist() == [7, 2, 9]
    assert found.logits.tolist() == [[1, 7], [2, 2], [3, 9]]
    assert found.references.tolist() == [1, 0, 1]
    assert found.texts == {"sentence1": ["a", "b", "c"], "sentence2": ["A", "B", "C"]}


@pytest.mark.parametrize(
    "references",
    [
        np.array([1, 0], np.int64),
        np.array([[1.0, 0.0], [0.0, 0.0]], np.float32),
        np.array([0.1, 2.5], np.float32),
    ],
    ids=["one label", "several labels", "values"],
)
def test_what_is_written_is_read_back(tmp_path, references):
    logits = np.array([[0.1, -2], [3, 1e-9]], np.float32)
    texts = {"text": ["", "NA \x00 <b>\ud7ff"]}
    RowPredictions(np.array([0, 5]), texts, references, logits).save(tmp_path, "validation")
    RowPredictions(np.array([0, 5]), texts, references, logits).save(tmp_path, "test")
    back = RowPredictions.load(tmp_path, "validation")
    assert back.idx.tolist() == [0, 5]
    assert back.texts == texts
    assert np.array_equal(back.references.astype(references.dtype), references)
    assert np.array_equal(back.logits, logits)
    assert predicted_splits(tmp_path) == ["validation", "test"]


def test_predictions_that_are_not_there_are_a_line(tmp_path):
    with pytest.raises(UserError, match="no predictions of the validation rows"):
        RowPredictions.load(tmp_path, "validation")


def test_a_run_keeps_every_validation_row_with_the_saved_models_logits(run, tiny_data):
    from plainloop.predict.loaded_run import load_run

    result = run(num_train_epochs=2, learning_rate=1e-3)
    rows = RowPredictions.load(result.folder, "validation")
    lines = (tiny_data / "validation.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [
        f"{a}\t{b}\t{label}"
        for a, b, label in zip(*rows.texts.values(), rows.references, strict=True)
    ] == lines
    again = load_run(result.folder).classifier.logits(list(rows.texts.values()), 8)
    assert np.abs(again - rows.logits).max() < 1e-5
    right = rows.logits.argmax(1) == rows.references
    assert result.metrics["saved"]["accuracy"] == right.mean()


def test_the_best_model_is_the_one_whose_rows_are_kept(run):
    result = run(
        num_train_epochs=3,
        learning_rate=1e-2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    )
    rows = RowPredictions.load(result.folder, "validation")
    right = rows.logits.argmax(1) == rows.references
    assert result.metrics["best"]["accuracy"] == right.mean()
    assert result.metrics["saved"] == result.metrics["best"]


def test_without_evaluations_nothing_is_kept_of_the_validation_rows(run):
    result = run(max_steps=1, eval_strategy="no")
    assert predicted_splits(result.folder) == []
    assert result.metrics["analysis"] == {}
