"""The pages' commands that take long, on a tiny model, a few steps or a few simulations."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import blocks_of
from conftest import ROOT
from samples import write_glue

pytestmark = pytest.mark.slow

SAMPLES = ROOT / "src" / "plainloop" / "data" / "samples"
SHORT = ["--max-steps", "2", "--save-strategy", "no"]


@pytest.fixture
def program(run_command, tiny_model, tmp_path):
    """Run a Python program on a small MRPC with the tiny model; what it prints."""
    write_glue(tmp_path / "GLUE")

    def run(*words):
        return run_command(
            *words, "--task", "mrpc", "--data-dir", "GLUE", "--model", tiny_model, *SHORT
        ).stdout

    return run


@pytest.mark.nightly
def test_coverage(run_command):
    printed = run_command(ROOT / "benchmarks" / "coverage.py", "--simulations", "40").stdout
    shares = re.findall(r"(\d+\.\d)%", printed)
    assert len(shares) == 2 * 5
    assert all(60 <= float(share) <= 100 for share in shares)


def test_seeds(program, tmp_path):
    program("-m", "plainloop", "train", "--seeds", "3", "--output-dir", "runs/mrpc")
    for seed in (42, 43, 44):
        assert (tmp_path / f"runs/mrpc/seed-{seed}" / "model.safetensors").exists()
    assert json.loads((tmp_path / "runs/mrpc/summary.json").read_text(encoding="utf-8"))


@pytest.mark.nightly
def test_learning_rates_and_their_comparison(program, run_command, tmp_path):
    program(ROOT / "benchmarks" / "learning_rates.py", "--output-dir", "runs/rates")
    difference = (tmp_path / "runs/rates/difference.json").read_text(encoding="utf-8")
    compared = run_command("-m", "plainloop", "compare", "runs/rates/low", "runs/rates/high")
    assert "accuracy" in compared.stdout
    assert "accuracy" in difference


def readme_blocks(test, tiny_model):
    """The content of the README's blocks that a test here runs, with the tiny model and a few steps."""
    blocks = [
        block.content
        for block in blocks_of(ROOT / "README.md")
        if (block.run_by or "").endswith(f"::{test}")
    ]
    for name, short in (
        ("--model demo", f"--model {tiny_model} {' '.join(SHORT)}"),
        ('model="demo"', f'model="{tiny_model}", max_steps=2'),
    ):
        blocks = [block.replace(name, short) for block in blocks]
    assert "max" in blocks[0]
    return blocks


def test_the_readmes_commands(tiny_model, tmp_path):
    """Its blocks, in an empty folder: cp, plainloop train, plainloop predict --output."""
    finished = subprocess.run(
        ["bash", "-euc", "".join(readme_blocks("test_the_readmes_commands", tiny_model))],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    rows = (tmp_path / "new.csv").read_text(encoding="utf-8").splitlines()
    predictions = (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(predictions) == len(rows) > 10
    assert finished.stdout.splitlines()[-4:] == predictions[:4]
    assert (tmp_path / "runs/reviews/report.html").exists()


def test_the_readmes_python(tiny_model, tmp_path, monkeypatch):
    """load_run(...).predict after TrainConfig and fine_tune."""
    (block,) = readme_blocks("test_the_readmes_python", tiny_model)
    shutil.copy(SAMPLES / "reviews.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    *statements, last = block.strip().splitlines()
    names = {}
    exec("\n".join(statements), names)
    assert set(eval(last, names)[0]["scores"]) == {"bad", "good"}
    assert names["metrics"]["saved"]["accuracy"] >= 0
