"""The output files of the commands: checked before any work, then written atomically."""

import errno
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from plainloop.atomic_file import atomic_file
from plainloop.errors import MachineError, UserError, printable_path
from plainloop.run.folder import run_of_file
from plainloop.run.machine_limits import DISK_ERRORS


def check_output(output: Path, flag: str = "--output", inputs: Iterable[Path] = ()) -> None:
    """Check that an output file can be written, and replaces no input and no file of a run.

    Args:
        output: file to write; a device such as /dev/null is taken, too.
        flag: flag that it was given with.
        inputs: files that the command reads, and folders of which it may read every file.

    Raises:
        UserError: the path is no name for a file, its folder is missing, or it is a file to keep.
        MachineError: the folder or the file cannot be written.
    """
    where = f"{flag} {printable_path(output)}"
    with explain_write_errors(where):
        what = _find_misnaming(output) or _find_loss(output, inputs)
        if what:
            raise UserError(what, where=where, fix="choose another name")
        if output.exists():
            output.open("r+b").close()  # write-protected: the rename would not mind
        if not output.is_char_device():
            TemporaryFile(dir=output.resolve().parent).close()


def _find_misnaming(output: Path) -> str | None:
    try:
        mode = output.stat().st_mode
    except FileNotFoundError:
        folder = output.resolve().parent
        return None if folder.is_dir() else f"no such folder: {printable_path(folder)}"
    except PermissionError:
        raise
    except OSError as error:  # too long, a loop of links, a file as a folder
        return str(error.strerror)
    if stat.S_ISDIR(mode):
        return "is a folder"
    return None if stat.S_ISREG(mode) or stat.S_ISCHR(mode) else "no regular file"


def _find_loss(output: Path, inputs: Iterable[Path]) -> str | None:
    run = run_of_file(output)
    if run is not None:
        return f"is a file of the run {printable_path(run)}"
    read = [file for path in inputs for file in (path, *path.glob("*")) if file.exists()]
    is_input = output.exists() and any(file.samefile(output) for file in read)
    return "is an input too" if is_input else None


def make_output_folder(folder: Path, flag: str) -> None:
    """Create a folder for output files, with its parents, if it is missing.

    Raises:
        UserError: it is a file, or in one, or its name is too long.
        MachineError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        misnamed = error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG)
        kind = UserError if misnamed else MachineError
        where = f"{flag} {printable_path(folder)}"
        raise kind(str(error.strerror), where=where, fix="use another folder") from error


@contextmanager
def open_output(output: Path, flag: str = "--output") -> Iterator[BinaryIO]:
    """Open a checked file, to be written atomically; see `atomic_file`.

    Raises:
        MachineError: the disk is full, or the folder can no longer be written.
    """
    with explain_write_errors(f"{flag} {printable_path(output)}"), atomic_file(output) as file:
        yield file


@contextmanager
def explain_write_errors(where: str) -> Iterator[None]:
    """Turn an error of writing to a file or folder into a MachineError of one line."""
    try:
        yield
    except OSError as error:
        what = (
            f"cannot be written: {DISK_ERRORS.get(error.errno or 0, error.strerror or str(error))}"
        )
        raise MachineError(what, where=where, fix="use another folder or disk") from error
