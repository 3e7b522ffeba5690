"""The chosen matrix products are those of the training, its evaluations, its resumes, its predictions."""

import json

import pytest
import torch
from tiny import largest_difference, run_tiny
from torch import nn

from plainloop.errors import CheckpointError, UserError
from plainloop.model import matrix_products
from plainloop.predict.evaluate_run import evaluate_run
from plainloop.predict.loaded_run import load_run
from plainloop.training import loop
from plainloop.training.steps import all_reduce_sum

SWITCH = torch.backends.mkldnn.matmul


@pytest.fixture
def measured(monkeypatch):
    """Let oneDNN's products measure as exact or not, and as so many times as fast."""

    def measured(gain, *, exact=True):
        monkeypatch.setattr(matrix_products, "_compare", lambda shape: (exact, gain))

    measured(3.0)
    return measured


@pytest.fixture
def settings(tiny_model, tiny_data):
    return {"model": str(tiny_model), "data_dir": tiny_data, "num_train_epochs": 2}


@pytest.fixture
def precisions(monkeypatch):
    """The switch in each product of a linear layer, as (training, precision)."""
    seen, original = [], nn.Linear.forward

    def forward(self, inputs):
        seen.append((self.training, SWITCH.fp32_precision))
        return original(self, inputs)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    return seen


def test_training_and_evaluations_use_the_choice_and_put_the_switch_back(
    tmp_path, measured, settings, precisions, capsys
):
    run_tiny(tmp_path / "run", **settings)
    assert SWITCH.fp32_precision == "none"
    assert "oneDNN's own matrix products: oneDNN's measured 3.00 times" in capsys.readouterr().out
    later = precisions[precisions.index((True, "bf16")) :]  # after the first forward pass
    assert set(later) == {(True, "bf16"), (False, "bf16")}


def test_the_switch_is_put_back_when_the_training_ends_by_an_error(
    tmp_path, measured, settings, monkeypatch
):
    def not_finite(denominators, accelerator):
        assert SWITCH.fp32_precision == "bf16"
        return all_reduce_sum(denominators, accelerator) * float("nan")

    monkeypatch.setattr(loop, "all_reduce_sum", not_finite)
    with pytest.raises(UserError, match="not finite"):
        run_tiny(tmp_path / "run", **settings)
    assert SWITCH.fp32_precision == "none"


def test_padded_execution_leaves_the_switch_alone(tmp_path, measured, settings, precisions):
    run_tiny(tmp_path / "run", execution="padded", **settings)
    assert {precision for _, precision in precisions} == {"none"}


def test_predictions_use_the_choice_and_put_the_switch_back(
    tmp_path, measured, settings, precisions
):
    run = load_run(run_tiny(tmp_path / "run", **settings).folder)
    precisions.clear()
    run.predict([("one text", "another")] * 3)
    evaluate_run(run)
    assert {precision for _, precision in precisions} == {"bf16"}
    assert SWITCH.fp32_precision == "none"


def test_a_resumed_run_takes_the_saved_choice_and_ends_with_the_same_bits(
    tmp_path, measured, settings, capsys
):
    straight = run_tiny(tmp_path / "straight", **settings)
    run_tiny(tmp_path / "resumed", **settings)
    (tmp_path / "resumed/model.safetensors").unlink()
    newest = max((tmp_path / "resumed/checkpoints").iterdir())
    for file in newest.iterdir():  # so that the epoch before is the newest
        file.unlink()
    newest.rmdir()
    measured(0.3)
    capsys.readouterr()
    resumed = run_tiny(tmp_path / "resumed", resume=True, **settings)
    assert "oneDNN's own matrix products: as in the saved run" in capsys.readouterr().out
    assert largest_difference(resumed.weights, straight.weights) == 0
    state = json.loads((newest / "state.json").read_text())
    assert state["identity"]["machine"]["products"] == "onednn"


@pytest.mark.parametrize("products", ["auto", "default"])
def test_a_saved_choice_that_cannot_be_taken_here_needs_force(
    tmp_path, measured, settings, products
):
    run_tiny(tmp_path / "run", **settings)
    if products == "auto":
        measured(3.0, exact=False)
    with pytest.raises(CheckpointError, match="products was 'onednn', is 'default'"):
        run_tiny(tmp_path / "run", resume=True, products=products, **settings)
    run_tiny(tmp_path / "run", resume=True, force=True, products=products, **settings)
