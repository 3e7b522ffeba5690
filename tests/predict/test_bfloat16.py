"""bfloat16 is used only if it is asked for and measures faster."""

import numpy as np
import pytest
import torch
from tiny import run_tiny

from plainloop.model.matrix_products import measure_bfloat16
from plainloop.predict import classifier
from plainloop.predict.evaluate_run import evaluate_run
from plainloop.predict.loaded_run import load_run

PAIRS = [("the cat sees a car", "a car"), ("one", "two three"), ("a dog hears", "a song")]


@pytest.fixture(scope="module")
def folder(tiny_model, tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return run_tiny(folder, model=str(tiny_model), data_dir=tiny_data, num_train_epochs=1).folder


def probabilities(run):
    return np.array([list(row["scores"].values()) for row in run.predict(PAIRS)])


@pytest.mark.parametrize(("gain", "wanted"), [(5.0, torch.bfloat16), (1.1, torch.float32)])
def test_it_is_computed_in_only_where_it_measures_faster(folder, monkeypatch, gain, wanted):
    exact = probabilities(load_run(folder))
    monkeypatch.setattr(classifier, "measure_bfloat16", lambda model, products: gain)
    run = load_run(folder, bf16=True)
    found = probabilities(run)
    assert {parameter.dtype for parameter in run.classifier.model.parameters()} == {wanted}
    name = "bfloat16" if wanted == torch.bfloat16 else "float32"
    said = f"{name}: bfloat16 measured {gain:.2f} times as fast as float32"
    assert run.classifier.precision == said
    if wanted == torch.float32:
        assert (found == exact).all()
    else:
        assert 0 < np.abs(found - exact).max() < 0.02


def test_without_the_flag_nothing_is_measured(folder, monkeypatch):
    monkeypatch.setattr(classifier, "measure_bfloat16", None)
    assert load_run(folder).classifier.precision == "float32"


def test_the_measured_factor_is_a_positive_number():
    assert measure_bfloat16(torch.nn.Linear(64, 64), "default") > 0
    assert measure_bfloat16(torch.nn.Embedding(64, 64), "default") == 0


@pytest.mark.slow
def test_the_command_says_what_was_computed_in(folder, tmp_path, run_command):
    rows = tmp_path / "rows.csv"
    rows.write_text("sentence1,sentence2\n" + "a,b\n" * 3, encoding="utf-8")
    command = ["predict", folder, "--file", rows, "-o", tmp_path / "o.csv", "--bf16"]
    done = run_command("-m", "plainloop", *command)
    assert "Precision      " in done.stderr
    assert "times as fast as float32" in done.stderr


def test_a_run_of_bf16_is_evaluated_as_it_was_trained(run):
    trained = run(bf16=True, max_steps=6)
    scores = evaluate_run(load_run(trained.folder))["validation"]
    assert scores == {name: trained.metrics["saved"][name] for name in ("loss", "accuracy", "f1")}
