"""A run's decision: refused where there is none to take, saved, used by all that predicts or scores."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny import run_tiny
from transformers.decision import DecisionConfig

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task, get_task
from plainloop.config.validation import check_config
from plainloop.errors import CheckpointError, UserError
from plainloop.metrics.calibration import row_losses
from plainloop.metrics.decision_rule import (
    DECISION_FILE,
    DecisionRule,
    compute_probabilities,
    load_decision,
    predict_labels,
)
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.task_metric import TaskMetric
from plainloop.metrics.thresholds import fit_decision
from plainloop.predict.evaluate_run import evaluate_run
from plainloop.predict.loaded_run import load_run
from plainloop.report.card import render_card
from plainloop.report.page import render_report
from plainloop.training.prepare import check_fits_task, check_labels, load_inputs

COSTS = (1.0, 50.0)  # label 1 is answered far more often than as trained


@pytest.fixture(scope="module")
def decided(tiny_model, tiny_data, tmp_path_factory):
    """A run with a decision and a test file."""
    return run_tiny(
        tmp_path_factory.mktemp("decided") / "run",
        data_dir=tiny_data,
        model=str(tiny_model),
        num_train_epochs=1,
        threshold_costs=COSTS,
        calibrate=True,
        test_file=(str(tiny_data / "test.tsv"),),
    )


def test_what_is_saved_is_chosen_on_all_validation_rows_and_read_back(decided):
    opened = load_run(decided.folder)
    rows = RowPredictions.load(decided.folder, "validation")
    assert rows.decision is None
    wanted = fit_decision(rows.logits, rows.references, opened.task.problem_type, opened.config)
    assert opened.decision == load_decision(decided.folder, opened.task) == wanted
    assert wanted.temperature != 1
    content = json.loads((decided.folder / DECISION_FILE).read_text(encoding="utf-8"))
    assert content == {
        "version": 1,
        "temperature": wanted.temperature,
        "thresholds": {"paraphrase": wanted.thresholds[0]},
    }


def test_predict_evaluate_and_the_test_rows_use_it_and_the_rows_that_chose_it_do_not(
    decided, tiny_data, tmp_path
):
    opened = load_run(decided.folder)
    task, decision = opened.task, opened.decision
    rows = RowPredictions.load(decided.folder, "test", decision)
    assert rows.decision == decision
    labels = predict_labels(rows.logits, task.problem_type, decision)
    assert not np.array_equal(labels, predict_labels(rows.logits, task.problem_type))
    metric = TaskMetric(task.metrics, task.problem_type, task.label_names, decision)
    metric.add_batch(predictions=rows.logits, references=rows.references)
    scores = metric.compute()
    assert {name: decided.metrics["test"][name] for name in scores} == scores
    assert {name: decided.metrics["analysis"]["test"]["scores"][name] for name in scores} == scores
    again = evaluate_run(opened)
    assert again["test"] == decided.metrics["test"]
    assert again["validation"]["accuracy"] == decided.metrics["saved"]["accuracy"]
    of_file = evaluate_run(opened, [tiny_data / "test.tsv"])
    assert of_file["test.tsv"] == decided.metrics["test"]

    texts = list(zip(*rows.texts.values(), strict=True))
    predicted = opened.predict(texts)
    assert [row["label"] for row in predicted] == [task.label_names[label] for label in labels]
    probabilities = compute_probabilities(rows.logits, task.problem_type, decision)
    shown = [list(row["scores"].values()) for row in predicted]
    assert np.allclose(shown, probabilities, atol=1e-5)
    output = tmp_path / "predicted.csv"
    source = tmp_path / "rows.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(rows.texts), *texts])
    opened.predict_file([source], output)
    with output.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["label"] for row in written] == [row["label"] for row in predicted]
    above = [float(row["probability_paraphrase"]) > decision.thresholds[0] for row in written]
    assert above == [row["label"] == "paraphrase" for row in written]


def test_metrics_say_what_changed_and_that_the_validation_rows_were_cross_fitted(decided):
    of = decided.metrics["decision"]
    validation, test = of["splits"]["validation"], of["splits"]["test"]
    assert (validation["cross_fitted"], test["cross_fitted"]) == (True, False)
    assert of["folds"] == 5
    assert of["chosen_on"] == validation["rows"] == 21
    for split in (validation, test):
        for name, before in split["before"]["scores"].items():
            difference = split["after"]["scores"][name] - before
            assert split["difference"]["scores"][name] == difference
        assert {"accuracy", "f1", "cost", "log_loss", "expected_calibration_error"} == set(
            split["before"]["scores"]
        )
    before = {name: validation["before"]["scores"][name] for name in ("accuracy", "f1")}
    assert before == {name: decided.metrics["saved"][name] for name in before}
    assert test["after"]["scores"]["accuracy"] == decided.metrics["test"]["accuracy"]


def test_the_page_and_the_card_say_it(decided):
    opened = load_run(decided.folder)
    page, card = render_report(opened), render_card(opened)
    assert '<section id="decision">' in page
    assert "cross-fitted: each of" in page
    threshold = decided.metrics["decision"]["thresholds"]["paraphrase"]
    assert f"- Answer `paraphrase` where its probability is above {threshold:.6g}." in card
    assert "- Divide the logits by the temperature" in card


def test_a_decision_changes_nothing_of_the_training_and_without_one_nothing_is_there(run):
    plain = run(num_train_epochs=1)
    decided = run(num_train_epochs=1, threshold_metric="f1", calibrate=True)
    assert plain.series("loss") == decided.series("loss")
    for name in ("evaluations", "saved"):
        assert plain.metrics[name] == decided.metrics[name]
    assert plain.metrics["analysis"] == decided.metrics["analysis"]
    assert "decision" not in plain.metrics
    assert not (plain.folder / DECISION_FILE).exists()
    assert 'id="decision"' not in render_report(load_run(plain.folder))
    assert load_run(plain.folder).decision is None


def test_of_several_labels_the_log_loss_is_the_one_that_the_temperature_was_fitted_to(
    tiny_model, tmp_path
):
    path = tmp_path / "rows.jsonl"
    kinds = [[], ["a"], ["b"], ["a", "b"]]
    lines = [
        json.dumps({"text": f"the cat {row}", "label": kinds[row * 7 % 4]}) for row in range(40)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = (str(path),)
    decided = run_tiny(
        tmp_path / "run",
        task=None,
        train_file=files,
        validation_file=files,
        model=str(tiny_model),
        num_train_epochs=1,
        threshold_metric="f1_macro",
        calibrate=True,
    )
    rows = RowPredictions.load(decided.folder, "validation")
    losses = row_losses(rows.logits, rows.references, "multi_label_classification", None)
    before = decided.metrics["decision"]["splits"]["validation"]["before"]["scores"]
    assert before["log_loss"] == pytest.approx(losses.mean())


BINARY = get_task("demo")
THIRD = '"thresholds": {"paraphrase": 0.3}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((text, "cannot be used: ") for text in ("", "{", "[]", "null", "{}", "1", "[" * 100_000)),
        ('{"version": 2, "temperature": 1, "thresholds": null}', "it is of version 2"),
        *(
            (f'{{"version": 1, "temperature": {value}, {THIRD}}}', "is not a positive number")
            for value in ("-1.0", "0", "NaN", "Infinity", "1e999")
        ),
        *(
            (f'{{"version": 1, "temperature": {value}, {THIRD}}}', "cannot be used: ")
            for value in ('"x"', "null", "[1]", "{}")
        ),
        *(
            (f'{{"version": 1, "temperature": 1, "thresholds": {value}}}', "not of the label para")
            for value in ('{"zzz": 0.3}', '{"different": 0.3}', "{}")
        ),
        *(
            (f'{{"version": 1, "temperature": 1, "thresholds": {value}}}', "cannot be used: ")
            for value in ("[0.3]", "0.3", "false", '{"paraphrase": null}', '{"paraphrase": "x"}')
        ),
        (
            '{"version": 1, "temperature": 1, "thresholds": {"different": 0.3, "paraphrase": 0.3}}',
            "not of the label paraphrase",
        ),
        *(
            (f'{{"version": 1, "temperature": 1, {THIRD[:-4]}{value}}}}}', "are not probabilities")
            for value in ("99", "-0.1", "NaN", "Infinity")
        ),
    ],
)
def test_a_decision_that_makes_no_sense_is_a_line(tmp_path, content, message):
    (tmp_path / DECISION_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_decision(tmp_path, BINARY)
    assert "\n" not in str(caught.value)


def test_thresholds_are_read_by_their_labels_name(tmp_path):
    thresholds = {"b": 0.25, "a": 0.75}
    content = {"version": 1, "temperature": 2, "thresholds": thresholds}
    (tmp_path / DECISION_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert load_decision(tmp_path, SEVERAL) == DecisionRule(2.0, (0.75, 0.25))


def test_of_three_labels_no_threshold_is_read(tmp_path):
    content = {"version": 1, "temperature": 2, "thresholds": {"b": 0.25, "c": 0.75}}
    (tmp_path / DECISION_FILE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match="not of the label none"):
        load_decision(tmp_path, THREE)


def test_the_name_of_version_0_1_is_read_and_a_file_of_transformers_is_not(tmp_path):
    old = tmp_path / "decision.json"
    DecisionRule(2.0, (0.3,)).save(tmp_path, ["paraphrase"])
    (tmp_path / DECISION_FILE).rename(old)
    assert load_decision(tmp_path, BINARY) == DecisionRule(2.0, (0.3,))
    DecisionConfig(temperature={"choice": 3.0}).save_pretrained(tmp_path)
    assert "temperature" in old.read_text(encoding="utf-8")
    assert load_decision(tmp_path, BINARY) is None


def test_a_decision_that_is_missing_is_a_line(decided, tmp_path):
    folder = shutil.copytree(decided.folder, tmp_path / "run")
    (folder / DECISION_FILE).unlink()
    with pytest.raises(CheckpointError, match=f"{DECISION_FILE}: missing"):
        load_run(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=f"it has no {DECISION_FILE} yet"):
        load_run(folder).predict([("a cat", "a dog")])


# --- refused


VALUES = Task("mine", ("text",), (), ("rmse",), "regression")
THREE = Task("mine", ("text",), ("a", "b", "c"), ("accuracy",))
SEVERAL = Task("mine", ("text",), ("a", "b"), ("f1_micro",), "multi_label_classification")


@pytest.mark.parametrize(
    ("task", "setting", "message"),
    [
        (VALUES, {"threshold_metric": "f1"}, "--threshold-metric: is not for regression"),
        (VALUES, {"threshold_costs": (1.0, 2.0)}, "--threshold-costs: is not for regression"),
        (VALUES, {"calibrate": True}, "--calibrate: is not for regression"),
        (THREE, {"threshold_metric": "f1"}, "of 3 labels the most probable is the answer"),
        (THREE, {"threshold_costs": (1.0, 2.0)}, "of 3 labels the most probable is the answer"),
        (SEVERAL, {"threshold_metric": "accuracy"}, "no threshold is chosen by 'accuracy'"),
        (get_task("demo"), {"threshold_metric": "roc_auc"}, "no threshold is chosen by 'roc_auc'"),
    ],
)
def test_where_there_is_nothing_to_choose_the_settings_are_refused(task, setting, message):
    with pytest.raises(UserError) as caught:
        check_fits_task(TrainConfig(**setting), task)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_three_labels_can_be_calibrated():
    assert check_fits_task(TrainConfig(calibrate=True), THREE) is None


def test_validation_rows_of_one_label_are_refused_before_the_training(tiny_data, tiny_model):
    config = TrainConfig(
        task="demo", data_dir=tiny_data, model=str(tiny_model), dry_run=True, threshold_metric="f1"
    )
    inputs = load_inputs(config)
    ones = [row for row, label in enumerate(inputs.raw["validation"]["label"]) if label]
    one_label = {**inputs.raw, "validation": inputs.raw["validation"].select([0, *ones])}
    with pytest.raises(UserError, match="1 of the validation rows have the label different"):
        check_labels(config, replace(inputs, raw=one_label))
    lone = {**inputs.raw, "validation": inputs.raw["validation"].select([0])}
    calibrated = replace(config, threshold_metric=None, calibrate=True)
    with pytest.raises(UserError, match="one validation row is too few"):
        check_labels(calibrated, replace(inputs, raw=lone))


def test_two_thresholds_are_refused():
    with pytest.raises(UserError, match="choose one threshold; give one"):
        check_config(TrainConfig(threshold_metric="f1", threshold_costs=(1.0, 2.0)))


def test_a_threshold_of_one_half_and_temperature_1_answer_as_trained():
    logits = np.random.default_rng(0).normal(size=(50, 2))
    for problem_type, thresholds in (
        ("single_label_classification", (0.5,)),
        ("multi_label_classification", (0.5, 0.5)),
    ):
        same = DecisionRule(1.0, thresholds)
        assert np.array_equal(
            predict_labels(logits, problem_type), predict_labels(logits, problem_type, same)
        )
