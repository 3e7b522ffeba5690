"""A script under accelerate launch, a notebook in a kernel, and every schedule."""

import hashlib
import json
import subprocess
from typing import get_args

import nbformat
import pytest
from conftest import python
from nbclient import NotebookClient
from runs import make_runs
from tiny import run_tiny

from plainloop.config.flag_types import Schedule
from plainloop.config.settings import TrainConfig
from plainloop.eject.script import make_script

NEEDED = {
    "cosine_with_min_lr": {"min_lr": 1e-4},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-4},
    "warmup_stable_decay": {"num_decay_steps": 4},
}


@pytest.fixture
def settings(tiny_model, tiny_data):
    return {
        "task": "demo",
        "data_dir": tiny_data,
        "model": str(tiny_model),
        "learning_rate": 1e-3,
        "num_train_epochs": 2,
        "logging_steps": 1,
    }


def weights_of(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def launch(script, *words):
    launcher = [python(), "-m", "accelerate.commands.launch", *words, str(script)]
    finished = subprocess.run(
        launcher, cwd=script.parent, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.mark.distributed
def test_launched_alone_it_gives_the_same_bits(settings, tmp_path):
    run_tiny(tmp_path / "ours", execution="padded", **settings)
    config = TrainConfig(**settings, output_dir=tmp_path / "theirs")
    script = make_script(config, tmp_path / "train_it.py")
    script.write()
    launch(script.path, "--num_processes", "1")
    assert weights_of(tmp_path / "theirs") == weights_of(tmp_path / "ours")


@pytest.mark.distributed
def test_two_processes_train_as_one_where_the_batches_are_full(settings, tmp_path):
    settings = {
        **settings,
        "max_train_samples": 40,
        "dropout": 0.0,
        "lr_scheduler_type": "constant",
    }
    settings |= {"class_weights": (1.0, 3.0), "gradient_accumulation_steps": 2}
    settings |= {"per_device_eval_batch_size": 7}  # 21 rows: none is filled up
    ours = run_tiny(tmp_path / "ours", execution="padded", **settings)
    half = TrainConfig(**settings, per_device_train_batch_size=4, output_dir=tmp_path / "theirs")
    script = make_script(half, tmp_path / "train_it.py")
    script.write()
    launch(script.path, "--multi_gpu", "--num_processes", "2", "--num_cpu_threads_per_process", "1")
    lines = (tmp_path / "theirs" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    theirs = [json.loads(line) for line in lines]
    assert [record["loss"] for record in theirs] == pytest.approx(ours.series("loss"), rel=1e-4)
    metrics = json.loads((tmp_path / "theirs" / "metrics.json").read_text(encoding="utf-8"))
    for their, our in zip(metrics["evaluations"], ours.metrics["evaluations"], strict=True):
        assert their["accuracy"] == our["accuracy"]
        assert their["loss"] == pytest.approx(our["loss"], rel=1e-4)


@pytest.mark.slow
def test_the_notebook_runs_and_gives_the_same_bits(tiny_model, tiny_data, tmp_path):
    settings = make_runs(tmp_path, tiny_data)["class weights"] | {"model": str(tiny_model)}
    run_tiny(tmp_path / "ours", execution="padded", **{"task": None, **settings})
    notebook = make_script(TrainConfig(**settings), tmp_path / "train_it.ipynb")
    notebook.write()
    content = nbformat.read(notebook.path, as_version=4)
    NotebookClient(content, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    assert weights_of(tmp_path / "runs" / "train_it") == weights_of(tmp_path / "ours")


@pytest.mark.slow
def test_every_schedule_gives_the_same_rates(settings, tmp_path):
    words = []
    ours = {}
    for name in get_args(Schedule):
        given = {**settings, "lr_scheduler_type": name, "lr_scheduler_kwargs": NEEDED.get(name, {})}
        if name not in ("constant", "reduce_lr_on_plateau", "greedy"):
            given["warmup_steps"] = 3
        ours[name] = run_tiny(tmp_path / "ours" / name, execution="padded", **given)
        config = TrainConfig(**given, output_dir=tmp_path / "theirs" / name)
        script = make_script(config, tmp_path / f"train_{name}.py")
        script.write()
        words.append(str(script.path))
    probe = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path)"
    finished = subprocess.run(
        [python(), "-c", probe, *words], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    for name, run in ours.items():
        folder = tmp_path / "theirs" / name
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
        rates = [json.loads(line)["learning_rate"] for line in lines]
        assert rates == run.series("learning_rate"), name
        assert weights_of(folder) == weights_of(run.folder), name
    assert len(ours) == 12
