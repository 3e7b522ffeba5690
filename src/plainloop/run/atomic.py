"""A folder that is there whole or not at all, and that can tell whether it still is.

Written into a temporary folder beside its final place, flushed to the disk, listed with sizes and
SHA-256 in a manifest that is written last, and moved by one rename. Whatever ends the process, the
final name holds a folder that verifies, or the one that was there before.
"""

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from plainloop.atomic_file import fsync_path
from plainloop.errors import CheckpointError, MachineError, PlainloopError, UserError

MANIFEST_FILE = "manifest.json"
TEMPORARY_PREFIX = ".tmp-"
REPLACED_SUFFIX = ".old"  # of a folder that a newer one of the same name takes the place of
SHARED_ERRORS = (UserError, CheckpointError, MachineError)


def commit_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder so that a crash at any moment leaves it whole or absent.

    Args:
        folder: its final place, where nothing may be but an older folder of the same content.
        write: puts the files into the folder that it is given; no folders in it.

    Raises:
        OSError: the disk is full or read-only; the temporary folder is gone then.
    """
    temporary = begin_folder(folder)
    try:
        write(temporary)
        finish_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def begin_folder(folder: Path) -> Path:
    """A new empty temporary folder beside the final place."""
    temporary = folder.with_name(TEMPORARY_PREFIX + folder.name)
    for left in folder.parent.glob(f"{TEMPORARY_PREFIX}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def finish_folder(temporary: Path, folder: Path) -> None:
    """Flush the files, list them in the manifest, and move the folder to its final place."""
    files = {}
    for path in sorted(temporary.iterdir()):
        fsync_path(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    manifest = temporary / MANIFEST_FILE
    manifest.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
    fsync_path(manifest)
    fsync_path(temporary)
    # The same step written again after a resume: the old one is whole until the new one is.
    replaced = folder.with_name(folder.name + REPLACED_SUFFIX)
    if folder.exists():
        if find_corruption(folder) is None:
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        else:
            shutil.rmtree(folder)
    temporary.rename(folder)
    fsync_path(folder.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def find_corruption(folder: Path) -> str | None:
    """What is wrong with a committed folder: file and reason; None where it verifies."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        files = {
            str(name): (entry["bytes"], entry["sha256"])
            for name, entry in manifest["files"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{MANIFEST_FILE}: {type(error).__name__}"
    for name, (size, digest) in files.items():
        path = folder / name
        if path.parent != folder or path.is_symlink() or not path.is_file():
            return f"{name}: missing"
        try:
            if path.stat().st_size != size:
                return f"{name}: {path.stat().st_size} bytes, expected {size}"
            if hash_file(path) != digest:
                return f"{name}: SHA-256 differs"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None if files else f"{MANIFEST_FILE}: lists no files"


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """A full or read-only disk in one line.

    Raises:
        MachineError: instead of the OSError.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors says it in its text only
        in_text = re.search(r"\(os error (\d+)\)", str(error))
        number = getattr(error, "errno", None) or (int(in_text[1]) if in_text else 0)
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the disk is read-only",
        }
        what = reasons.get(number, f"cannot be written: {error}")
        raise MachineError(
            what, where=str(folder), fix="make room, then --resume; older checkpoints are whole"
        ) from error


@contextmanager
def raise_on_all_ranks(accelerator: Accelerator) -> Iterator[None]:
    """A part of the work that no process leaves before all are done, nor if one has failed.

    Without it the others would wait for the one that failed, and then fail for another reason.

    Raises:
        PlainloopError: what the first process that failed has raised; on the others an error of the
            same kind without a text, so that one line is printed.
    """
    error = None
    try:
        yield
    except PlainloopError as found:
        error = found
    code = torch.tensor([error.exit_code if error else 0], device=accelerator.device)
    codes = accelerator.gather(code).tolist()
    if not any(codes):
        return
    rank, exit_code = next((rank, code) for rank, code in enumerate(codes) if code)
    if error and rank == accelerator.process_index:
        raise error
    raise {kind.exit_code: kind for kind in SHARED_ERRORS}[exit_code]("") from error
