"""The pages' commands that take long, on a tiny model, a few steps or a few simulations."""

import json
import re

import pytest
from conftest import ROOT
from samples import reviews, write_csv, write_glue

pytestmark = pytest.mark.slow

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


def test_learning_rates_and_their_comparison(program, run_command, tmp_path):
    program(ROOT / "benchmarks" / "learning_rates.py", "--output-dir", "runs/rates")
    difference = (tmp_path / "runs/rates/difference.json").read_text(encoding="utf-8")
    compared = run_command("-m", "plainloop", "compare", "runs/rates/low", "runs/rates/high")
    assert "accuracy" in compared.stdout
    assert "accuracy" in difference


def test_the_readmes_commands(run_command, program, tiny_model, tmp_path):
    """As they stand there but for the model and the steps; pip install: test_packaging.py."""
    write_csv(tmp_path / "reviews.csv", [("text", "label"), *reviews()])
    write_csv(tmp_path / "new.csv", [("text",), *((text,) for text, _ in reviews()[:5])])
    data = ["--train-file", "reviews.csv", "--model", tiny_model, *SHORT]
    plainloop = ["-m", "plainloop"]
    run_command(*plainloop, "train", *data, "--output-dir", "runs/reviews")
    run_command(*plainloop, "predict", "runs/reviews", "--file", "new.csv", "--output", "p.csv")
    assert len((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()) == 1 + 5
    run_command(*plainloop, "eject", "runs/reviews", "-o", "train_reviews.py")
    assert (tmp_path / "train_reviews.py").exists()
    program("-m", "plainloop", "train", "--seeds", "2", "--output-dir", "runs/mrpc")
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch"]
    program(*launch, ROOT / "train.py", "--output-dir", "runs/mrpc-script")
    assert (tmp_path / "runs/mrpc-script" / "model.safetensors").exists()
