"""Every kind of damage to every file of a run: bytes of any file, and values of those that people read."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

Damage = Callable[[Path], object]
VALUES: list[Any] = [None, "x", -1, 1e999, [], {}]
TEXTS = ("[]", "null", "{", "{}", '{"a": NaN}', "[" * 100_000, "\0")


def flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def zero_tail(path: Path) -> None:
    content = path.read_bytes()
    tail = min(4096, len(content) // 2)
    path.write_bytes(content[:-tail] + bytes(tail))


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BYTES: dict[str, Damage] = {
    **{f"a bit at {at:.0%}": lambda path, at=at: flip(path, at) for at in (0, 0.1, 0.5, 0.9, 1)},
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte less": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "empty": lambda path: path.write_bytes(b""),
    "a zeroed tail": zero_tail,
    "another run's": lambda path: path.write_bytes(path.read_bytes().swapcase()),
    "not UTF-8": lambda path: path.write_bytes(b"\xff"),
    "missing": Path.unlink,
    "a dangling link": link_to_nothing,
    "a pipe": pipe,
    "a folder": folder,
}


def write(text: str) -> Damage:
    return lambda path: path.write_text(text, encoding="utf-8")


def of_values(content: dict[str, Any], dump: Callable[[Any], str]) -> Iterator[tuple[str, Damage]]:
    for key in content:
        yield f"without {key}", write(dump({k: v for k, v in content.items() if k != key}))
        for value in VALUES:
            yield f"{key}: {value!r}", write(dump({**content, key: value}))


def of_table(table: pa.Table) -> Iterator[tuple[str, Damage]]:
    changed = {"half of the rows": table.slice(len(table) // 2), "no row": table.slice(0, 0)}
    for number, name in enumerate(table.column_names):
        changed[f"without {name}"] = table.drop_columns([name])
        changed[f"{name} is text"] = table.set_column(number, name, pa.array(["x"] * len(table)))
        changed[f"{name} is null"] = table.set_column(number, name, pa.nulls(len(table)))
        changed[f"{name} is lists"] = table.set_column(
            number, name, pa.array([[1, 2, 3]] * len(table))
        )
    for label, one in changed.items():
        yield label, lambda path, one=one: pq.write_table(one, path)


def corruptions(run: Path) -> Iterator[tuple[str, str, Damage]]:
    """Name of a file, what is wrong with it, and the function that damages the file it is given."""
    names = [path.relative_to(run).as_posix() for path in sorted(run.rglob("*")) if path.is_file()]
    for name in names:
        path = run / name
        found: list[tuple[str, Damage]] = list(BYTES.items())
        if path.suffix == ".parquet":
            found += of_table(pq.read_table(path))
        elif path.suffix != ".safetensors":
            found += [(repr(text[:12]), write(text)) for text in TEXTS]
        if path.suffix == ".json" and path.name != "tokenizer.json":
            found += of_values(json.loads(path.read_text("utf-8")), json.dumps)
        elif path.suffix == ".yaml":
            found += of_values(yaml.safe_load(path.read_text("utf-8")), yaml.safe_dump)
        elif path.suffix == ".jsonl":
            first, *_ = path.read_text("utf-8").splitlines(keepends=True)
            for label, damage in of_values(json.loads(first), json.dumps):
                found.append((label, damage))
        for label, damage in found:
            yield name, label, damage
