"""The run that --overwrite replaces: it stays in RUN.old until the new run can be resumed or is saved.

RUN.old has a record of what belongs there, so that a folder of that name that a person made is never
touched, and so that an interrupted move is finished by the next command.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from plainloop.atomic_file import TEMPORARY_FILES, fsync_path, make_folder, write_json

RECORD_FILE = ".replaced.json"


def path_of(run: Path) -> Path:
    """The folder that an old run in `run` is moved to: RUN.old, next to it."""
    run = run.resolve()
    return run.with_name(run.name + ".old")


def has_moved(run: Path) -> bool | None:
    """Whether the move of an old run to RUN.old is complete; None if no run was moved there."""
    _, moved = _read_record(run)
    return moved


def is_in_the_way(run: Path) -> bool:
    """Whether RUN.old is there and a person's own: not empty, and not made by --overwrite."""
    old = path_of(run)
    if has_moved(run) is not None or not os.path.lexists(old):
        return False
    return not old.is_dir() or len([*old.iterdir()]) > len([*old.glob(TEMPORARY_FILES)])


def move(run: Path, entries: Sequence[str]) -> None:
    """Move the files and folders of a run to RUN.old, one after the other.

    Args:
        run: folder of the run; what is not in `entries` stays there.
        entries: names; that of run.yaml first, so that what an interrupted move leaves is no run.

    Raises:
        OSError: a file cannot be moved.
    """
    make_folder(path_of(run))
    _write_record(run, entries, moved=False)
    finish_move(run)


def finish_move(run: Path) -> None:
    """Move what an interrupted `move` has left in the folder, if anything.

    Raises:
        OSError: a file cannot be moved.
    """
    old, (entries, moved) = path_of(run), _read_record(run)
    if moved is not False:
        return
    for name in entries:
        if os.path.lexists(run / name):
            (run / name).rename(old / name)
            # One by one: a power failure may keep the later of two renames and lose the earlier.
            fsync_path(old)
            fsync_path(run)
    _write_record(run, entries, moved=True)


def delete(run: Path) -> None:
    """Delete the old run in RUN.old, if there is one; other files in that folder stay.

    Raises:
        OSError: a file cannot be deleted.
    """
    old, (entries, moved) = path_of(run), _read_record(run)
    if moved:
        delete_entries(old, entries)
        fsync_path(old)
        delete_entries(old, [*(left.name for left in old.glob(TEMPORARY_FILES)), RECORD_FILE])
        if not any(old.iterdir()):
            old.rmdir()


def delete_entries(folder: Path, entries: Sequence[str]) -> None:
    """Delete files and folders of a folder; a link is deleted, not what it points to."""
    for path in (folder / name for name in entries):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read_record(run: Path) -> tuple[list[str], bool | None]:
    try:
        record = json.loads((path_of(run) / RECORD_FILE).read_text(encoding="utf-8"))
        # A copy of RUN.old under another name is a person's own.
        ours = record["run"] == run.resolve().name
        if ours and all(Path(name).name == name for name in record["entries"]):
            return record["entries"], bool(record["moved"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return [], None


def _write_record(run: Path, entries: Sequence[str], *, moved: bool) -> None:
    content = {"run": run.resolve().name, "entries": list(entries), "moved": moved}
    write_json(path_of(run) / RECORD_FILE, content)
