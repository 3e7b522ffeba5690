"""Atomic directory writes with a checksum manifest.

The files are written into a temporary folder next to the final one and flushed to the disk; a
manifest with their sizes and SHA-256 is written last; one rename moves the folder to its final name.
Whatever ends the process, the final name holds a complete folder: the new one or the old one.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from plainloop.atomic_file import fsync_path, hash_file, make_folder
from plainloop.errors import MachineError, printable
from plainloop.run.machine_limits import DISK_ERRORS, ROOM, error_number

MANIFEST_FILE = "manifest.json"
TEMPORARY_PREFIX = ".tmp-"
Listed = Mapping[str, tuple[int, str]]
"""The files in a manifest: name -> size in bytes, SHA-256."""
REPLACED_SUFFIX = ".old"  # of a folder that is being replaced by a newer one of the same name


def commit_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder atomically.

    Args:
        folder: final path; a folder that an earlier call wrote there is replaced.
        write: writes the files into the folder it is given; it must not make subfolders.

    Raises:
        OSError: the disk is full or read-only; the temporary folder is removed.
    """
    temporary = begin_folder(folder)
    try:
        write(temporary)
        finish_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def begin_folder(folder: Path) -> Path:
    """Create an empty temporary folder next to the final path, for `finish_folder` to move there."""
    temporary = folder.with_name(TEMPORARY_PREFIX + folder.name)
    for left in folder.parent.glob(f"{TEMPORARY_PREFIX}*"):  # left by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    make_folder(folder.parent)
    temporary.mkdir()
    return temporary


def finish_folder(temporary: Path, folder: Path, *, named: bool = True) -> None:
    """Flush the files, write the manifest, and move the temporary folder to its final path.

    Args:
        temporary: holds the files, next to the final path.
        folder: final path.
        named: whether the folder is corrupt under another name.
    """
    files = {}
    for path in sorted(temporary.iterdir()):
        fsync_path(path)
        files[path.name] = describe_file(path)
    manifest = temporary / MANIFEST_FILE
    content = {**({"folder": folder.name} if named else {}), "files": files}
    manifest.write_text(json.dumps(content, indent=1), encoding="utf-8")
    fsync_path(manifest)
    fsync_path(temporary)
    # A resumed run may write the same step again: the old folder is kept until the new one is in place.
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
    """Compare a folder with its manifest: the first corrupt file and the reason, or None."""
    try:
        files = read_manifest(folder)
    except ValueError as error:
        return str(error)
    for name, (size, digest) in files.items():
        path = folder / name
        if path.parent != folder or path.is_symlink():
            return f"{name}: missing"
        if reason := compare_file(path, size, digest):
            return f"{name}: {reason}"
    return None


def read_manifest(folder: Path) -> Listed:
    """Read a folder's manifest.

    Raises:
        ValueError: it is missing, damaged or of another folder, or lists no files; the message names it.
    """
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        files = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in manifest["files"].items()
        }
        named = manifest.get("folder")  # of a checkpoint; earlier versions did not write it
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST_FILE}: {type(error).__name__}") from error
    if not files:
        raise ValueError(f"{MANIFEST_FILE}: lists no files")
    if named is not None and named != folder.name.removesuffix(REPLACED_SUFFIX):
        raise ValueError(f"{MANIFEST_FILE}: of {printable(named)}")
    return files


def describe_file(path: Path) -> dict[str, Any]:
    """A file's entry in a manifest: its size in bytes and its SHA-256."""
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def compare_file(path: Path, size: int, digest: str) -> str | None:
    """How a file differs from its entry in a manifest; None if it does not."""
    try:
        if not path.is_file():
            return "missing"
        if path.stat().st_size != size:
            return f"{path.stat().st_size} bytes, expected {size}"
        return None if hash_file(path) == digest else "SHA-256 differs"
    except OSError as error:
        return str(error.strerror)


@contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of writing to `folder` into a MachineError of one line.

    Raises:
        MachineError: instead of OSError and SafetensorError.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise MachineError(
            DISK_ERRORS.get(error_number(error) or 0, f"cannot be written: {error}"),
            where=str(folder),
            fix=f"{ROOM}, then --resume; older checkpoints are intact",
        ) from error
