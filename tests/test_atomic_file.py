"""A file is the old one or the new one, whatever ends the process that writes it."""

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plainloop.atomic_file import (
    TEMPORARY_FILES,
    atomic_file,
    hash_file,
    json_bytes,
    make_folder,
    write_json,
    write_text,
)
from plainloop.run.folder import load_metrics

WRITER = """
import os, signal, sys
from pathlib import Path
from plainloop.atomic_file import write_json

path, place = Path(sys.argv[1]), sys.argv[2]

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if place == "fsync":
    os.fsync = kill
elif place == "rename":
    Path.replace = kill
write_json(path, {"version": 1, "filler": list(range(50_000))})
print("written", flush=True)
while True:
    write_json(path, {"version": 2, "filler": list(range(50_000))})
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def writer(path, place):
    return subprocess.Popen([sys.executable, "-c", WRITER, path, place], stdout=subprocess.PIPE)


@pytest.mark.parametrize("place", ["fsync", "rename"])
def test_a_process_killed_while_it_writes_metrics_leaves_the_old_ones(tmp_path, place):
    path = tmp_path / "metrics.json"
    write_json(path, {"version": 0})
    process = writer(path, place)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert load_metrics(tmp_path) == {"version": 0}
    assert len([*tmp_path.glob(TEMPORARY_FILES)]) == 1, "it was killed with the file written"


def test_a_process_killed_at_any_moment_leaves_whole_metrics(tmp_path):
    path = tmp_path / "metrics.json"
    process = writer(path, "none")
    assert process.stdout.readline() == b"written\n"
    for _ in range(200):
        assert len(load_metrics(tmp_path)["filler"]) == 50_000
        time.sleep(0.001)
    process.kill()
    process.wait(timeout=60)
    assert len(load_metrics(tmp_path)["filler"]) == 50_000


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_after_an_exception_the_old_file_is_unchanged_and_nothing_else_is_left(tmp_path, error):
    path = tmp_path / "old.txt"
    path.write_text("old", encoding="utf-8")

    def fail(path):
        with atomic_file(path) as file:
            file.write(b"half")
            raise error

    for name in ("old.txt", "new.txt"):
        with pytest.raises((KeyboardInterrupt, OSError)):
            fail(tmp_path / name)
    assert names(tmp_path) == ["old.txt"]
    assert path.read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_failed_operation_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, operation):
    path = tmp_path / "old.txt"
    path.write_text("old", encoding="utf-8")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os if operation == "fsync" else Path, operation, fail)
    with pytest.raises(OSError, match="Input/output"):
        write_text(path, "new")
    assert names(tmp_path) == ["old.txt"]
    assert path.read_text(encoding="utf-8") == "old"


def test_the_file_is_flushed_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace

    def logged_fsync(descriptor):
        done.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def logged_replace(path, target):
        assert path.read_text(encoding="utf-8") == "new"
        done.append(("rename", target))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    path = tmp_path / "file.txt"
    write_text(path, "new")
    (_, temporary), *rest = done
    assert rest == [("rename", path), ("fsync", tmp_path)]
    assert temporary.match(TEMPORARY_FILES)
    assert temporary.parent == tmp_path


def test_permissions_are_those_of_the_file_before_or_of_any_new_file(tmp_path):
    path, new, plain = (tmp_path / name for name in ("old", "new", "plain"))
    path.touch()
    path.chmod(0o640)
    write_text(path, "text")
    write_text(new, "text")
    plain.write_text("text", encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert new.stat().st_mode == plain.stat().st_mode


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    write_text(link, "text")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "text"


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nothing_reads_is_an_error_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device"):
        write_text(pipe, "text")


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("x" * 255)
    write_text(path, "text")
    assert path.read_text(encoding="utf-8") == "text"


def test_a_number_that_json_does_not_have_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"loss": 1.0}


def test_json_is_indented_and_ends_with_a_line_break():
    assert json_bytes({"a": [1]}) == b'{\n  "a": [\n    1\n  ]\n}\n'


@pytest.fixture
def flushed(monkeypatch):
    """The paths that are flushed, in their order."""
    paths, fsync = [], os.fsync

    def watched(descriptor):
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return paths


def test_each_new_folder_is_flushed_in_its_parent(tmp_path, flushed):
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert sorted(flushed) == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    flushed.clear()
    make_folder(tmp_path / "a" / "b")
    assert flushed == [tmp_path / "a"], "one that is there may not have been flushed yet"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP])
def test_a_parent_that_cannot_be_flushed_is_no_error_and_a_full_disk_is(
    tmp_path, monkeypatch, number
):
    errors = [number]

    def fail(_descriptor):
        raise OSError(errors[0], os.strerror(errors[0]))

    monkeypatch.setattr(os, "fsync", fail)
    make_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    errors[0] = errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        make_folder(tmp_path / "b")


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match="Not a directory"):
        make_folder(tmp_path / "a" / "b")


def test_a_hash_is_that_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
