"""Runs that earlier versions finished are read by this one; make_runs.py made them."""

import json
import shutil
from pathlib import Path

import pytest

from plainloop import load_run
from plainloop.cli.app import app
from plainloop.cli.flags import run_app

VERSIONS = sorted(path for path in Path(__file__).parent.glob("v*") if path.is_dir())
SCORES = {
    "single": "accuracy",
    "multi": "f1_micro",
    "seeds/seed-42": "accuracy",
    "seeds/seed-43": "accuracy",
}


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def old(request, tmp_path, monkeypatch):
    """A copy of the runs of a version, as the folder that the test is in."""
    folder = tmp_path / "old"
    shutil.copytree(request.param, folder)
    monkeypatch.chdir(folder)
    return folder


def test_old_runs_are_there():
    assert VERSIONS


@pytest.mark.parametrize("name", SCORES)
def test_an_old_run_predicts_what_it_predicted(old, name):
    rows = "tags.jsonl" if name == "multi" else "rows.csv"
    run_app(app, ["predict", name, "--file", rows, "--output", "predicted.jsonl"])
    assert len(Path("predicted.jsonl").read_text(encoding="utf-8").splitlines()) == 100
    saved = json.loads(Path(name, "metrics.json").read_text(encoding="utf-8"))["saved"]
    run_app(app, ["evaluate", name, "--output", "scores.json"])
    again = json.loads(Path("scores.json").read_text(encoding="utf-8"))["validation"]
    assert again[SCORES[name]] == saved[SCORES[name]]
    assert again["loss"] == pytest.approx(saved["loss"], rel=1e-6)


@pytest.mark.parametrize("name", ["single", "seeds", "multi"])
def test_an_old_run_gets_its_page_again(old, name):
    run_app(app, ["report", name])
    assert "<html" in Path(name, "report.html").read_text(encoding="utf-8")


def test_the_decision_of_an_old_run_is_used(old):
    assert load_run("single").decision.temperature != 1


def test_old_runs_are_compared(old):
    run_app(app, ["compare", "seeds/seed-42", "seeds/seed-43", "--output", "compared.json"])
    assert Path("compared.json").is_file()


def test_an_old_run_is_ejected(old):
    run_app(app, ["eject", "seeds/seed-42", "-o", "ejected.py"])
    source = Path("ejected.py").read_text(encoding="utf-8")
    compile(source, "ejected.py", "exec")
    assert "SEED = 42" in source
    assert "accelerator.backward(loss)" in source


def test_an_old_run_goes_on_where_it_stopped(old):
    """Its last checkpoint is of its last step, so the weights do not move."""
    before = Path("single/model.safetensors").read_bytes()
    run_app(app, ["train", "--config", "single/run.yaml", "--resume", "--force"])
    assert Path("single/model.safetensors").read_bytes() == before
