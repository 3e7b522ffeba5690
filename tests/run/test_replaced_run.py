"""--overwrite: the old run is kept in RUN.old until the new one has something to resume from."""

import os
import shutil
from pathlib import Path

import pytest
from tiny import largest_difference, run_tiny

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.run import replaced_run
from plainloop.run.folder import (
    RunFolder,
    check_output_dir,
    finish_replacing,
    has_results,
    is_finished,
)
from plainloop.run.replaced_run import RECORD_FILE
from plainloop.training import session

OPERATIONS = ("mkdir", "rename", "replace", "unlink", "rmdir")


class KilledError(BaseException):
    """Stands for kill -9: nothing runs after it."""


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but for locks and what a killed write has left."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", RECORD_FILE) and path.suffix != ".tmp"
    }


@pytest.fixture
def old_run(tmp_path):
    """A finished run, to its names, and a note that a person put there."""
    folder = tmp_path / "runs" / "old"
    for name in ("checkpoints/step-000004", "predictions", "cv", "best/step-000004"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text(name, encoding="utf-8")
    (folder / "run.yaml").write_text("task: mrpc\nnum_train_epochs: 3\n", encoding="utf-8")
    for name in ("metrics.json", "config.json", "model.safetensors", "tokenizer.json", "README.md"):
        (folder / name).write_text(f"old {name}", encoding="utf-8")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    return folder


def create(folder: Path, **settings) -> None:
    """Create the run's folder as a training does, and let go of its lock."""
    config = TrainConfig(task="demo", output_dir=folder, **settings)
    check_output_dir(config)
    RunFolder.create(config).lock.release()


def resume(folder: Path) -> None:
    """Do to the folder what --resume does, with the checkpoints that there are."""
    check_output_dir(TrainConfig(task="demo", output_dir=folder, resume=True))
    finish_replacing(folder)
    if not has_results(folder):
        create(folder, resume=True)


def old_files(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: held for name, held in files.items() if name != "notes.txt"}


def test_the_old_run_is_moved_and_said_and_what_is_not_of_a_run_stays(old_run, capsys):
    before = content(old_run)
    create(old_run, overwrite=True)
    moved = old_run.with_name("old.old")
    assert content(moved) == old_files(before)
    assert sorted(content(old_run)) == ["notes.txt", "run.yaml"]
    assert "task: demo" in (old_run / "run.yaml").read_text(encoding="utf-8")
    said = f"Old run        kept in {moved} until the new run has a checkpoint\n"
    assert capsys.readouterr().out == said


def killed_at(monkeypatch, number: int, action) -> bool:
    """Do something until it changes the disk for the NUMBER-th time; whether it came that far."""
    count = 0
    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            original = getattr(os, name)

            def watched(*args, original=original, **kwargs):
                nonlocal count
                count += 1
                if count > number:
                    raise KilledError
                return original(*args, **kwargs)

            patch.setattr(os, name, watched)
        try:
            action()
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("then", ["overwrite", "resume", "plain"])
def test_after_a_kill_at_any_operation_a_command_works_and_the_old_run_is_whole(
    old_run, tmp_path, monkeypatch, then
):
    before, number, refusals = content(old_run), 0, set()
    start = shutil.copytree(old_run, tmp_path / "start")
    moved = old_run.with_name("old.old")
    while True:
        for folder in (old_run, moved):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, old_run)
        killed = killed_at(monkeypatch, number, lambda: create(old_run, overwrite=True))
        left = content(old_run) | content(moved)
        assert {**left, "run.yaml": before["run.yaml"]} == before
        try:
            if then == "resume":
                resume(old_run)
            else:
                create(old_run, overwrite=then == "overwrite")
        except UserError as error:
            refusals.add(error.fix)
            assert content(old_run) | content(moved) == left
            create(old_run, overwrite=True)  # which the message names
        if then == "resume" and not content(moved):
            assert content(old_run) == before, "nothing was moved yet: the old run goes on"
        else:
            assert content(moved) == old_files(before), number
            assert sorted(content(old_run)) == ["notes.txt", "run.yaml"]
        if not killed:
            break
        number += 1
    assert number > 12, "every operation had its turn"
    assert all("--overwrite it" in fix for fix in refusals)
    assert bool(refusals) == (then == "plain")


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_old_run_survives_a_second_overwrite_before_the_new_one_has_anything(
    old_run, interrupted
):
    before = content(old_run)
    create(old_run, overwrite=True)
    (old_run / "history.jsonl").write_text("{}", encoding="utf-8")
    if interrupted:
        (old_run / "run.yaml").unlink()
        (old_run / "history.jsonl").unlink()
    create(old_run, overwrite=True)
    assert content(old_run.with_name("old.old")) == old_files(before)
    assert sorted(content(old_run)) == ["notes.txt", "run.yaml"]


def test_of_two_runs_to_be_replaced_the_later_is_kept(old_run):
    create(old_run, overwrite=True)
    (old_run / "checkpoints" / "step-000008").mkdir(parents=True)
    (old_run / "checkpoints" / "step-000008" / "file").write_text("later", encoding="utf-8")
    before = content(old_run)
    create(old_run, overwrite=True)
    assert content(old_run.with_name("old.old")) == old_files(before)


def test_a_persons_own_folder_of_that_name_is_in_the_way_and_stays(old_run):
    own = old_run.with_name("old.old")
    shutil.copytree(old_run, own)
    before = content(old_run.parent)
    with pytest.raises(UserError, match=r"cannot be moved to .*/old\.old; rename the"):
        create(old_run, overwrite=True)
    assert content(old_run.parent) == before
    # A copy of what an --overwrite has moved, under another name, is a person's own, too.
    shutil.rmtree(own)
    create(old_run, overwrite=True)
    shutil.copytree(own, old_run.with_name("copy.old"))
    shutil.copytree(own, old_run.with_name("copy"))
    with pytest.raises(UserError, match=r"cannot be moved to .*/copy\.old;"):
        create(old_run.with_name("copy"), overwrite=True)


def test_what_a_person_put_into_the_old_folder_is_not_deleted_with_it(old_run):
    create(old_run, overwrite=True)
    moved = old_run.with_name("old.old")
    (moved / "thesis.txt").write_text("mine", encoding="utf-8")
    (moved / ".plainloop-1-.replaced.json.tmp").touch()
    replaced_run.delete(old_run)
    assert content(moved) == {"thesis.txt": b"mine"}
    assert [path.name for path in moved.iterdir()] == ["thesis.txt"]


def test_a_record_that_names_other_places_is_not_followed(old_run):
    create(old_run, overwrite=True)
    record = old_run.with_name("old.old") / RECORD_FILE
    record.write_text(record.read_text(encoding="utf-8").replace("run.yaml", "../old/notes.txt"))
    replaced_run.delete(old_run)
    assert (old_run / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert replaced_run.has_moved(old_run) is None


def test_a_deletion_that_was_killed_is_finished_and_touches_nothing_of_the_new_run(
    old_run, monkeypatch
):
    create(old_run, overwrite=True)
    start, number = content(old_run), 0
    while killed_at(monkeypatch, number, lambda: replaced_run.delete(old_run)):
        number += 1
        create(old_run, resume=True)
        assert content(old_run) == start
    assert number > 10
    assert not [*old_run.parent.glob("old.old/*")], "at most the empty folder is left"


# In real runs.


@pytest.fixture
def settings(tiny_model, tiny_data):
    return {"model": str(tiny_model), "data_dir": tiny_data, "num_train_epochs": 2}


@pytest.mark.parametrize("strategy", ["epoch", "no"])
def test_the_old_run_is_there_until_the_first_checkpoint_or_the_saved_model(
    tmp_path, monkeypatch, settings, strategy
):
    run, moved = tmp_path / "run", tmp_path / "run.old"
    run_tiny(run, **settings)
    before, seen = content(run), []
    should_save = session.Session.should_save.fget

    def watched(self):
        seen.append(content(moved) == before if moved.exists() else None)
        return should_save(self)

    monkeypatch.setattr(session.Session, "should_save", property(watched))
    again = run_tiny(run, overwrite=True, save_strategy=strategy, **settings)
    half = len(seen) // 2
    assert seen[:half] == [True] * half
    assert seen[half:] == [None if strategy == "epoch" else True] * (len(seen) - half)
    assert not moved.exists()
    assert again.metrics["steps"] == 12


def test_a_run_that_is_replaced_predicts_from_its_new_place_and_can_be_moved_back(
    tmp_path, monkeypatch, settings
):
    run, moved = tmp_path / "run", tmp_path / "run.old"
    first = run_tiny(run, **settings)
    before = content(run)

    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "save_or_stop", killed)
        with pytest.raises(KilledError):
            run_tiny(run, overwrite=True, **settings)
    assert is_finished(moved)
    shutil.rmtree(run)
    moved.rename(run)
    assert content(run) == before
    again = run_tiny(run, overwrite=True, **settings)
    assert largest_difference(again.weights, first.weights) == 0
    assert sorted(content(run)) == sorted(before)
    assert not (run / RECORD_FILE).exists()
