"""A run that stops and goes on ends with the bits of one that never stopped."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import largest_difference, run_tiny

from plainloop.config.settings import TrainConfig
from plainloop.errors import CheckpointError, StoppedError
from plainloop.run.accelerator import create_accelerator
from plainloop.run.checkpoints import Checkpoints, list_checkpoints, step_of
from plainloop.run.resume import OpenRun
from plainloop.run.signals import StopRequest
from plainloop.run.state import TrainState
from plainloop.training import loop
from plainloop.training.fine_tune import fine_tune

TIME_FIELDS = {"samples_per_second"}
BASE = {"num_train_epochs": 3, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 4}


def without_times(history):
    return [{k: v for k, v in record.items() if k not in TIME_FIELDS} for record in history]


class StopAt:
    """Asks the loop to stop after a step."""

    def __init__(self, monkeypatch, step):
        original = loop.TrainState.count_step

        def count_step(state, *counts):
            original(state, *counts)
            if state.step == step:
                self.request.signal_number = 15

        self.request = StopRequest()
        monkeypatch.setattr(loop.TrainState, "count_step", count_step)


@pytest.fixture
def settings(tiny_model, tiny_data):
    return {"model": str(tiny_model), "data_dir": tiny_data, **BASE}


def stopped_and_resumed(folder: Path, monkeypatch, settings, step: int):
    config = {"task": "demo", "logging_steps": 1, "output_dir": folder, **settings}
    with monkeypatch.context() as patch:
        stop = StopAt(patch, step).request
        with pytest.raises(
            StoppedError,
            match=f"stopped after step {step}; saved .*step-0*{step}; to go on: .*--resume$",
        ):
            fine_tune(TrainConfig(**config), stop=stop)
    return run_tiny(folder, resume=True, **settings)


@pytest.mark.parametrize(
    "step", [6, 7, *(pytest.param(step, marks=pytest.mark.nightly) for step in (1, 3, 12, 17))]
)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gradient_accumulation_steps": 4, "num_train_epochs": 9},
        pytest.param({"dataloader_num_workers": 2, "logging_steps": 5}, marks=pytest.mark.slow),
        {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0.0}},
        {"early_stopping_patience": 2, "learning_rate": 2e-2},
    ],
    ids=["plain", "accumulation", "workers", "best", "plateau", "early"],
)
def test_stopped_and_resumed_is_the_same_as_never_stopped(
    tmp_path, monkeypatch, settings, step, more
):
    settings = {**settings, **more}
    straight = run_tiny(tmp_path / "straight", **settings)
    if straight.metrics["steps"] <= step:
        step = straight.metrics["steps"] - 1
    resumed = stopped_and_resumed(tmp_path / "resumed", monkeypatch, settings, step)
    assert without_times(resumed.history) == without_times(straight.history)
    assert resumed.metrics["evaluations"] == straight.metrics["evaluations"]
    assert resumed.metrics["best"] == straight.metrics["best"]
    assert resumed.metrics["saved"] == straight.metrics["saved"]
    assert largest_difference(resumed.weights, straight.weights) == 0
    ours, theirs = (list_checkpoints(run.folder / "checkpoints")[-1] for run in (resumed, straight))
    manifests = [json.loads((path / "manifest.json").read_text()) for path in (ours, theirs)]
    assert ours.name == theirs.name
    same = {name for name in manifests[0]["files"] if name != "state.json"}
    assert {name: manifests[0]["files"][name] for name in same} == {
        name: manifests[1]["files"][name] for name in same
    }, "weights, optimizer and generators have the same SHA-256"


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"optim": "adamw_torch"},
        {"optim": "sgd", "weight_decay": 0.1, "learning_rate": 0.1},
        {"optim": "adafactor", "weight_decay": 0.1},
        {"bf16": True},
        {"train_sampling_strategy": "group_by_length"},
        {"train_sampling_strategy": "group_by_length", "dataloader_num_workers": 2},
    ],
    ids=lambda more: " ".join(map(str, more.values())),
)
def test_other_optimizers_precisions_and_orders_resume_to_the_same_bits(
    tmp_path, monkeypatch, settings, more
):
    settings = {**settings, **more}
    straight = run_tiny(tmp_path / "straight", **settings)
    for step in (7, 6):  # within an epoch, and between two
        folder = tmp_path / f"resumed-{step}"
        resumed = stopped_and_resumed(folder, monkeypatch, settings, step)
        assert without_times(resumed.history) == without_times(straight.history)
        assert resumed.metrics["evaluations"] == straight.metrics["evaluations"]
        assert largest_difference(resumed.weights, straight.weights) == 0


def test_the_scale_of_float16_is_saved_and_restored(tmp_path, settings):
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    checkpoints = Checkpoints(tmp_path / "checkpoints", tmp_path / "best", accelerator, {})
    OpenRun(None, checkpoints, None)
    path = checkpoints.save(TrainState(step=1), model, optimizer, schedule)
    accelerator.scaler = torch.amp.GradScaler("cpu")
    OpenRun(None, checkpoints, None, path)
    assert accelerator.scaler.get_scale() == 8.0


def test_a_finished_run_resumed_changes_nothing(tmp_path, settings):
    first = run_tiny(tmp_path / "run", **settings)
    again = run_tiny(tmp_path / "run", resume=True, **settings)
    assert again.history == first.history
    assert again.metrics["evaluations"] == first.metrics["evaluations"]
    assert largest_difference(again.weights, first.weights) == 0


def test_without_a_checkpoint_yet_it_starts_at_step_0_and_says_so(tmp_path, settings, capsys):
    straight = run_tiny(tmp_path / "straight", **settings)
    resumed = run_tiny(tmp_path / "new", resume=True, **settings)
    assert "no checkpoint to resume from yet: starting at step 0" in capsys.readouterr().out
    assert largest_difference(resumed.weights, straight.weights) == 0


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, settings, capsys):
    straight = run_tiny(tmp_path / "run", **settings)
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (newest / "optimizer.safetensors").write_bytes(b"")
    again = run_tiny(tmp_path / "run", resume=True, **settings)
    printed = capsys.readouterr().out
    assert f"{newest}: optimizer.safetensors: 0 bytes, expected" in printed
    assert "step-000016, step 16" in printed
    assert largest_difference(again.weights, straight.weights) == 0


def test_a_checkpoint_that_was_being_replaced_is_used(tmp_path, settings, capsys):
    straight = run_tiny(tmp_path / "run", **settings)
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    # As a kill between the two renames of a save leaves it.
    newest.rename(newest.with_name(newest.name + ".old"))
    again = run_tiny(tmp_path / "run", resume=True, **settings)
    assert f"resuming from {newest}.old, step 18" in capsys.readouterr().out
    assert largest_difference(again.weights, straight.weights) == 0


def test_when_all_are_damaged_nothing_is_touched_and_each_is_named(tmp_path, settings):
    run_tiny(tmp_path / "run", **settings)
    folders = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert len(folders) == 2
    for folder in folders:
        (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        run_tiny(tmp_path / "run", resume=True, **settings)
    assert all(f"{folder}: model.safetensors: missing" in str(caught.value) for folder in folders)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 2e-3}, "learning_rate was 0.001, is 0.002"),
        ({"max_train_samples": 40}, "train was"),
        ({"seed": 1}, "seed was 42, is 1"),
    ],
)
def test_another_run_is_refused_with_what_differs(tmp_path, settings, change, named):
    run_tiny(tmp_path / "run", **settings)
    with pytest.raises(CheckpointError, match=named):
        run_tiny(tmp_path / "run", resume=True, **{**settings, **change})


def test_other_threads_are_refused_and_forced(tmp_path, settings, capsys):
    run_tiny(tmp_path / "run", **settings)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        with pytest.raises(CheckpointError, match="threads was"):
            run_tiny(tmp_path / "run", resume=True, **settings)
        run_tiny(tmp_path / "run", resume=True, force=True, **settings)
    finally:
        torch.set_num_threads(before)
    assert "differs from the saved run: threads was" in capsys.readouterr().out


def test_only_the_last_checkpoints_are_kept(tmp_path, settings):
    run_tiny(tmp_path / "run", save_total_limit=3, **settings)
    kept = [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert kept == ["step-000012", "step-000016", "step-000018"]


# The best model, where another one is asked for than was kept.

EACH_TWO = {"eval_strategy": "steps", "eval_steps": 2}


def stopped(folder, monkeypatch, settings, step):
    config = {"task": "demo", "logging_steps": 1, "output_dir": folder, **settings}
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        fine_tune(TrainConfig(**config), stop=StopAt(patch, step).request)


def rises_no_more(patch):
    """Every evaluation after the resume is worse than any before."""
    note = loop.TrainState.record_evaluation
    worse = {"loss": 1e9, "accuracy": -1.0, "f1": -1.0}
    patch.setattr(
        loop.TrainState,
        "record_evaluation",
        lambda state, scores, config: note(state, {**scores, **worse}, config),
    )


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {"load_best_model_at_end": True}),
        (
            {"load_best_model_at_end": True},
            {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"},
        ),
        (
            {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"},
            {
                "load_best_model_at_end": True,
                "metric_for_best_model": "accuracy",
                "greater_is_better": False,
            },
        ),
    ],
    ids=["none was kept", "another metric", "the other direction"],
)
def test_forced_to_another_choice_the_best_model_is_one_that_exists(
    tmp_path, settings, capsys, first, then
):
    monkeypatch = pytest.MonkeyPatch()
    stopped(tmp_path / "run", monkeypatch, {**settings, **EACH_TWO, **first}, 7)
    with pytest.raises(CheckpointError, match=list(then)[-1]):
        run_tiny(tmp_path / "run", resume=True, **settings, **EACH_TWO, **then)
    with monkeypatch.context() as patch:
        rises_no_more(patch)
        forced = run_tiny(tmp_path / "run", resume=True, force=True, **settings, **EACH_TWO, **then)
    printed = capsys.readouterr().out
    assert re.search(r"best model was of step \d, is chosen again from here on", printed)
    assert forced.metrics["best"]["step"] > 7
    assert forced.metrics["saved"] == forced.metrics["best"]
    best = tmp_path / "run" / "best" / f"step-{forced.metrics['best']['step']:06d}"
    kept = load_file(best / "model.safetensors")
    assert largest_difference(forced.weights, kept) == 0


def test_forced_to_other_numbers_the_best_model_of_the_same_metric_is_kept(
    tmp_path, monkeypatch, settings, capsys
):
    settings = {**settings, **EACH_TWO, "load_best_model_at_end": True}
    stopped(tmp_path / "run", monkeypatch, settings, 7)
    before = list_checkpoints(tmp_path / "run" / "best")[-1]
    kept = load_file(before / "model.safetensors")
    with monkeypatch.context() as patch:
        rises_no_more(patch)
        more = {**settings, "learning_rate": 2e-3}
        forced = run_tiny(tmp_path / "run", resume=True, force=True, **more)
    assert "chosen again" not in capsys.readouterr().out
    assert forced.metrics["best"]["step"] == step_of(before)
    assert largest_difference(forced.weights, kept) == 0


def test_a_lost_best_model_is_said_before_the_training_and_can_be_forced(
    tmp_path, monkeypatch, settings
):
    settings = {**settings, **EACH_TWO, "load_best_model_at_end": True}
    stopped(tmp_path / "run", monkeypatch, settings, 7)
    best = list_checkpoints(tmp_path / "run" / "best")[-1]
    (best / "model.safetensors").write_bytes(b"")
    history = (tmp_path / "run" / "history.jsonl").read_text()
    with pytest.raises(CheckpointError, match=r"the best model is damaged: .*0 bytes, expected"):
        run_tiny(tmp_path / "run", resume=True, **settings)
    assert (tmp_path / "run" / "history.jsonl").read_text() == history
    forced = run_tiny(tmp_path / "run", resume=True, force=True, **settings)
    assert forced.metrics["best"]["step"] > 7


def test_an_older_checkpoint_whose_best_model_was_replaced_goes_on_to_the_same_bits(
    tmp_path, settings
):
    """The steps that are done again write the later best model again."""
    settings = {**settings, **EACH_TWO, "load_best_model_at_end": True, "save_total_limit": 9}
    straight = run_tiny(tmp_path / "run", **settings)
    oldest = list_checkpoints(tmp_path / "run" / "checkpoints")[0]
    best = list_checkpoints(tmp_path / "run" / "best")[-1]
    best_then = json.loads((oldest / "state.json").read_text())["state"]["best_step"]
    assert step_of(oldest) < step_of(best) != best_then, "else this tests nothing"
    again = run_tiny(tmp_path / "run", resume_from_checkpoint=oldest, **settings)
    assert again.metrics["best"] == straight.metrics["best"]
    assert largest_difference(again.weights, straight.weights) == 0
    # With other numbers it may not be: then the best is one of those that are left.
    other = {**settings, "learning_rate": 1e-5}
    forced = run_tiny(tmp_path / "run", resume_from_checkpoint=oldest, force=True, **other)
    assert forced.metrics["best"]["step"] > step_of(oldest)
