"""Manifest of a finished run: the sizes and SHA-256 of its files, written last, verified before use."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plainloop.atomic_file import write_json
from plainloop.errors import (
    CheckpointError,
    PlainloopError,
    is_out_of_memory,
    printable,
    printable_path,
)
from plainloop.run.atomic import MANIFEST_FILE, Listed, compare_file, describe_file, read_manifest
from plainloop.run.folder import (
    CONFIG_FILE,
    VERIFIED_FILES,
    has_saved_model,
    is_run,
    refuse_pipes,
)

LARGE = 16 * 2**20  # bytes; hashing that much takes about 10 ms

logger = logging.getLogger(__name__)


def write_manifest(folder: Path) -> None:
    """Write manifest.json over the files of a run; see `VERIFIED_FILES`."""
    write_json(folder / MANIFEST_FILE, {"files": describe_files(folder)})


def describe_files(folder: Path) -> dict[str, Any]:
    """The sizes and SHA-256 of the files of a run; see `VERIFIED_FILES`."""
    return {name: describe_file(folder / name) for name in sorted(_verified_files(folder))}


def verify_run(folder: Path, *, accept_changed: bool = False) -> Callable[[], None]:
    """Compare a run's files with its manifest: small files now, files above 16 MiB in a thread.

    A run that an older version finished has no manifest, nor has one that was killed before it was
    written: a warning says so.

    Args:
        folder: any folder; nothing is checked if it is not a run.
        accept_changed: log a warning for each file that differs, instead of raising.

    Returns:
        A function that waits for the thread, to call before a large file is used; it raises as this
        one does.

    Raises:
        CheckpointError: a file is missing, differs, is not in the manifest, or is no regular file.
    """

    def refuse(changes: list[str]) -> None:
        """Raise for changed files, or log them if they are accepted."""
        if accept_changed:
            for change in changes:
                logger.warning("%s: accepted: %s", printable_path(folder), printable(change))
        elif changes:
            raise CheckpointError(
                f"changed since the run was finished: {printable('; '.join(changes), most=300)}",
                where=printable_path(folder),
                fix="restore it; if you changed it on purpose, give --accept-changed-files, or to train "
                f"from it delete {MANIFEST_FILE}",
            )

    refuse_pipes(folder)
    if not (folder / MANIFEST_FILE).is_file():
        if is_run(folder) and has_saved_model(folder):
            logger.warning(
                "%s: no %s to verify its files by", printable_path(folder), MANIFEST_FILE
            )
        return lambda: None
    listed: Listed = {}
    changes: list[str] = []
    try:
        listed = read_manifest(folder)
    except ValueError as error:
        changes = [str(error)]
    if CONFIG_FILE not in listed and not is_run(folder):  # of a checkpoint, or not plainloop's
        return lambda: None
    present = _verified_files(folder)
    for name in sorted(present ^ listed.keys()):
        changes.append(f"{name}: " + ("missing" if name in listed else f"not in {MANIFEST_FILE}"))
    small, large = (
        [name for name in sorted(present & listed.keys()) if (listed[name][0] > LARGE) is is_large]
        for is_large in (False, True)
    )
    refuse(changes + _find_changes(folder, listed, small))
    found = ThreadPoolExecutor(1).submit(_find_changes, folder, listed, large)
    return lambda: refuse(found.result())


@contextmanager
def explain_damage(*runs: Path, accept_changed: bool) -> Iterator[None]:
    """Turn an error of using runs into one line, if no manifest vouches for all of their files.

    With a manifest an unexpected error is a bug in plainloop, and keeps its traceback.

    Args:
        runs: folders of runs, or of their seeds.
        accept_changed: as in `verify_run`.

    Raises:
        CheckpointError: instead of an unexpected error.
    """
    try:
        yield
    except Exception as error:  # of reading them, whatever the damage
        folders = [each for run in runs for each in [*run.glob("seed-*")] or [run]]
        vouched = (
            all((folder / MANIFEST_FILE).is_file() for folder in folders) and not accept_changed
        )
        if vouched or is_out_of_memory(error) or isinstance(error, (PlainloopError, OSError)):
            raise
        raise CheckpointError(
            f"its files are damaged: {type(error).__name__}: {printable(error, most=200)}",
            where=" or ".join(map(printable_path, runs)),
            fix="restore them, or train the run again",
        ) from error


def _verified_files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for pattern in VERIFIED_FILES
        for path in folder.glob(pattern)
        if path.is_file()
    }


def _find_changes(folder: Path, listed: Listed, names: list[str]) -> list[str]:
    reasons = {name: compare_file(folder / name, *listed[name]) for name in names}
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason]
