"""Several runs in one command on two processes: each run's rows are divided, the results the same."""

import json
import os
import subprocess

import pytest
from conftest import python

pytestmark = pytest.mark.distributed
LAUNCH = ["-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"]
TWO = ["--multi_gpu", "--num_processes", "2", "--num_cpu_threads_per_process", "1"]
WAYS = {"one": ([], "8"), "two": ([*LAUNCH, *TWO], "4")}
"""The launcher, and the rows of a batch of each process."""


@pytest.fixture
def train_both_ways(tiny_model, tiny_data, tmp_path):
    """Train with some flags on one process and on two: folder and output of each."""

    def train(*flags):
        data = ["--task", "demo", "--model", tiny_model, "--data-dir", tiny_data]
        # As in test_numbers.py: what hides a wrong gradient, or draws for each process, is off.
        steps = ["--dropout", "0", "--lr", "1e-3", "--adam-epsilon", "1e-3", "--epochs", "1"]
        trained = {}
        for name, (launcher, rows) in WAYS.items():
            folder = tmp_path / name
            words = ["-m", "plainloop", "train", *data, *steps, "--batch-size", rows, *flags]
            finished = subprocess.run(
                [python(), *launcher, *map(str, [*words, "-o", folder])],
                env={**os.environ, "ACCELERATE_USE_CPU": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert finished.returncode == 0, finished.stdout + finished.stderr
            assert (folder / "report.html").exists()
            trained[name] = folder, finished.stdout
        return trained

    return train


def test_two_processes_give_the_summary_of_one(train_both_ways):
    summaries = {}
    for name, (folder, said) in train_both_ways("--seeds", "2").items():
        assert said.count("Run            ") == 2
        assert said.count("Summary        ") == 1
        summaries[name] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for seed in (42, 43):
            run = json.loads((folder / f"seed-{seed}" / "metrics.json").read_text("utf-8"))
            assert run["environment"]["num_processes"] == {"one": 1, "two": 2}[name]
            summaries[name][seed] = run["saved"]["loss"]
    one, two = summaries["one"], summaries["two"]
    assert two["seeds"] == one["seeds"] == [42, 43]
    assert two["scores"] == one["scores"]  # of the same labels, so to the last digit
    assert [two[seed] for seed in (42, 43)] == pytest.approx(
        [one[seed] for seed in (42, 43)], rel=1e-5
    )
    assert one[42] != one[43]


def test_two_processes_judge_each_training_row_as_one_does(train_both_ways):
    from plainloop.metrics.row_predictions import RowPredictions

    judged = {}
    for name, (folder, said) in train_both_ways("--cv", "2").items():
        assert said.count("Fold           ") == 2
        assert said.count("Suspected      ") == 1
        assert [path.name for path in (folder / "cv").iterdir()] == ["predictions"]
        judged[name] = RowPredictions.load(folder / "cv", "train")
    one, two = judged["one"], judged["two"]
    assert one.idx.tolist() == two.idx.tolist() == list(range(43))
    assert two.logits == pytest.approx(one.logits, abs=1e-4)
    assert abs(one.logits).max() > 0.1
