"""docs/how-to/change-the-loop.md: its patches apply, and do what the page says of them."""

import importlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from tiny import largest_difference
from torch.nn import functional

from plainloop.config.settings import TrainConfig
from plainloop.errors import CheckpointError, StoppedError
from plainloop.predict.evaluate_run import evaluate_run
from plainloop.predict.loaded_run import load_run
from plainloop.run.signals import StopRequest

PAGE = ROOT / "docs" / "how-to" / "change-the-loop.md"


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """A folder in which the page's patches were applied, as a person would."""
    folder = tmp_path_factory.mktemp("patched")
    (folder / "train.py").write_bytes((ROOT / "train.py").read_bytes())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    patches = [block for block in blocks if "patch " in block]
    assert len(patches) == 5
    assert all(sum(line[:1] in "+-" for line in block.splitlines()) <= 40 for block in patches)
    for block in patches:
        subprocess.run(["bash", "-euc", block], cwd=folder, check=True, env=environment)
    return folder


@pytest.fixture
def train(patched, tiny_model, tiny_data, tmp_path, monkeypatch):
    """Run a patched script's main; the run's folder."""
    monkeypatch.syspath_prepend(patched)

    def train(script, name, stop=None, **settings):
        module = importlib.import_module(script)
        config = TrainConfig(
            task="demo",
            model=str(tiny_model),
            data_dir=tiny_data,
            output_dir=tmp_path / name,
            **{"logging_steps": 1, "learning_rate": 1e-3, "max_steps": 3, **settings},
        )
        module.main(config, stop or StopRequest())
        return tmp_path / name

    return train


def history(folder):
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def losses(folder):
    return [record["loss"] for record in history(folder)]


@pytest.mark.slow
def test_r_drops_second_term_is_in_the_loss(train, run, monkeypatch):
    plain = losses(run(max_steps=3, dropout=0.0, learning_rate=1e-3).folder)
    same = losses(train("r_drop", "no dropout", dropout=0.0))
    assert same == pytest.approx(plain, rel=1e-5)  # both copies agree: the term is 0
    loop = sys.modules["loop"]
    first = []
    for alpha in (0.0, 1.0, 3.0):
        monkeypatch.setattr(loop, "ALPHA", alpha)
        first.append(losses(train("r_drop", f"{alpha}", dropout=0.3, max_steps=1))[0])
    assert first[1] - first[0] > 1e-4
    assert first[2] - first[0] == pytest.approx(3 * (first[1] - first[0]), rel=1e-3)
    logits = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    p, q = logits.log_softmax(dim=-1)
    divergences = [
        float(functional.kl_div(*pair, reduction="batchmean", log_target=True))
        for pair in ((p, q), (q, p))
    ]
    assert float(loop.disagreement(*logits)) == pytest.approx(sum(divergences) / 2, rel=1e-5)


def test_each_layer_has_its_rate_in_the_optimizer(train, monkeypatch):
    import plainloop as pl

    rates = []
    original = pl.train

    def noting_rates(model, optimizer, *rest, **named):
        names = {parameter: name for name, parameter in model.named_parameters()}
        for group in optimizer.param_groups:
            rates.extend((names[parameter], group["initial_lr"]) for parameter in group["params"])
        return original(model, optimizer, *rest, **named)

    monkeypatch.setattr(pl, "train", noting_rates)
    folder = train("layerwise", "layerwise", weight_decay=0.1)
    assert len(rates) == len(dict(rates)) > 30
    parts = ("classifier", "pooler", "layer.1.", "layer.0.", "embeddings")
    found = {
        part: {round(rate / 1e-3, 6) for name, rate in rates if part in name} for part in parts
    }
    assert list(found.values()) == [{1.0}, {1.0}, {0.9}, {0.81}, {0.729}]
    assert [record["learning_rate"] for record in history(folder)] == pytest.approx(
        [1e-3, 2e-3 / 3, 1e-3 / 3]
    )


class StopAtTheThirdStep(StopRequest):
    steps = 0

    def signal_on_any_rank(self, accelerator):
        self.steps += 1
        return 15 if self.steps == 3 else None


DECAY = {"weight_decay": 0.1}


@pytest.mark.parametrize(
    ("script", "more"),
    [
        ("layerwise", DECAY),
        ("head", DECAY),
        ("ema", {}),
        ("ema", {**DECAY, "execution": "padded"}),  # as the page says
    ],
)
def test_a_changed_run_that_stops_goes_on_with_the_same_bits(train, script, more):
    settings = {"max_steps": 5, "eval_strategy": "no", **more}
    whole = train(script, "whole", **settings)
    with pytest.raises(StoppedError, match="step 3"):
        train(script, "stopped", StopAtTheThirdStep(), **settings)
    resumed = train(script, "stopped", resume=True, **settings)
    weights = [load_file(folder / "model.safetensors") for folder in (whole, resumed)]
    assert largest_difference(*weights) == 0


def test_the_entropy_is_subtracted_from_the_loss(train, run, monkeypatch):
    plain = losses(run(max_steps=1, dropout=0.0).folder)[0]
    first = []
    for beta in (0.0, 0.1, 0.2):
        penalty = importlib.import_module("penalty")
        monkeypatch.setattr(penalty, "BETA", beta)
        first.append(losses(train("penalty", f"{beta}", dropout=0.0, max_steps=1))[0])
    assert first[0] == pytest.approx(plain, rel=1e-6)
    assert 0 < (first[0] - first[1]) / 0.1 <= math.log(2)
    assert first[0] - first[2] == pytest.approx(2 * (first[0] - first[1]), rel=1e-3)
    monkeypatch.setattr(penalty, "BETA", 1.0)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    expected = functional.cross_entropy(logits, labels) - entropy
    found = penalty.penalized(SimpleNamespace(logits=logits), labels)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_the_average_of_the_weights_is_evaluated_and_saved(train, run):
    every_step = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    folder = train("ema", "ema", max_steps=4, eval_strategy="steps", eval_steps=4, **every_step)
    plain = run(max_steps=4, learning_rate=1e-3)
    assert losses(folder) == plain.series("loss"), "the average does not change the training"
    steps = sorted((folder / "checkpoints").iterdir())
    trained = [load_file(step / "model.safetensors") for step in steps]
    average = trained[0]
    for weights in trained[1:]:
        average = {name: 0.99 * average[name] + 0.01 * weights[name] for name in average}
    saved = load_file(folder / "model.safetensors")
    assert largest_difference(saved, average) < 1e-6
    assert largest_difference(saved, trained[-1]) > 1e-4
    noted = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["saved"]
    assert evaluate_run(load_run(folder))["validation"]["loss"] == pytest.approx(noted["loss"])


def test_a_checkpoint_without_a_registered_object_is_refused(train):
    with pytest.raises(StoppedError, match="step 3"):
        train("r_drop", "plain", StopAtTheThirdStep(), max_steps=5, eval_strategy="no")
    with pytest.raises(CheckpointError, match="registered-ema"):
        train("ema", "plain", resume=True, max_steps=5, eval_strategy="no")


def test_the_head_follows_its_own_optimizer(train, run):
    """SGD's first step is its rate times the clipped gradient; AdamW's is its rate for each weight."""
    start = run(max_steps=1, learning_rate=1e-12).weights
    folder = train("head", "head", max_steps=1, learning_rate=1e-12)
    weights = load_file(folder / "model.safetensors")
    steps = {name: float((weights[name] - start[name]).norm()) for name in start}
    moved = {name: step for name, step in steps.items() if step > 1e-6}
    assert moved.keys() == {"classifier.weight", "classifier.bias"}
    assert 0 < math.hypot(*moved.values()) <= 0.01 * 1.0 + 1e-6, "clipped to a norm of 1"
