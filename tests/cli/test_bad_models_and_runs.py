"""Checkpoints, models and folders that cannot be used: what the real command says, and its exit code.

What needs torch to be seen; mistakes that are seen before it are in test_bad_input.py and
test_bad_files.py.
"""

import json
import os
import re
import shutil
import subprocess

import pytest
import torch
from conftest import python
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow


@pytest.fixture
def refused(run_command, tmp_path, tiny_model, tiny_data):
    """Train the tiny model, but for some flags; the one line of the error."""

    def refused(*words, expect=2, **environment):
        before = set(tmp_path.rglob("*"))
        flags = {"--task": "demo", "--data-dir": tiny_data, "--model": tiny_model}
        flags |= dict(zip(words[::2], words[1::2], strict=True))
        finished = run_command(
            *("-m", "plainloop", "train", *(word for pair in flags.items() for word in pair)),
            expect=expect,
            **environment,
        )
        assert "Traceback" not in finished.stderr
        assert set(tmp_path.rglob("*")) - before <= {tmp_path / "run"}
        [line] = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
        return line

    return refused


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the tiny model to be spoilt."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_max_length_above_the_models_limit(refused):
    assert "--max-length: 4096 tokens are more than the model takes; give at most 64" in refused(
        "--max-length", "4096"
    )


def test_no_configuration(refused, model):
    (model / "config.json").unlink()
    assert "not a model folder: config.json is missing" in refused("--model", model)


def test_weights_cut_short(refused, model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    line = refused("--model", model)
    assert "cannot be loaded" in line
    assert "damaged" in line


def test_code_in_a_checkpoint_is_refused_and_not_run(refused, model, tmp_path):
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.Config"}}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    ran = tmp_path / "ran"
    (model / "foreign.py").write_text(f"open({str(ran)!r}, 'w')\n", encoding="utf-8")
    assert "cannot be loaded" in refused("--model", model)
    assert not ran.exists()


def test_weights_that_are_pickle(refused, model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "pytorch_model.bin is no safetensors file but pickle" in refused("--model", model)


def test_no_padding_token(refused, model):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = model / name
        if path.exists():
            settings = json.loads(path.read_text(encoding="utf-8"))
            settings.pop("pad_token", None)
            path.write_text(json.dumps(settings), encoding="utf-8")
    assert "no padding token" in refused("--model", model)


def test_a_head_for_other_labels(refused, model):
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["BertForSequenceClassification"]
    config["id2label"] = {"0": "a", "1": "b", "2": "c"}
    config["label2id"] = {"a": 0, "b": 1, "c": 2}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    line = refused("--model", model)
    assert "a head for 3 labels (a, b, c), the task has 2 (different, paraphrase)" in line
    assert "--new-head" in line


def test_more_tokens_than_embeddings(refused, model):
    weights = load_file(model / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    weights[name] = weights[name][:10].clone()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 10}), encoding="utf-8")
    assert "the model has 10 embeddings" in refused("--model", model)


def test_a_key_of_a_settings_file_that_is_no_setting(refused, tmp_path):
    (tmp_path / "s.yaml").write_text("per_device_batchsize: 8\n", encoding="utf-8")
    line = refused("--config", "s.yaml")
    assert "unknown setting 'per_device_batchsize'" in line
    assert "per_device_train_batch_size" in line


def test_a_disk_that_is_too_small_for_the_run(refused, tmp_path):
    disk = tmp_path / "run"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        line = refused("--output-dir", disk / "x", expect=4)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert re.search(r"needs \d.* are free: .* too few", line)
    assert "choose another folder" in line


def test_rows_that_are_in_train_and_test_are_a_warning(run_command, tiny_model, tiny_data):
    said = run_command(
        *("-m", "plainloop", "train", "--task", "demo", "--data-dir", tiny_data),
        *("--model", tiny_model, "--test-file", tiny_data / "train.tsv", "--dry-run"),
    ).stdout
    assert "Warning        test: 43 rows with a text that is in train too: rows 1, 2" in said


def test_a_run_without_a_checkpoint_starts_at_step_0_and_says_so(
    run_command, tiny_model, tiny_data
):
    flags = ["--task", "demo", "--data-dir", tiny_data, "--model", tiny_model, "--max-steps", "1"]
    said = run_command("-m", "plainloop", "train", *flags, "-o", "run", "--resume").stdout
    assert "no checkpoint to resume from yet: starting at step 0" in said


@pytest.fixture
def saved(run_command, tmp_path, tiny_model, tiny_data):
    """The folder of a run with checkpoints at steps 1 and 2."""
    flags = ["--task", "demo", "--data-dir", tiny_data, "--model", tiny_model, "--max-steps", "2"]
    flags += ["--save-strategy", "steps", "--save-steps", "1", "-o", "run"]
    run_command("-m", "plainloop", "train", *flags)
    return tmp_path / "run"


def resume(*flags):
    return ["-m", "plainloop", "train", "--config", "run/run.yaml", "--resume", *flags]


def test_every_checkpoint_damaged(run_command, saved):
    for step in (1, 2):
        (saved / "checkpoints" / f"step-{step:06d}" / "optimizer.safetensors").unlink()
    said = run_command(*resume(), expect=3).stderr
    assert "error: run/checkpoints: every checkpoint is damaged" in said
    assert said.count("optimizer.safetensors: missing") == 2


@pytest.mark.parametrize(
    ("flags", "environment", "difference"),
    [
        (["--learning-rate", "1e-3"], {}, "learning_rate was 5e-05, is 0.001"),
        (["--max-train-samples", "40"], {}, "train was"),
        pytest.param(
            *([], {"OMP_NUM_THREADS": "2"}, "threads was 1, is 2"), marks=pytest.mark.nightly
        ),
    ],
    ids=["settings", "rows", "threads"],
)
def test_a_checkpoint_of_another_run(run_command, saved, flags, environment, difference):
    said = run_command(*resume(*flags), expect=3, **environment).stderr
    assert "this run is not the one that was saved" in said
    assert difference in said
    assert "--force" in said


def test_a_checkpoint_of_another_number_of_processes(saved, tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    finished = subprocess.run(
        [python(), *launch, *resume()],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode != 0
    lines = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "processes was 1, is 2" in lines[0]


def test_weights_that_are_not_numbers(run_command, model, tiny_data):
    weights = load_file(model / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    flags = ["--task", "demo", "--data-dir", tiny_data, "--model", model]
    said = run_command("-m", "plainloop", "train", *flags, expect=5).stderr
    assert "first forward pass" in said
