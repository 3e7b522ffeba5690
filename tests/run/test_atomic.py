"""A save that is killed, or that the disk fails, at any of its operations."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

from plainloop.errors import MachineError
from plainloop.run.atomic import commit_folder, find_corruption
from plainloop.run.checkpoints import Checkpoints, list_checkpoints
from plainloop.run.rng import RngState
from plainloop.run.state import TrainState

DELETIONS = ("unlink", "rmdir")
WRITES = ("write", "tensors")


class KilledError(BaseException):
    """Stands for kill -9: nothing of the save runs after it."""


class Disk:
    """Records the operations that change the disk; the one of a number is the last, or fails.

    Attributes:
        done: the operations so far, as name and path.
        kill_at: the number of the operation that the process does not live to do.
        torn: whether half of it is done, where it writes a file.
        fail_at: the number of the operation that fails instead.
        error: the errno that it fails with; the read-only disk fails at all that follow, too.
    """

    def __init__(self, monkeypatch):
        self.reset()
        for name in ("mkdir", "rename", "replace", "fsync", *DELETIONS):
            self._watch(monkeypatch, os, name, name)
        self._watch(monkeypatch, Path, "write_text", "write")
        # All that safetensors writes goes through it.
        self._watch(monkeypatch, safetensors.torch, "serialize_file", "tensors", path_at=1)

    def reset(self, *, kill_at=None, torn=False, fail_at=None, error=errno.ENOSPC):
        self.done, self.dead = [], False
        self.kill_at, self.torn, self.fail_at, self.error = kill_at, torn, fail_at, error

    def _watch(self, monkeypatch, owner, attribute, name, path_at=0):
        original = getattr(owner, attribute)

        def watched(*args, **kwargs):
            path = args[path_at]
            path = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else Path(path)
            if self.dead:
                raise KilledError
            number = len(self.done)
            self.done.append((name, path))
            if number == self.kill_at:
                self.dead = True
                if self.torn and name in WRITES:
                    original(*args, **kwargs)
                    os.truncate(path, path.stat().st_size // 2)
                raise KilledError
            read_only = self.error == errno.EROFS and self.fail_at is not None
            if number == self.fail_at or (read_only and number > self.fail_at):
                message = os.strerror(self.error)
                if name == "tensors":
                    raise SafetensorError(f"I/O error: {message} (os error {self.error})")
                raise OSError(self.error, message, str(path))
            return None if name == "fsync" else original(*args, **kwargs)

        monkeypatch.setattr(owner, attribute, watched)


class Run:
    """Model, optimizer and scheduler small enough for a thousand saves."""

    def __init__(self, folder: Path, **settings):
        torch.manual_seed(0)
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.state = TrainState()
        settings = {"fingerprint": {"settings": {"seed": 1}}, **settings}
        self.checkpoints = Checkpoints(
            folder / "checkpoints", folder / "best", Accelerator(cpu=True), **settings
        )

    def move_to(self, folder: Path) -> None:
        self.checkpoints = replace(
            self.checkpoints, folder=folder / "checkpoints", best_folder=folder / "best"
        )

    def train_to(self, step: int) -> None:
        while self.state.step < step:
            self.model(torch.rand(4, 3)).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            self.state.count_step(1, 100)

    def save(self) -> Path:
        torch.manual_seed(self.state.step)
        return self.checkpoints.save(self.state, self.model, self.optimizer, self.scheduler)

    def expected(self):
        """What a checkpoint saved now holds."""
        torch.manual_seed(self.state.step)
        return self.content()

    def content(self):
        """All that a checkpoint holds, to be compared; JSON makes lists of tuples."""
        moments = self.optimizer.state_dict()
        content = {
            "state": asdict(self.state),
            "model": {name: value.tolist() for name, value in self.model.state_dict().items()},
            "optimizer": {
                f"{number}.{name}": value.tolist()
                for number, values in moments["state"].items()
                for name, value in values.items()
            },
            "groups": moments["param_groups"],
            "scheduler": self.scheduler.state_dict(),
            "generator": RngState.capture().tensors["torch"].tolist(),
        }
        return json.loads(json.dumps(content))


def loaded(folder: Path):
    """What the newest whole checkpoint holds; None where there are none."""
    run = Run(folder)
    newest = run.checkpoints.newest()
    if newest is None:
        return None
    objects = run.model, run.optimizer, run.scheduler
    run.state, generators, _ = run.checkpoints.restore(newest, *objects, force=False)
    generators.restore()
    return run.content()


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.name.startswith((".", "_"))]


def prepared(folder: Path, saved: list[int], step: int):
    """A run with checkpoints, at a step; the content of its newest checkpoint, and its own."""
    run, old = Run(folder), None
    for number in saved:
        run.train_to(number)
        run.save()
        old = run.expected()
    run.train_to(step)
    run.state.evaluation_due = True  # so that the same step saved again is not the same
    return run, old, run.expected()


def replays(
    disk: Disk, run: Run, start: Path, save, **fault
) -> Iterator[tuple[str, Path, BaseException]]:
    """Do a save again and again, each time on a copy of `start` and with a fault one later."""
    number, torn = 0, False
    while True:
        folder = start.with_name(f"replay-{number}-{torn}")
        shutil.copytree(start, folder) if start.exists() else folder.mkdir()
        run.move_to(folder)
        disk.reset(**({"fail_at": number, **fault} if fault else {"kill_at": number, "torn": torn}))
        try:
            save()
        except (KilledError, MachineError) as error:
            name, path = disk.done[number]
            disk.reset()
            yield f"{number}{' torn' * torn}: {name} {path.name}", folder, error
            torn = not fault and name in WRITES and not torn
            number += not torn
            shutil.rmtree(folder)
        else:
            assert number == len(disk.done) > 8, "every operation had its turn"
            disk.reset()
            shutil.rmtree(folder)
            return


CASES = {
    "the first": ([], 4),
    "the second": ([4], 8),
    "one too many": ([4, 8], 12),
    "the only one again": ([4], 4),
    "the newest again": ([4, 8], 8),
}
each_case = pytest.mark.parametrize(("saved", "step"), CASES.values(), ids=CASES.keys())


@each_case
def test_a_save_killed_at_any_operation_leaves_the_old_or_the_new_checkpoint(
    tmp_path, monkeypatch, saved, step
):
    disk = Disk(monkeypatch)
    run, old, new = prepared(tmp_path / "start", saved, step)
    lost, seen = [], []
    for where, folder, _ in replays(disk, run, tmp_path / "start", run.save):
        try:
            content = loaded(folder)
        except Exception as error:  # noqa: BLE001
            lost.append(f"{where}: {error}")
            continue
        if content not in (old, new):
            lost.append(f"{where}: neither the old nor the new")
        seen.append(content == new)
    assert not lost
    assert {*seen} == {False, True}
    assert seen == sorted(seen), "from some operation on it is the new one"


@pytest.mark.slow
@each_case
def test_the_save_after_a_killed_one_works_and_clears_up(tmp_path, monkeypatch, saved, step):
    disk = Disk(monkeypatch)
    run, _, _ = prepared(tmp_path / "start", saved, step)
    for after in (0, 1):  # the same step again, as when nothing moved; the next, as after a signal
        for where, folder, _ in replays(disk, run, tmp_path / "start", run.save):
            run.state.step = step + after
            run.save()
            assert loaded(folder) == run.expected(), where
            assert leftovers(folder) == [], where
            whole = [
                p for p in list_checkpoints(folder / "checkpoints") if find_corruption(p) is None
            ]
            assert len(whole) >= min(2, len({*saved, step + after})), where
            run.state.step = step


@each_case
def test_a_disk_that_is_full_at_any_operation_leaves_the_old_checkpoint_and_no_remains(
    tmp_path, monkeypatch, saved, step
):
    disk = Disk(monkeypatch)
    run, old, new = prepared(tmp_path / "start", saved, step)
    faults = replays(disk, run, tmp_path / "start", run.save, error=errno.ENOSPC)
    for where, folder, error in faults:
        assert isinstance(error, MachineError), where
        assert error.exit_code == 4
        assert "\n" not in str(error)
        deleting = any(f": {name} " in where for name in DELETIONS)
        assert deleting or "the disk is full" in str(error), where
        assert leftovers(folder) == [], where
        assert loaded(folder) in (old, new), where
        run.save()
        assert loaded(folder) == new, where


def test_a_disk_that_turns_read_only_at_any_operation_leaves_the_old_checkpoint(
    tmp_path, monkeypatch
):
    disk = Disk(monkeypatch)
    run, old, new = prepared(tmp_path / "start", [4, 8], 12)
    for where, folder, error in replays(disk, run, tmp_path / "start", run.save, error=errno.EROFS):
        assert isinstance(error, MachineError), where
        assert error.exit_code == 4
        assert "the disk is read-only" in str(error), where
        assert "\n" not in str(error)
        assert loaded(folder) in (old, new), where


BEST_CASES = {"a better one": (4, 8), "the same step again": (4, 4)}


@pytest.mark.parametrize("fault", [{}, {"error": errno.ENOSPC}], ids=["killed", "full"])
@pytest.mark.parametrize(("before", "step"), BEST_CASES.values(), ids=BEST_CASES.keys())
def test_the_old_best_model_is_there_until_the_new_one_is_whole(
    tmp_path, monkeypatch, before, step, fault
):
    disk = Disk(monkeypatch)
    run = Run(tmp_path / "start")
    run.checkpoints.save_best(run.model, before)
    for where, folder, _ in replays(
        disk,
        run,
        tmp_path / "start",
        lambda: run.checkpoints.save_best(run.model, step),
        **fault,
    ):
        best = [path for path in (folder / "best").glob("step-*") if find_corruption(path) is None]
        assert best, where
        run.checkpoints.save_best(run.model, step + 1)
        assert [path.name for path in (folder / "best").iterdir()] == [f"step-{step + 1:06d}"]
        run.checkpoints.load_best(nn.Linear(3, 2), step + 1)


def test_all_is_flushed_before_the_rename_and_the_surplus_deleted_after_it(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    run, _, _ = prepared(tmp_path, [4, 8], 12)
    disk.reset()
    target = run.save()
    renames = [number for number, (name, _) in enumerate(disk.done) if name == "rename"]
    assert len(renames) == 1
    before, after = disk.done[: renames[0]], disk.done[renames[0] + 1 :]
    temporary = disk.done[renames[0]][1]
    written = [path for name, path in before if name in WRITES]
    assert {path.name for path in written} == {path.name for path in target.iterdir()}
    assert written[-1].name == "manifest.json"
    for path in (*written, temporary):
        last_change = max(n for n, (name, p) in enumerate(before) if name != "fsync" and p == path)
        assert ("fsync", path) in before[last_change:], f"{path.name} is flushed"
    assert before[-1] == ("fsync", temporary)
    assert after[0] == ("fsync", target.parent)
    assert not [name for name, _ in before if name in DELETIONS]
    assert [name for name, _ in after if name in DELETIONS], "the third of two is deleted"


def test_what_writes_the_folder_may_fail_and_nothing_is_left(tmp_path):
    def write(path):
        (path / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        commit_folder(tmp_path / "step-1", write)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_read_is_damaged_and_not_a_traceback(tmp_path, monkeypatch):
    commit_folder(tmp_path / "step-1", lambda path: (path / "a").write_text("a"))

    def unreadable(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("plainloop.run.atomic.hash_file", unreadable)
    assert find_corruption(tmp_path / "step-1").startswith("a: ")


def test_a_manifest_that_lists_no_files_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text('{"files": {}}', encoding="utf-8")
    assert find_corruption(tmp_path) == "manifest.json: lists no files"


def test_a_damaged_folder_of_the_same_name_is_replaced(tmp_path):
    run = Run(tmp_path)
    run.train_to(4)
    damaged = run.save()
    (damaged / "model.safetensors").write_bytes(b"0")
    (damaged / "left over").touch()
    assert run.save() == damaged
    assert find_corruption(damaged) is None
    assert not (damaged / "left over").exists()
