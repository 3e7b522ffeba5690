"""The study of quality: what its recipes train on and predict, and the intervals of their gains."""

import json
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset
from quality import __main__ as study
from quality.__main__ import Cell, read_results
from quality.recipes import DEFAULT, DISTILLED, ENSEMBLE, RECIPES, Recipe
from quality.tables import OF_FOLDS, mean_interval, score
from quality.training import Data, Training, average_weights, create_optimizer, only_letters, soften
from samples import write_glue
from scipy import stats
from transformers import AutoModelForSequenceClassification

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task


@pytest.fixture
def glue(tmp_path):
    write_glue(tmp_path / "glue")
    return tmp_path / "glue"


@pytest.fixture
def model(tiny_model):
    return AutoModelForSequenceClassification.from_pretrained(tiny_model)


@pytest.mark.nightly
@pytest.mark.parametrize("task", ["mrpc", "cola", "stsb"])
def test_every_recipe_predicts_the_held_out_rows_and_a_second_run_trains_nothing(
    task, glue, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(sys, "argv", ["quality", str(glue), "--tasks", task, "--seeds", "1"])
    study.main()
    shown = capsys.readouterr().out
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    results = [json.loads(line) for line in lines]
    wanted = {*RECIPES, ENSEMBLE, DISTILLED}
    wanted -= {"cola": {"both orders"}, "stsb": {"STS-B first"}}.get(task, set())
    assert sorted(each["recipe"] for each in results) == sorted(wanted)
    held_out = Data.read(task, glue, 0).raw["validation"]
    for each in results:
        assert len(each["predictions"]) == len(held_out)
        assert task == "stsb" or all(0 <= value <= 1 for value in each["predictions"])
    predictions = [tuple(each["predictions"]) for each in results]
    assert len(set(predictions)) == len(predictions)
    assert f"| {DEFAULT} | 1 |" in shown
    study.main()
    assert (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines() == lines


@pytest.mark.slow
def test_folds_hold_out_each_training_row_once_and_no_row_is_in_both_parts(glue):
    folds = [Data.read("mrpc", glue, fold).raw for fold in range(5)]
    texts = [text for fold in folds for text in fold["validation"]["sentence1"]]
    assert sorted(texts) == sorted(Data.read("mrpc", glue, None).raw["train"]["sentence1"])
    for fold in folds:
        shared = set(fold["train"]["sentence1"]) & set(fold["validation"]["sentence1"])
        assert not shared
        assert abs(np.mean(fold["validation"]["label"]) - np.mean(fold["train"]["label"])) < 0.1


@pytest.mark.slow
def test_an_intermediate_task_has_no_text_of_a_held_out_row(glue):
    mrpc, stsb = Data.read("mrpc", glue, 1), Data.read("stsb", glue, None)
    held_out = {only_letters(text) for text in mrpc.raw["validation"]["sentence1"]}
    before = {only_letters(text) for text in stsb.raw["train"]["sentence1"]}
    assert held_out <= before, "the samples share rows, as GLUE's do"
    kept = stsb.without_texts_of(mrpc).raw["train"]
    assert {only_letters(text) for text in kept["sentence1"]} == before - held_out


def test_seeds_that_choose_and_seeds_that_measure_have_other_folds(glue):
    held_out = [set(Data.read("mrpc", glue, seed).raw["validation"]["idx"]) for seed in range(10)]
    for partition in (held_out[:5], held_out[5:]):
        assert sorted(row for rows in partition for row in rows) == [
            *range(len(set().union(*partition)))
        ]
    assert not [rows for rows in held_out[5:] if rows in held_out[:5]]


def test_a_line_that_a_kill_has_cut_is_trained_again_and_changed_settings_are_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    line = {**Cell("mrpc", DEFAULT, 0, False)._asdict(), "settings": study.settings_of(DEFAULT)}
    path.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20], encoding="utf-8")
    assert [*read_results(path)] == [Cell("mrpc", DEFAULT, 0, False)]
    assert path.read_text(encoding="utf-8") == json.dumps(line) + "\n"
    line["settings"]["both_orders"] = True
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="other settings"):
        read_results(path)


def test_a_text_is_the_same_in_another_tokenization():
    assert only_letters('"It\'s 3 p.m.," he said') == only_letters("`` It 's 3 p.m. , '' He said")


@pytest.mark.slow
def test_mean_pooling_predicts_the_same_with_and_without_padding(glue):
    data = Data.read("mrpc", glue, 0)
    recipes = [
        Recipe({"execution": execution}, mean_pooling=True) for execution in ("unpadded", "padded")
    ]
    found = [Training(recipe, data, 0).predict("validation") for recipe in recipes]
    assert np.abs(found[0] - found[1]).max() < 1e-6
    assert len(set(found[0][:, 1].tolist())) == len(found[0]), "rows of their own"


def test_swapped_pairs_have_the_same_label(glue):
    data = Data.read("mrpc", glue, 0)
    rows, swapped = data.raw["train"], data.swapped().raw["train"]
    assert swapped["sentence1"] == rows["sentence2"]
    assert swapped["sentence2"] == rows["sentence1"]
    assert swapped["label"] == rows["label"]


def test_soft_labels_are_the_mean_of_label_and_teacher():
    rows = Dataset.from_dict({"labels": [1, 0]})
    soft = soften(rows, np.array([[0.5, 0.5], [0.75, 0.25]]), get_task("mrpc"))
    assert soft["labels"] == [[0.25, 0.75], [0.875, 0.125]]
    values = soften(Dataset.from_dict({"labels": [4.0]}), np.array([[3.0]]), get_task("stsb"))
    assert values["labels"] == [3.5]


def test_each_layer_has_the_rate_of_the_one_above_times_the_decay(model):
    optimizer = create_optimizer(model, TrainConfig(learning_rate=1.0), 0.5)
    rates = {group["params"][0]: group["lr"] for group in optimizer.param_groups}
    layers = model.bert.encoder.layer
    assert {rates[parameter] for parameter in layers[1].parameters()} == {0.5}
    assert {rates[parameter] for parameter in layers[0].parameters()} == {0.25}
    assert {rates[parameter] for parameter in model.bert.embeddings.parameters()} == {0.125}
    assert {rates[parameter] for parameter in model.classifier.parameters()} == {1.0}
    assert len(rates) == len(list(model.parameters()))


def test_the_average_follows_the_weights_after_each_step(model):
    class Prepared:
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    before = model.classifier.bias.detach().clone()
    means = average_weights(model, Prepared, 0.75)
    for _ in range(2):
        model.classifier.bias.grad = torch.ones(2)
        Prepared.optimizer.step()
    # 0, then 0.25 * -1, then 0.75 * -0.25 + 0.25 * -2
    assert torch.allclose(means[model.classifier.bias], before - 0.6875)
    assert average_weights(model, Prepared, None) == {}


def test_the_interval_is_students_with_the_variance_of_overlapping_folds():
    mean, low, high = mean_interval([1.0, 3.0], OF_FOLDS)
    half = stats.t.ppf(0.975, 1) * (2.0 * (1 / 2 + 1 / 4)) ** 0.5
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert mean_interval([1.0], 0.0) == (1.0, float("-inf"), float("inf"))
    half = stats.t.ppf(0.975, 1)  # with the usual variance, 2 / 2
    assert mean_interval([1.0, 3.0], 0.0) == pytest.approx((2.0, 2.0 - half, 2.0 + half))


def test_scores_are_glues_own():
    labels = np.array([1.0, 1.0, 0.0, 0.0])
    predictions = np.array([0.9, 0.4, 0.6, 0.1])
    assert score("mrpc", labels, predictions) == pytest.approx(50.0)
    assert score("cola", labels, predictions) == pytest.approx(0.0)
    assert score("stsb", labels, 2 * labels + 1) == pytest.approx(100.0)
