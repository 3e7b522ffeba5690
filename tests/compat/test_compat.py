"""Runs that earlier versions finished are read by this one; make_runs.py made them."""

import json
import shutil
from pathlib import Path

import pytest

from plainloop import load_run
from plainloop.cli.app import app
from plainloop.cli.flags import run_app
from plainloop.errors import CheckpointError

VERSIONS = sorted(path for path in Path(__file__).parent.glob("v*") if path.is_dir())
SCORES = {
    "single": "accuracy",
    "multi": "f1_micro",
    "seeds/seed-42": "accuracy",
    "seeds/seed-43": "accuracy",
    "listed": "accuracy",
}


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Copy the runs of a version into a folder, which the test is then in."""

    def old(version):
        shutil.copytree(version, tmp_path / "old")
        monkeypatch.chdir(tmp_path / "old")

    return old


def each(*names):
    """Every version that has a run, with the run's name."""
    return pytest.mark.parametrize(
        ("version", "name"),
        [
            pytest.param(version, name, id=f"{version.name}-{name}")
            for version in VERSIONS
            for name in names
            if (version / name).is_dir()
        ],
    )


def test_old_runs_are_there():
    assert VERSIONS


@each(*SCORES)
def test_an_old_run_predicts_what_it_predicted(old, version, name):
    old(version)
    rows = "tags.jsonl" if name == "multi" else "rows.csv"
    run_app(app, ["predict", name, "--file", rows, "--output", "predicted.jsonl"])
    assert len(Path("predicted.jsonl").read_text(encoding="utf-8").splitlines()) == 100
    saved = json.loads(Path(name, "metrics.json").read_text(encoding="utf-8"))["saved"]
    run_app(app, ["evaluate", name, "--output", "scores.json"])
    again = json.loads(Path("scores.json").read_text(encoding="utf-8"))["validation"]
    assert again[SCORES[name]] == saved[SCORES[name]]
    assert again["loss"] == pytest.approx(saved["loss"], rel=1e-6)


@each("single", "seeds", "multi", "listed")
def test_an_old_run_gets_its_page_again(old, version, name):
    old(version)
    run_app(app, ["report", name])
    assert "<html" in Path(name, "report.html").read_text(encoding="utf-8")


@each("single", "listed")
def test_the_decision_of_an_old_run_is_used(old, version, name):
    old(version)
    assert load_run(name).decision.temperature != 1


@each("single", "listed")
def test_a_warning_says_of_an_old_run_that_nothing_lists_its_files(old, version, name, caplog):
    old(version)
    load_run(name).verify()
    assert ("no manifest.json" in caplog.text) is (name == "single")


@each("listed")
def test_a_changed_file_of_an_old_run_is_noticed(old, version, name):
    old(version)
    Path(name, "decision_rule.json").unlink()
    with pytest.raises(CheckpointError, match=r"decision_rule\.json: missing"):
        load_run(name)


@each("seeds")
def test_old_runs_are_compared(old, version, name):
    old(version)
    run_app(app, ["compare", "seeds/seed-42", "seeds/seed-43", "--output", "compared.json"])
    assert Path("compared.json").is_file()


@each("seeds")
def test_an_old_run_is_ejected(old, version, name):
    old(version)
    run_app(app, ["eject", "seeds/seed-42", "-o", "ejected.py"])
    source = Path("ejected.py").read_text(encoding="utf-8")
    compile(source, "ejected.py", "exec")
    assert "SEED = 42" in source
    assert "accelerator.backward(loss)" in source


@each("single")
def test_an_old_run_goes_on_where_it_stopped(old, version, name):
    """Its last checkpoint is of its last step, so the weights do not move."""
    old(version)
    before = Path("single/model.safetensors").read_bytes()
    resume = ["train", "--config", "single/run.yaml", "--resume"]
    with pytest.raises(CheckpointError, match=r"it was saved by plainloop 0\.1\.0"):
        run_app(app, resume)
    run_app(app, [*resume, "--force"])
    assert Path("single/model.safetensors").read_bytes() == before
    wanted = load_run(version / "single").decision.temperature
    assert load_run("single").decision.temperature == pytest.approx(wanted, rel=1e-6)
