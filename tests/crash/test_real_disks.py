"""Real file systems, shut down without a flush after each operation of a save, and mounted again."""

import fcntl
import gc
import os
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
from run.test_atomic import Run, loaded

from plainloop.atomic_file import write_json
from plainloop.config.settings import TrainConfig
from plainloop.run.checkpoints import Checkpoints
from plainloop.run.folder import RunFolder, is_run, load_metrics

pytestmark = pytest.mark.crash

SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, 2  # FS_IOC_SHUTDOWN, of linux/fs.h
SIZES = {"ext4": 64, "xfs": 320}  # MiB, the least that each can be made with
MISSING = "a file system cannot be made on a loop device here"


class PowerLossError(BaseException):
    """Stands for the end of the machine: nothing runs after it."""


class LoopDisk:
    """A file system in an image file, mounted in a folder."""

    def __init__(self, kind: str, folder: Path, options: str) -> None:
        self.folder, self.options = folder / "disk", options
        self.folder.mkdir()
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(SIZES[kind] << 20)
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
        found = subprocess.run(
            ["losetup", "-f", "--show", image], check=True, capture_output=True, text=True
        )
        self.device = found.stdout.strip()

    @contextmanager
    def mounted(self) -> Iterator[None]:
        options = ["-o", self.options] if self.options else []
        mount = ["mount", *options, self.device, self.folder]
        subprocess.run(mount, check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["umount", self.folder], check=True, capture_output=True)

    def shut_down(self) -> None:
        """What was not flushed is lost, as when the power fails."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        os.close(descriptor)


@pytest.fixture
def disk(request, tmp_path) -> Iterator[LoopDisk]:
    kind, options = request.param
    try:
        made = LoopDisk(kind, tmp_path, options)
        with made.mounted():
            pass
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(MISSING)
    yield made
    subprocess.run(["losetup", "-d", made.device], check=True)


def losses(disk: LoopDisk, monkeypatch, prepare: Callable, act: Callable, *, flush: Callable):
    """Lose the power after each operation of `act` in turn, and at last after all of them.

    Args:
        disk: where it happens, each time in a new folder.
        prepare: gets the folder; what it writes is on the disk; its result goes to `act`.
        act: what is interrupted.
        flush: whether a flush of a path is done, to show what it is for.

    Yields:
        The folder after the next mount, and whether `act` had returned.
    """
    number, returned = 0, False
    while not returned:
        number += 1
        folder = disk.folder / f"loss-{number}"
        with disk.mounted():
            folder.mkdir()
            prepared = prepare(folder)
            os.sync()
            with monkeypatch.context() as patch:
                count = 0

                def watched(original, *, is_flush=False, turn=number):
                    def call(*args, **kwargs):
                        nonlocal count
                        count += 1
                        if count > turn:  # what a dead process would do to clear up
                            raise PowerLossError
                        skipped = is_flush and not flush(
                            Path(f"/proc/self/fd/{args[0]}").readlink()
                        )
                        try:
                            result = None if skipped else original(*args, **kwargs)
                        except OSError:  # it has changed nothing, so the next one has its turn
                            count -= 1
                            raise
                        if count == turn:
                            disk.shut_down()
                            raise PowerLossError
                        return result

                    return call

                for name in ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir"):
                    patch.setattr(os, name, watched(getattr(os, name), is_flush=name == "fsync"))
                patch.setattr(Path, "write_text", watched(Path.write_text))
                serialize = watched(safetensors.torch.serialize_file)
                patch.setattr(safetensors.torch, "serialize_file", serialize)
                try:
                    act(prepared)
                    returned = True
                except PowerLossError:
                    pass
            if returned:
                disk.shut_down()
            gc.collect()  # a lock that the dead process held would keep the disk busy
        with disk.mounted():
            yield folder, returned
            shutil.rmtree(folder, ignore_errors=True)


def always(_path: Path) -> bool:
    return True


disks = pytest.mark.parametrize(
    "disk",
    [("ext4", ""), ("ext4", "data=writeback,noauto_da_alloc"), ("xfs", "")],
    indirect=True,
    ids=lambda value: " ".join(value).strip(),
)


def save_losses(disk, monkeypatch, steps: list[int], flush: Callable) -> Counter:
    """What is found after each power loss within the last of some saves."""
    known = {}

    def prepare(folder: Path) -> Run:
        run = Run(folder / "run")
        known["old"] = None
        for step in steps[:-1]:
            run.train_to(step)
            run.save()
            known["old"] = run.expected()
        run.train_to(steps[-1])
        run.state.evaluation_due = True  # so that the same step saved again is not the same
        known["new"] = run.expected()
        return run

    found: Counter = Counter()
    for folder, returned in losses(disk, monkeypatch, prepare, Run.save, flush=flush):
        try:
            held = loaded(folder / "run")
        except Exception as error:  # noqa: BLE001
            found[f"lost: {type(error).__name__}"] += 1
            continue
        what = next((name for name in known if held == known[name]), "lost: neither")
        found["lost after the save" if returned and what != "new" else what] += 1
    return found


@disks
@pytest.mark.parametrize(
    "steps",
    [
        *(pytest.param(steps, marks=pytest.mark.nightly) for steps in ([4], [4, 8])),
        *([4, 8, 12], [4, 8, 8]),
    ],
    ids=str,
)
def test_a_power_loss_at_any_operation_of_a_save_leaves_the_old_or_the_new_checkpoint(
    disk, monkeypatch, steps
):
    found = save_losses(disk, monkeypatch, steps, always)
    print(f"{found.total()} power losses: {dict(found)}")
    assert found.keys() == {"old", "new"}


@pytest.mark.parametrize("disk", [("ext4", "data=writeback,noauto_da_alloc")], indirect=True)
@pytest.mark.parametrize(
    "flush",
    [
        pytest.param(lambda path: False, id="no flush"),
        pytest.param(
            lambda path: path.name not in ("checkpoints", "run"),
            id="none of the folders",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_without_the_flushes_the_same_test_finds_lost_checkpoints(disk, monkeypatch, flush):
    found = save_losses(disk, monkeypatch, [4, 8, 8], flush)
    assert [what for what in found if what.startswith("lost")]


@disks
def test_a_power_loss_leaves_the_old_or_the_new_best_model(disk, monkeypatch):
    def prepare(folder: Path) -> Run:
        run = Run(folder / "run")
        run.checkpoints.save_best(run.model, 4)
        run.train_to(8)
        return run

    found = Counter()
    save = Checkpoints.save_best
    for folder, returned in losses(
        disk, monkeypatch, prepare, lambda run: save(run.checkpoints, run.model, 8), flush=always
    ):
        fresh = Run(folder / "run")
        for step in (8, 4):
            try:
                fresh.checkpoints.load_best(fresh.model, step)
            except Exception:  # noqa: BLE001
                continue
            found[step, returned] += 1
            break
        else:
            found["lost", returned] += 1
    assert found.keys() == {(4, False), (8, False), (8, True)}


@disks
def test_a_power_loss_leaves_run_yaml_and_metrics_as_they_were_or_as_they_were_to_be(
    disk, monkeypatch
):
    def prepare(folder: Path) -> TrainConfig:
        return TrainConfig(task="demo", output_dir=folder / "a" / "run")

    def act(config: TrainConfig) -> None:
        run = RunFolder.create(config)
        for steps in (1, 2):
            write_json(run.path / "metrics.json", {"steps": steps})
        run.lock.release()

    seen = []
    for folder, _ in losses(disk, monkeypatch, prepare, act, flush=always):
        run = folder / "a" / "run"
        metrics = load_metrics(run)["steps"] if (run / "metrics.json").exists() else 0
        assert is_run(run) or not metrics
        seen.append(is_run(run) + metrics)
    assert seen == sorted(seen)
    assert {*seen} == {0, 1, 2, 3}
