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
from plainloop.errors import StoppedError
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
    assert len(patches) == 3
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

    def agreed(self, accelerator):
        self.steps += 1
        return 15 if self.steps == 3 else None


def test_a_layerwise_run_that_stops_goes_on_with_the_same_bits(train):
    settings = {"max_steps": 5, "weight_decay": 0.1, "eval_strategy": "no"}
    whole = train("layerwise", "whole", **settings)
    with pytest.raises(StoppedError, match="step 3"):
        train("layerwise", "stopped", StopAtTheThirdStep(), **settings)
    resumed = train("layerwise", "stopped", resume=True, **settings)
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
