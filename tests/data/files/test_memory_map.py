"""Large tables live in a file that is mapped: the same rows, out of the process's own memory."""

import resource
import tracemalloc

import pyarrow as pa
import pytest

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task
from plainloop.data.custom.dataset import read_custom_dataset
from plainloop.data.files import memory_map
from plainloop.data.files.memory_map import hold_on_disk
from plainloop.data.glue import to_dataset

ROWS = {"text": ["a cat", "ein Hund", "猫"], "labels": [[0.0, 1.0], [], None], "idx": [0, 1, 2]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the files go; every table is a large one."""
    monkeypatch.setattr(memory_map, "LARGE_BYTES", 0)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_rows_types_and_metadata_stay_and_no_file_is_left(folder):
    table = pa.table(ROWS).replace_schema_metadata({"a": "b"})
    held = hold_on_disk(pa.concat_tables([table, table.slice(1, 1)]))
    assert held.num_rows == 4
    assert held.equals(pa.concat_tables([table, table.slice(1, 1)]), check_metadata=True)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_memory_is_given_back(folder):
    before = pa.total_allocated_bytes()
    held = hold_on_disk(pa.table({"text": pa.array(["0123456789" * 100] * 10_000)}))
    assert held.nbytes > 10_000_000
    assert pa.total_allocated_bytes() - before < 0.01 * held.nbytes
    assert held["text"][9_999].as_py() == "0123456789" * 100


def test_no_rows_are_no_file(folder):
    table = pa.table(ROWS).slice(0, 0)
    assert hold_on_disk(table).equals(table)


def test_small_tables_stay_in_memory(folder, monkeypatch):
    monkeypatch.undo()
    table = pa.table(ROWS)
    assert hold_on_disk(table) is table


def test_where_nothing_can_be_written_rows_stay_in_memory(folder):
    folder.write_text("a file where a folder should be")
    table = pa.table(ROWS)
    assert hold_on_disk(table) is table


def test_on_a_full_disk_rows_stay_in_memory(folder):
    table = pa.table({"text": pa.array(["0123456789" * 100] * 10_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # the write fails within the rows
    try:
        held = hold_on_disk(table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert held is table
    assert list(folder.rglob("*.arrow")) == []
    assert hold_on_disk(table) is not table, "with room it is held there"


def test_rows_read_from_files_and_the_splits_made_of_them_are_held_there(folder, tmp_path):
    lines = [
        f"{'good' if row % 2 else 'bad'} {'0123456789' * 10} {row},{row % 2}"
        for row in range(20_000)
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    before = pa.total_allocated_bytes()
    own = read_custom_dataset(TrainConfig(train_file=(str(path),), output_dir=tmp_path / "run"))
    rows = sum(split.data.nbytes for split in own.raw.values())
    assert rows > 2_000_000
    assert pa.total_allocated_bytes() - before < 0.1 * rows, (
        "neither the file's rows nor the splits'"
    )
    assert own.raw["train"]["text"][0] == lines[own.raw["train"]["idx"][0]].split(",")[0]


def test_the_rows_are_not_pickled_for_a_fingerprint():
    table = pa.table({"sentence1": ["0123456789" * 100] * 10_000})
    to_dataset(table.slice(0, 1), get_task("demo"))  # what is imported is not counted
    tracemalloc.start()
    to_dataset(table, get_task("demo"))
    *_, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 0.1 * table.nbytes
