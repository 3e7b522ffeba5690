"""The same numbers on one process and on two: losses, gradients, weights, scores."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import python
from safetensors.torch import load_file
from transformers.trainer_pt_utils import LengthGroupedSampler

pytestmark = pytest.mark.distributed
SCRIPT = Path(__file__).parent / "launched.py"


def launch(settings, folder, processes, expect=0):
    """Run the script under torchrun; what it says."""
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    finished = subprocess.run(
        [python(), *words, str(SCRIPT), str(folder / "settings.json")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == expect, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def train(folder, model, data, way, **more):
    processes, batch_size, accumulation = way
    settings = {
        "task": "demo",
        "model": str(model),
        "data_dir": str(data),
        "output_dir": str(folder / "run"),
        "dropout": 0.0,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.1,
        "adam_epsilon": 1e-3,
        "logging_steps": 1,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": accumulation,
        **more,
    }
    launch(settings, folder, processes)
    lines = (folder / "run" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "run" / "model.safetensors")
    return [json.loads(line) for line in lines], metrics["evaluations"], weights


@pytest.mark.parametrize("more", [{}, {"class_weights": [1.0, 3.0]}], ids=["plain", "weighted"])
def test_losses_gradients_and_weights_do_not_depend_on_how_a_batch_is_divided(
    tmp_path, tiny_model, tiny_data, more
):
    """43 rows in batches of 8: the last one holds 3, so that with 2 x 4 one process has no row."""
    ways = {"1 x 8": (1, 8, 1), "2 x 4": (2, 4, 1), "1 x 4 x 2": (1, 4, 2), "2 x 2 x 2": (2, 2, 2)}
    runs = {
        name: train(tmp_path / name.replace(" ", ""), tiny_model, tiny_data, way, **more)
        for name, way in ways.items()
    }
    history, evaluations, weights = runs.pop("1 x 8")
    assert len(history) == 12
    assert all(record["grad_norm"] > 0.1 for record in history)  # so clipping is active
    for name, (others_history, others_evaluations, others_weights) in runs.items():
        assert len(others_history) == len(history), name
        for key in ("loss", "grad_norm", "learning_rate"):
            theirs = [record[key] for record in others_history]
            assert theirs == pytest.approx([record[key] for record in history], rel=1e-5), name
        for ours, theirs in zip(evaluations, others_evaluations, strict=True):
            assert (theirs["accuracy"], theirs["f1"]) == (ours["accuracy"], ours["f1"])
            assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
        for key, value in weights.items():
            assert float((others_weights[key] - value).abs().max()) < 1e-5, (name, key)


def test_rows_grouped_by_length_have_one_order_on_all_processes(tmp_path):
    lengths = [number * 7 % 50 for number in range(80)]
    launch({"lengths": lengths, "result": str(tmp_path / "order")}, tmp_path, 2)
    torch.manual_seed(0)
    expected = list(LengthGroupedSampler(4, lengths=lengths))
    for rank in (0, 1):
        assert json.loads((tmp_path / f"order-{rank}").read_text(encoding="utf-8")) == expected


def test_each_row_is_scored_exactly_once(tmp_path):
    """1 row, fewer than processes; 7, a ragged batch; a multiple of 2 x 4, and one more."""
    scores = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        settings = {"sizes": [1, 2, 7, 8, 9, 16], "batch_size": 4, "result": str(folder / "scores")}
        launch(settings, folder, processes)
        scores[processes] = json.loads((folder / "scores").read_text(encoding="utf-8"))
    for alone, together in zip(scores[1], scores[2], strict=True):
        assert (together["accuracy"], together["f1"]) == (alone["accuracy"], alone["f1"])
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-6)


def test_rows_that_only_fill_up_a_batch_are_refused_where_they_are_gathered(tmp_path):
    settings = {"sizes": [7], "batch_size": 4, "result": str(tmp_path / "scores"), "mutant": True}
    said = launch(settings, tmp_path, 2, expect=1)
    assert "8 rows were scored, 7 different ones, of 7" in said
