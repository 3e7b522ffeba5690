"""A script gives plainloop's numbers: losses, gradients, rates and weights bit for bit."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from runs import make_runs
from tiny import run_tiny

from plainloop.config import TrainConfig
from plainloop.eject.script import make_script

LEAST_COMPARED = 8
CLOSE = 1e-12  # relative: scores are of numpy here and of scikit-learn there; losses are equal


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data):
    return make_runs(tmp_path_factory.mktemp("files"), tiny_data)


def compare(settings, model: Path, folder: Path) -> int:
    """Train with plainloop and with the script, each in a place of its own; the steps compared."""
    settings = {"model": str(model), "logging_steps": 1, **settings}
    ours = run_tiny(folder / "ours", **{"task": None, **settings})
    given = {name: value for name, value in settings.items() if name != "task" or value}
    config = TrainConfig(output_dir=folder / "theirs", **given)
    script = make_script(config, folder / "train_it.py")
    script.write()
    finished = subprocess.run(
        [sys.executable, str(script.path)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "Training: 100%" in finished.stderr or settings.get("early_stopping_patience")
    lines = (folder / "theirs" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    theirs = [json.loads(line) for line in lines]
    compared = ("step", "loss", "grad_norm", "learning_rate")
    assert theirs == [{name: record[name] for name in compared} for record in ours.history]
    if settings.get("eval_strategy") != "no":
        metrics = json.loads((folder / "theirs" / "metrics.json").read_text(encoding="utf-8"))
        compare_scores(metrics.pop("evaluations"), ours.metrics["evaluations"])
        for split, scores in metrics.items():
            compare_scores([scores], [ours.metrics[split]])
    hashes = [
        hashlib.sha256((folder / name / "model.safetensors").read_bytes()).hexdigest()
        for name in ("ours", "theirs")
    ]
    assert hashes[0] == hashes[1]
    for name in ("config.json", "tokenizer.json"):
        assert (folder / "ours" / name).read_bytes() == (folder / "theirs" / name).read_bytes()
    return len(theirs)


def compare_scores(theirs, ours):
    assert len(theirs) == len(ours) > 0
    for their, our in zip(theirs, ours, strict=True):
        assert their.get("step") == our.get("step")
        assert their["loss"] == our["loss"]
        assert len(their) > 1 + ("step" in their)
        assert their == {name: pytest.approx(our[name], rel=CLOSE) for name in their}


def test_a_script_gives_the_same_bits(runs, tiny_model, tmp_path):
    assert compare(runs["pair"], tiny_model, tmp_path) == 12


@pytest.mark.slow
def test_every_kind_of_run_gives_the_same_bits(runs, tiny_model, tmp_path):
    compared = {}
    for name, settings in runs.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        compared[name] = compare(settings, tiny_model, folder)
    print(f"{len(compared)} runs compared, {sum(compared.values())} logged steps: {compared}")
    assert compared.keys() == runs.keys()
    assert len(compared) >= LEAST_COMPARED
    assert all(compared.values())
