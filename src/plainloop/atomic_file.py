"""Atomic file writes: a temporary file in the same folder, fsync, rename, fsync of the folder."""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

TEMPORARY_FILES = ".plainloop-*.tmp"
"""Pattern of the temporary files; a process that was killed leaves one behind."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; it replaces `path` when the block ends without an exception.

    A reader sees the old content or the new one, even after a power failure. After an exception the
    temporary file is removed and the old file is unchanged. The new file has the permissions of the
    one it replaces.

    Args:
        path: final path, in an existing folder. If it is a symbolic link, its target is replaced.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    if path.exists() and not path.is_file():
        # A device or a pipe, such as /dev/null: a rename would replace the device itself. To open a
        # pipe that nothing reads would wait for ever: without blocking it is an error.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        with open(descriptor, "wb") as device:  # noqa: PTH123
            yield device
        return
    path = path.resolve()
    # Two processes may write the same file: each has a temporary file, and the last rename wins. Its
    # length does not depend on that of the name, which may be as long as the file system allows.
    temporary = path.with_name(f".plainloop-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            # Before the rename: else a power failure could leave the new name with no content.
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with suppress(
        OSError
    ):  # some file systems have no fsync for folders, or forbid reading this one
        fsync_path(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: a number is infinite or not a number, which JSON does not have.
    """
    with atomic_file(path) as file:
        file.write(json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """The bytes of a JSON file; raises as `write_json`."""
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def make_folder(path: Path) -> None:
    """Create a folder with its parents, if they are missing, so that it survives a power failure.

    Raises:
        OSError: it cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    if missing:
        path.mkdir(parents=True, exist_ok=True)
    # A folder's name is an entry of its parent: flushing the folder itself does not keep it. That of
    # `path` is flushed in any case: whoever created it may have been killed before doing so.
    for folder in {path, *missing}:
        try:
            fsync_path(folder.parent)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP):
                raise  # not one that may not be read, or of a file system without this


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        # In large pieces: a thread waits up to 5 ms for the interpreter after each, while another imports.
        while piece := file.read(2**26):
            digest.update(piece)
    return digest.hexdigest()


def fsync_path(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
