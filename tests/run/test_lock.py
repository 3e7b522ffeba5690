"""A run's folder has one writer at a time, from its first file to its last page."""

import sys
import threading
import time
from dataclasses import replace

import pytest
from filelock import FileLock

from plainloop.cli import app
from plainloop.cli.report import report
from plainloop.config.settings import TrainConfig
from plainloop.errors import MachineError, UserError
from plainloop.experiments import cross_validation, seeds as several_seeds
from plainloop.predict.loaded_run import load_run
from plainloop.run.folder import check_output_dir, keep_locks, lock_folder
from plainloop.training.fine_tune import fine_tune

BUSY = "another process is writing to this folder; wait until it has ended"


@pytest.fixture
def config(tiny_model, tiny_data, tmp_path):
    return TrainConfig(
        task="demo",
        model=str(tiny_model),
        data_dir=tiny_data,
        num_train_epochs=1,
        output_dir=tmp_path / "run",
    )


def is_locked(folder) -> bool:
    """Whether somebody has locked a folder; this process has as little right to it as another."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return True
    lock.release()
    return False


def test_a_lock_is_kept_until_the_block_ends_also_by_an_error(tmp_path):
    def locked_and_failed():
        with keep_locks():
            lock_folder(tmp_path, "--output-dir")
            assert is_locked(tmp_path)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  its own
        locked_and_failed()
    assert not is_locked(tmp_path)
    lock_folder(tmp_path, "--output-dir")
    assert not is_locked(tmp_path), "without the block with the last reference"


def test_a_failed_training_whose_error_is_kept_lets_go_of_its_folder(config, monkeypatch):
    """As in a notebook, whose cell is run again."""
    with monkeypatch.context() as patch:
        patch.setattr("plainloop.training.fine_tune.train", raise_error)
        with pytest.raises(RuntimeError) as caught:
            fine_tune(config)
    assert caught.value.__traceback__ is not None
    assert fine_tune(replace(config, overwrite=True))["steps"] == 6


def raise_error(*_args, **_kwargs):
    raise RuntimeError


def watch(monkeypatch, owner, name, *folders):
    """Note at each call whether the folders are locked."""
    original, seen = getattr(owner, name), []

    def watched(*args, **kwargs):
        seen.append([is_locked(folder) for folder in folders])
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, watched)
    return seen


@pytest.mark.parametrize("cv", [None, 2])
def test_a_run_is_locked_while_its_folds_and_pages_are_written(config, monkeypatch, cv):
    folder = config.output_dir
    pages = watch(
        monkeypatch, sys.modules["plainloop.report.end_of_training"], "write_card", folder
    )
    folds = watch(monkeypatch, cross_validation, "train_unless_finished", folder)
    app.train(config, cv=cv)
    assert pages == [[True]]
    assert folds == [[True]] * (cv or 0)
    assert not is_locked(folder)


@pytest.mark.slow
def test_the_folder_of_seeds_is_locked_until_their_summary_is_written(config, monkeypatch):
    folder = config.output_dir
    several = (folder, folder / "seed-42", folder / "seed-43")
    seen = watch(monkeypatch, several_seeds, "write_seeds_report", *several)
    app.train(config, seeds=(2,))
    assert seen == [[True, True, True]]
    assert [is_locked(path) for path in several] == [False, False, False]


@pytest.mark.slow
def test_every_second_writer_is_told_that_there_is_another(config, tmp_path):
    app.train(config, seeds=(2,))
    seed = replace(config, output_dir=config.output_dir / "seed-42")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with FileLock(config.output_dir / ".lock"), FileLock(seed.output_dir / ".lock"):
        for settings in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UserError, match=BUSY):
                app.train(replace(seed, **settings))
        for settings in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UserError, match=BUSY):
                app.train(replace(config, **settings), seeds=(2,))
        for folder in (config.output_dir, seed.output_dir):
            with pytest.raises(UserError, match=BUSY) as caught:
                report(folder)
            assert caught.value.where == f"plainloop report {folder}"
        load_run(seed.output_dir).predict([("the cat", "a dog")])  # which writes nothing into it
    assert {path: path.read_bytes() for path in files} == files


def test_one_that_started_first_and_opens_the_run_later_is_told_so_too(config):
    """Both have looked at the empty folder before one of them has made it a run."""
    from plainloop.run.folder import RunFolder

    first = RunFolder.create(config)
    with pytest.raises(UserError, match=BUSY):
        RunFolder.create(config)
    first.lock.release()
    with pytest.raises(UserError, match="the folder holds a run already"):
        check_output_dir(config)


def test_a_folder_that_cannot_be_locked_is_one_line_with_exit_code_4(tmp_path, monkeypatch):
    def read_only(*_args, **_kwargs):
        raise OSError(30, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(FileLock, "acquire", read_only)
    with pytest.raises(MachineError) as caught:
        lock_folder(tmp_path, "plainloop report run")
    assert str(caught.value).startswith("plainloop report run: the folder cannot be written: Read-")
    assert caught.value.exit_code == 4


@pytest.mark.slow
def test_a_run_predicts_the_same_while_its_report_is_written(config, run_command):
    app.train(config)
    texts = [("the cat sees the car", "the dog likes the tree"), ("a cat", "a cat")] * 3
    expected = load_run(config.output_dir).predict(texts)
    done, count = threading.Event(), 0

    def keep_reporting():
        while not done.is_set():
            report(config.output_dir)

    writer = threading.Thread(target=keep_reporting)
    writer.start()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert load_run(config.output_dir).predict(texts) == expected
        count += 1
    done.set()
    writer.join()
    assert count > 3
