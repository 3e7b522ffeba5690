"""Several seeds on two processes: each seed's rows are divided, and the summary is the same."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.distributed
LAUNCH = ["-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"]
TWO = ["--multi_gpu", "--num_processes", "2", "--num_cpu_threads_per_process", "1"]


def test_two_processes_give_the_summary_of_one(tiny_model, tiny_data, tmp_path):
    data = ["--task", "demo", "--model", tiny_model, "--data-dir", tiny_data, "--seeds", "2"]
    # As in test_numbers.py: what hides a wrong gradient, or draws for each process, is off.
    steps = ["--dropout", "0", "--lr", "1e-3", "--adam-epsilon", "1e-3", "--epochs", "1"]
    ways = {"one": ([], "8"), "two": ([*LAUNCH, *TWO], "4")}
    summaries = {}
    for name, (launcher, rows) in ways.items():
        folder = tmp_path / name
        words = ["-m", "plainloop", "train", *data, *steps, "--batch-size", rows, "-o", folder]
        finished = subprocess.run(
            [sys.executable, *launcher, *map(str, words)],
            env={**os.environ, "ACCELERATE_USE_CPU": "1", "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert finished.stdout.count("Run            ") == 2
        assert finished.stdout.count("Summary        ") == 1
        assert (folder / "report.html").exists()
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
