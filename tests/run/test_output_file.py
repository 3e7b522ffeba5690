"""No output replaces an input or a file of a run; one that cannot be written is refused before any work."""

import errno
import os
from pathlib import Path

import pytest

from plainloop.errors import MachineError, UserError
from plainloop.run.output_file import check_output, make_output_folder, open_output


@pytest.fixture
def kept(tmp_path):
    """A folder of files to keep; asserts afterwards that no byte of it has changed."""
    for name in (
        "in.csv", "model/config.json", "runs/a/run.yaml", "runs/a/metrics.json", "runs/a/.lock",
        "runs/a/model.safetensors", "runs/a/predictions/test.parquet", "runs/a/own.txt",
        "runs/seeds/seed-1/run.yaml", "runs/seeds/seed-1/README.md", "runs/seeds/summary.json",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "link.csv").symlink_to("in.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "in.csv")
    (tmp_path / "other").symlink_to("runs")

    def content():
        return {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    before = content()
    yield tmp_path
    assert content() == before


@pytest.mark.parametrize(
    ("name", "what"),
    {
        "in.csv": "is an input",
        "runs/../in.csv": "is an input",
        "link.csv": "is an input",
        "hard.csv": "is an input",
        "model/config.json": "is an input",
        "runs/a/run.yaml": "is a file of the run",
        "runs/a/metrics.json": "is a file of the run",
        "runs/a/.lock": "is a file of the run",
        "runs/a/model.safetensors": "is a file of the run",
        "runs/a/report.html": "is a file of the run",  # which it does not have yet
        "runs/a/predictions/test.parquet": "is a file of the run",
        "runs/a/predictions/new.csv": "is a file of the run",
        "other/a/history.jsonl": "is a file of the run",
        "runs/seeds/summary.json": "is a file of the run",
        "runs/seeds/seed-1/README.md": "is a file of the run",
    }.items(),
)
def test_what_would_be_lost_is_refused(kept, name, what):
    with pytest.raises(UserError, match=f"--report .*: {what}"):
        check_output(kept / name, "--report", [kept / "in.csv", kept / "model", kept / "absent"])


@pytest.mark.parametrize(
    "name",
    [
        "new.csv",
        "runs/a/own.txt",
        "runs/a/scores.json",
        "runs/seeds/scores.json",
        "runs/metrics.json",
    ],
)
def test_what_is_no_file_of_a_run_may_be_written_even_in_its_folder(kept, name):
    check_output(kept / name, inputs=[kept / "in.csv"])


@pytest.mark.parametrize(
    ("name", "what"),
    {
        "absent/out.csv": "no such folder",
        "in.csv/out.csv": "Not a directory",
        "x" * 256: "File name too long",
        "runs": "is a folder",
        "pipe": "no regular file",
        "loop": "Too many levels of symbolic links",
        "dangling": "no such folder",
    }.items(),
)
def test_what_is_no_name_for_a_file_is_refused(tmp_path, name, what):
    (tmp_path / "in.csv").touch()
    (tmp_path / "runs").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("absent/file")
    with pytest.raises(UserError, match=what):
        check_output(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_without_permission_is_the_machines_error(tmp_path, mode):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(mode)
    with pytest.raises(MachineError, match="Permission denied"):
        check_output(tmp_path / "closed" / "out.csv")
    (tmp_path / "closed").chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_write_protected_file_is_not_replaced(tmp_path):
    path = tmp_path / "out.csv"
    path.touch(0o400)
    with pytest.raises(MachineError, match="Permission denied"):
        check_output(path)


def test_a_folder_that_takes_no_file_is_the_machines_error(tmp_path, monkeypatch):
    def fail(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("plainloop.run.output_file.TemporaryFile", fail)
    with pytest.raises(MachineError, match="cannot be written: the disk is read-only"):
        check_output(tmp_path / "out.csv")


def test_a_folder_that_is_gone_meanwhile_is_the_machines_error(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    check_output(folder / "out.csv")
    folder.rmdir()
    with pytest.raises(MachineError, match="cannot be written: No such file"):
        open_output(folder / "out.csv").__enter__()


def test_a_device_is_written_and_a_full_one_is_the_machines_error():
    for name in ("null", "full"):
        check_output(Path("/dev") / name)
    with open_output(Path("/dev/null")) as file:
        file.write(b"text")
    with (
        pytest.raises(MachineError, match="the disk is full"),
        open_output(Path("/dev/full")) as file,
    ):
        file.write(b"text")


def test_a_folder_for_outputs_is_made_or_refused(tmp_path):
    make_output_folder(tmp_path / "a" / "b", "--glue-submission")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for name in ("file", "file/in", "x" * 256):
        with pytest.raises(UserError, match="--glue-submission"):
            make_output_folder(tmp_path / name, "--glue-submission")
