"""fine_tune(), the train command and train.py: what they print, write, and agree on."""

import json

import pytest
import yaml
from conftest import ROOT
from tiny import largest_difference

from plainloop.config.settings import TrainConfig
from plainloop.training.fine_tune import fine_tune

FILES = {
    ".lock",
    "checkpoints",
    "config.json",
    "history.jsonl",
    "manifest.json",
    "metrics.json",
    "model.safetensors",
    "predictions",
    "run.yaml",
    "tokenizer.json",
    "tokenizer_config.json",
}


def test_a_run_leaves_exactly_its_files_and_every_logged_step(run):
    result = run(num_train_epochs=2, logging_steps=5)
    assert {path.name for path in result.folder.iterdir()} == FILES
    assert [record["step"] for record in result.history] == [5, 10, 12]
    assert set(result.history[0]) == {
        "step",
        "epoch",
        "loss",
        "grad_norm",
        "learning_rate",
        "samples_per_second",
    }
    metrics = json.loads((result.folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == result.metrics
    assert [record["epoch"] for record in metrics["evaluations"]] == [1, 2]
    assert metrics["saved"] == metrics["evaluations"][-1]
    assert metrics["best"]["loss"] == min(record["loss"] for record in metrics["evaluations"])
    assert {"torch", "transformers", "threads", "device"} <= metrics["environment"].keys()
    settings = yaml.safe_load((result.folder / "run.yaml").read_text(encoding="utf-8"))
    assert settings["num_train_epochs"] == 2


def test_the_logged_loss_is_the_mean_since_the_last_log(run):
    each, fifth = run(num_train_epochs=2), run(num_train_epochs=2, logging_steps=5)
    losses = each.series("loss")
    means = [sum(losses[:5]) / 5, sum(losses[5:10]) / 5, sum(losses[10:]) / 2]
    assert fifth.series("loss") == pytest.approx(means, rel=1e-6)


def test_max_train_samples_keeps_the_first_rows(run):
    assert run(max_train_samples=20, num_train_epochs=1).metrics["steps"] == 3


def test_max_length_cuts_rows(run, tiny_data, capsys):
    run(max_length=9, max_steps=1)
    assert "input_ids (8, 9)" in capsys.readouterr().out


def test_a_labelled_test_file_is_evaluated_at_the_end(run, tiny_data):
    result = run(test_file=(str(tiny_data / "validation.tsv"),), num_train_epochs=1)
    final = {key: result.metrics["saved"][key] for key in result.metrics["test"]}
    assert result.metrics["test"] == final
    other = run(test_file=(str(tiny_data / "test.tsv"),), num_train_epochs=1)
    assert other.metrics["test"] != final


def test_a_dry_run_writes_nothing(tiny_model, tiny_data, tmp_path, capsys):
    config = TrainConfig(
        task="demo",
        model=str(tiny_model),
        data_dir=tiny_data,
        output_dir=tmp_path / "run",
        dry_run=True,
    )
    assert fine_tune(config) == {}
    assert not (tmp_path / "run").exists()
    assert "First forward" in capsys.readouterr().out


def test_class_weights_change_the_training_but_not_the_reported_loss(run):
    settings = {"max_steps": 1, "learning_rate": 1e-12}
    plain, weighted = run(**settings), run(class_weights=(1.0, 9.0), **settings)
    assert plain.series("loss") != weighted.series("loss")
    assert weighted.metrics["saved"]["loss"] == pytest.approx(plain.metrics["saved"]["loss"])


COMMON = ["--epochs", "2", "--logging-steps", "1", "--lr", "1e-3"]


def history(folder):
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        record.pop("samples_per_second")
    return records


def test_command_script_and_launched_script_give_the_same_bits(
    run_command, tiny_model, tiny_data, tmp_path
):
    flags = ["--task", "demo", "--model", tiny_model, "--data-dir", tiny_data, *COMMON]
    command = run_command("-m", "plainloop", "train", *flags, "-o", "command")
    run_command(ROOT / "train.py", *flags, "-o", "script")
    launch = ["-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    run_command(*launch, ROOT / "train.py", *flags, "-o", "launched")
    run_command("-m", "plainloop", "train", "--config", "command/run.yaml", "-o", "again")
    histories = [history(tmp_path / name) for name in ("command", "script", "launched", "again")]
    assert len(histories[0]) == 12
    assert histories[1:] == histories[:1] * 3
    from safetensors.torch import load_file

    weights = [
        load_file(tmp_path / name / "model.safetensors")
        for name in ("command", "script", "launched", "again")
    ]
    assert all(largest_difference(weights[0], other) == 0 for other in weights[1:])
    assert {path.name for path in (tmp_path / "script").iterdir()} == FILES
    pages = {"report.html", "README.md"}
    assert {path.name for path in (tmp_path / "command").iterdir()} == FILES | pages
    titles = [line.split("  ")[0] for line in command.stdout.splitlines() if line[:1] != " "]
    assert titles == [
        "Data",
        "Device",
        "Batch",
        "Steps",
        "Seed",
        "Tokenize",
        "Columns",
        "Loaders",
        "One batch",
        "Model",
        "Execution",
        "First forward",
        "Optimizer",
        "Schedule",
        "Products",
        "Validation",
        "Saved",
        "Report",
        "Model card",
    ]
    assert "12 optimizer steps" in command.stdout
    assert command.stderr == "", "no bar is written into a file"


def test_the_plain_loop_and_its_accelerated_twin_agree_with_each_other(tiny_model, tiny_data):
    import plain_accelerate
    import plain_pytorch

    config = TrainConfig(
        task="demo",
        model=str(tiny_model),
        data_dir=tiny_data,
        num_train_epochs=2,
        learning_rate=1e-3,
    )
    plain, accelerated = plain_pytorch.main(config), plain_accelerate.main(config)
    assert len(plain) == 2
    assert plain == accelerated


@pytest.mark.parametrize("script", ["train.py", "benchmarks/parity.py"])
def test_a_scripts_help_is_answered_and_ends_it(run_command, script):
    finished = run_command(ROOT / script, "--help")
    assert "--lr" in finished.stdout
    assert finished.stderr == ""


def test_the_script_can_run_dry(run_command, tiny_model, tiny_data, tmp_path):
    flags = ["--task", "demo", "--model", tiny_model, "--data-dir", tiny_data, "--dry-run"]
    assert "logits (8, 2)" in run_command(ROOT / "train.py", *flags).stdout
    assert not (tmp_path / "runs").exists()
