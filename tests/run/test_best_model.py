"""What a resumed run does about its best model, and what a checkpoint says of itself."""

import errno
import json
import shutil

import pytest
import torch
from test_atomic import Disk, Run

from plainloop.errors import CheckpointError, MachineError

SETTINGS = {"seed": 1, "load_best_model_at_end": True, "metric_for_best_model": "f1"}


def saved_run(folder, **settings):
    """A run with a checkpoint of step 8, whose best model is that of step 4."""
    run = Run(folder, fingerprint={"settings": {**SETTINGS, **settings}})
    run.train_to(4)
    run.checkpoints.save_best(run.model, 4)
    run.state.best_score, run.state.best_step, run.state.evaluations_without_gain = 0.7, 4, 2
    run.train_to(8)
    run.save()
    return run


def restored(folder, *, force=False, **settings):
    """The best score, step and patience of a new process, and the differences that it passed over."""
    run = Run(folder, fingerprint={"settings": {**SETTINGS, **settings}})
    path = run.checkpoints.newest()
    state, _, passed = run.checkpoints.restore(
        path, run.model, run.optimizer, run.scheduler, force=force
    )
    return (state.best_score, state.best_step, state.evaluations_without_gain), passed


KEPT, CHOSEN_AGAIN = (0.7, 4, 2), (None, 0, 0)
AGAIN = "best model was of step 4, is chosen again from here on"


def test_a_best_model_that_is_whole_is_kept(tmp_path):
    saved_run(tmp_path)
    assert restored(tmp_path) == (KEPT, [])
    assert restored(tmp_path, force=True) == (KEPT, [])


def test_a_damaged_best_model_ends_the_run_or_is_chosen_again_by_force(tmp_path):
    saved_run(tmp_path)
    (tmp_path / "best" / "step-000004" / "model.safetensors").write_bytes(b"0")
    with pytest.raises(CheckpointError) as caught:
        restored(tmp_path)
    assert caught.value.what.startswith("the best model is damaged: model.safetensors: 1 bytes")
    assert caught.value.where == str(tmp_path / "best" / "step-000004")
    assert caught.value.fix == "--force to choose the best of the evaluations that are left"
    assert restored(tmp_path, force=True) == (CHOSEN_AGAIN, [AGAIN])


@pytest.mark.parametrize("step", [8, 12])
def test_a_best_model_of_a_later_step_will_be_written_again_by_the_same_steps(tmp_path, step):
    """It replaced the best one of the checkpoint, before the stop."""
    saved_run(tmp_path).checkpoints.save_best(torch.nn.Linear(3, 2), step)
    assert restored(tmp_path) == (KEPT, [])
    state, passed = restored(tmp_path, seed=2, force=True)  # not the same steps
    assert state == CHOSEN_AGAIN
    assert passed == ["seed was 1, is 2", AGAIN]


def test_an_earlier_best_model_is_not_a_later_one(tmp_path):
    saved_run(tmp_path).checkpoints.save_best(torch.nn.Linear(3, 2), 2)
    with pytest.raises(CheckpointError, match="the best model is damaged"):
        restored(tmp_path)


def test_by_another_metric_the_best_model_is_chosen_again(tmp_path):
    saved_run(tmp_path)
    state, passed = restored(tmp_path, metric_for_best_model="accuracy", force=True)
    assert state == CHOSEN_AGAIN
    assert passed == ["metric_for_best_model was 'f1', is 'accuracy'", AGAIN]


def test_by_another_metric_nothing_is_said_of_a_best_model_that_was_never_chosen(tmp_path):
    run = Run(tmp_path, fingerprint={"settings": SETTINGS})
    run.train_to(4)
    run.save()
    state, passed = restored(tmp_path, metric_for_best_model="accuracy", force=True)
    assert state == CHOSEN_AGAIN
    assert passed == ["metric_for_best_model was 'f1', is 'accuracy'"]


def test_a_run_that_does_not_load_its_best_model_does_not_miss_it(tmp_path):
    saved_run(tmp_path, load_best_model_at_end=False)
    shutil.rmtree(tmp_path / "best")
    assert restored(tmp_path, load_best_model_at_end=False) == (KEPT, [])


def test_the_best_model_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        Run(tmp_path).checkpoints.load_best(torch.nn.Linear(3, 2), 4)
    assert caught.value.where == str(tmp_path / "best" / "step-000004")
    assert caught.value.fix == "train again"


# What is said of checkpoints.


def test_a_folder_that_is_no_checkpoint_of_the_run_is_refused_with_those_that_are(tmp_path):
    checkpoints = Run(tmp_path).checkpoints
    with pytest.raises(CheckpointError) as caught:
        checkpoints.check(tmp_path / "step-000004")
    assert str(caught.value) == (
        f"{tmp_path / 'step-000004'}: not a checkpoint of this run; there are: none"
    )
    here, there = saved_run(tmp_path / "here"), saved_run(tmp_path / "there")
    other = there.checkpoints.path_of(8)
    with pytest.raises(CheckpointError, match="not a checkpoint of this run") as caught:
        here.checkpoints.check(other)
    ours = here.checkpoints.path_of(8)
    assert (caught.value.where, caught.value.fix) == (str(other), f"there are: {ours}")
    assert here.checkpoints.check(ours) == ours


def test_where_all_checkpoints_are_damaged_a_new_start_is_proposed(tmp_path):
    run = saved_run(tmp_path)
    (run.checkpoints.path_of(8) / "state.json").write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        run.checkpoints.newest()
    assert caught.value.where == str(tmp_path / "checkpoints")
    assert caught.value.fix == "start again with --overwrite"


def test_a_disk_that_fails_at_any_operation_is_named_by_the_folder_that_was_written(
    tmp_path, monkeypatch
):
    run = saved_run(tmp_path)
    disk = Disk(monkeypatch)
    for save, folder in (
        (run.save, "checkpoints"),
        (lambda: run.checkpoints.save_best(run.model, 12), "best"),
    ):
        disk.reset()
        save()
        failed = []
        for number in range(len(disk.done)):
            disk.reset(fail_at=number, error=errno.ENOSPC)
            try:
                save()
            except MachineError as error:
                failed.append(error.where)
        assert len(failed) > 5
        assert {*failed} == {str(tmp_path / folder)}


def test_each_registered_object_gets_its_own_state_back(tmp_path):
    layers = {name: torch.nn.Linear(2, 2) for name in ("first", "second")}
    run = Run(tmp_path, registered=layers)
    weights = {name: layer.weight.clone() for name, layer in layers.items()}
    path = run.save()
    for name, layer in layers.items():
        torch.nn.init.zeros_(layer.weight)
        run.checkpoints.restore_registered(path, name)
        assert torch.equal(layer.weight, weights[name])


@pytest.mark.parametrize(
    ("machine", "products"), [({"products": "onednn"}, "onednn"), ({}, "default")]
)
def test_the_kernels_of_the_products_are_those_of_the_saved_run(tmp_path, machine, products):
    run = Run(tmp_path, fingerprint={"settings": {}, "machine": machine})
    path = run.save()
    assert run.checkpoints.saved_products(path) == products
    assert json.loads((path / "state.json").read_text("utf-8"))["identity"]["machine"] == machine
