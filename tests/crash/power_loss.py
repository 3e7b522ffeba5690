"""What a power failure may leave of a folder: made from the recorded operations of a real run.

`record` notes every operation below a folder: new names, renames, deletions, flushes, and before each
of them what has been written meanwhile. `draw_state` then draws what one failure may leave:

- `ordered`, as ext4: names change in their order, and each flush keeps all changes of names before it;
- `weak`, as POSIX allows: a name is kept only by a flush of its folder; of the others any may be lost.

In both the content of a file is kept by a flush of the file; later content may be there, lost, cut
short or zeroed.
"""

# Names are texts here, as the recorded calls have them.
# ruff: noqa: PTH100, PTH115, PTH116, PTH120

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

NAMES = ("mkdir", "create", "rename", "unlink", "rmdir")
FOLDER = -1  # in the place of a file's number
State = dict[str, bytes | None]  # path -> content; None: a folder


@dataclass
class Recording:
    """The operations below a folder, in their order.

    Attributes:
        root: the folder.
        operations: tuples of a name and what it needs: ("mkdir", path), ("create", path, file),
            ("write", file, content), ("rename", path, path), ("unlink", path), ("rmdir", path),
            ("fsync", path, file), ("mark", name).
        start: number of the operations that made what was there before.
    """

    root: Path
    operations: list[tuple] = field(default_factory=list)
    start: int = 0
    _files: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, tuple] = field(default_factory=dict)
    _count: int = 0

    def mark(self, name: str) -> None:
        """Note that the run has come to a place."""
        self.look()
        self.operations.append(("mark", name))

    def look(self) -> None:
        """Note which files are new or changed since the last look, whoever wrote them."""
        for folder, _, names in os.walk(self.root):
            for path in (f"{folder}/{name}" for name in names):
                now = os.stat(path)
                seen = now.st_ino, now.st_size, now.st_mtime_ns
                if self._seen.get(path) == seen:
                    continue
                if self._seen.get(path, (None,))[0] != now.st_ino:
                    self._count += 1
                    self._files[path] = self._count
                    self.operations.append(("create", path, self._count))
                self._seen[path] = seen
                content = Path(path).read_bytes()
                self.operations.append(("write", self._files[path], content))

    def note_what_is_there(self) -> None:
        """Note what the folder holds before anything is recorded: it is on the disk."""
        folders = [folder for folder, _, _ in os.walk(self.root)]
        self.operations += [("mkdir", folder) for folder in folders[1:]]
        self.look()
        for path in (*self._files, *folders):
            self.note("fsync", path)

    def note(self, name: str, *paths: str) -> None:
        """Note an operation that has just been done."""
        if name == "fsync":
            self.operations.append((name, paths[0], self._files.get(paths[0], FOLDER)))
            return
        self.operations.append((name, *paths))
        if name == "rename":
            before, after = paths
            for known in (self._files, self._seen):
                for path in [p for p in known if p == before or p.startswith(f"{before}/")]:
                    known[after + path[len(before) :]] = known.pop(path)
        elif name == "unlink":
            self._files.pop(paths[0], None)
            self._seen.pop(paths[0], None)


@contextmanager
def record(root: Path) -> Iterator[Recording]:
    """Record what this process does below a folder."""
    recording = Recording(root)
    recording.note_what_is_there()
    recording.start = len(recording.operations)

    def absolute(path, dir_fd=None) -> str:
        if isinstance(path, int):
            return os.readlink(f"/proc/self/fd/{path}")
        if dir_fd is not None:
            return f"{os.readlink(f'/proc/self/fd/{dir_fd}')}/{path}"
        return os.path.abspath(path)

    def watched(name, original):
        def call(*args, dir_fd=None, **kwargs):
            count = 2 if name in ("rename", "replace") else 1
            paths = [absolute(path, dir_fd) for path in args[:count]]
            inside = any(path.startswith(f"{root}/") or path == str(root) for path in paths)
            if inside:
                recording.look()
            result = original(*args, **kwargs, **({} if dir_fd is None else {"dir_fd": dir_fd}))
            if inside:
                recording.note("rename" if name == "replace" else name, *paths)
            return result

        return call

    with ExitStack() as stack:
        for name in ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir"):
            stack.enter_context(patch.object(os, name, watched(name, getattr(os, name))))
        yield recording
    recording.look()


def draw_state(recording: Recording, cut: int, model: str, draw: random.Random) -> State:
    """What a power failure after the first `cut` operations may leave."""
    done = recording.operations[:cut]
    kept = _kept_names(done, draw) if model == "weak" else _kept_in_order(done, draw)
    flushed = {operation[2]: at for at, operation in enumerate(done) if operation[0] == "fsync"}
    written = {operation[1] for operation in done if operation[0] == "write"}
    unlucky = {file: draw.random() < 0.4 for file in sorted(written)}
    names: dict[str, int] = {str(recording.root): FOLDER}
    contents: dict[int, bytes] = {}
    for at, operation in enumerate(done):
        if at in kept:
            _apply(names, operation)
        elif operation[0] == "write":
            _, file, content = operation
            if at > flushed.get(file, -1):
                content = _damaged(content, contents.get(file, b""), draw, lost=unlucky[file])
            contents[file] = content
    return {
        path: None if file == FOLDER else contents.get(file, b"")
        for path, file in names.items()
        if path != str(recording.root)
    }


def _kept_in_order(done: list[tuple], draw: random.Random) -> set[int]:
    of_names = [at for at, operation in enumerate(done) if operation[0] in NAMES]
    flush = max((at for at, operation in enumerate(done) if operation[0] == "fsync"), default=-1)
    last = draw.choice([flush, *(at for at in of_names if at > flush)])
    return {at for at in of_names if at <= last}


def _kept_names(done: list[tuple], draw: random.Random) -> set[int]:
    last_flush = {op[1]: at for at, op in enumerate(done) if op[0] == "fsync" and op[2] == FOLDER}
    chance = draw.choice([0.1, 0.5, 0.9])
    kept = set()
    for at, operation in enumerate(done):
        if operation[0] in NAMES:
            paths = operation[1:3] if operation[0] == "rename" else operation[1:2]
            folders = {os.path.dirname(path) for path in paths}
            is_flushed = all(last_flush.get(folder, -1) > at for folder in folders)
            if is_flushed or draw.random() < chance:
                kept.add(at)
    return kept


def _apply(names: dict[str, int], operation: tuple) -> None:
    """Change the names, unless an operation that this one needs was lost."""
    kind, path = operation[:2]
    below = [name for name in names if name.startswith(f"{path}/")]
    if kind in ("mkdir", "create"):
        if names.get(os.path.dirname(path)) == FOLDER:
            names[path] = FOLDER if kind == "mkdir" else operation[2]
    elif path not in names:
        return
    elif kind == "rename":
        after = operation[2]
        is_full = any(name.startswith(f"{after}/") for name in names)
        if is_full or names.get(os.path.dirname(after)) != FOLDER:
            return
        for name in (path, *below):
            names[after + name[len(path) :]] = names.pop(name)
    else:  # a folder that is gone was empty: what is below cannot be reached
        for name in (path, *below):
            del names[name]


def _damaged(content: bytes, before: bytes, draw: random.Random, *, lost: bool) -> bytes:
    chance = draw.random()
    if lost and chance < 0.8:
        return before
    if chance < 0.4:
        return content
    if chance < 0.6:
        return content[: draw.randrange(len(content) + 1)]
    if chance < 0.8 or not content:
        return b"\0" * len(content)
    page = draw.randrange(len(content)) // 4096 * 4096
    return content[:page] + b"\0" * len(content[page : page + 4096]) + content[page + 4096 :]


def materialize(state: State, recorded: Path, folder: Path) -> None:
    """Write a state into an empty folder."""
    for path in sorted(state):
        target = folder / Path(path).relative_to(recorded)
        content = state[path]
        if content is None:
            target.mkdir()
        else:
            target.write_bytes(content)
