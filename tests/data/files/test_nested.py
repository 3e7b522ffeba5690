"""Values inside objects, by dotted names."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plainloop.config.settings import TrainConfig
from plainloop.data.custom.dataset import read_custom_dataset
from plainloop.data.files.nested import add_named
from plainloop.data.files.tables import read_files
from plainloop.errors import UserError

ROWS = [
    {
        "id": n,
        "data": {"text": f"the room was not so clean, {n}", "from": {"url": None}},
        "annotations": [{"by": n % 2, "result": [{"value": {"choices": ["ab"[n % 2]]}}]}],
        "parts": [{"x": n}, {"x": 1}][: 1 + n % 2],
    }
    for n in range(20)
]
LABEL = "annotations.0.result.0.value.choices"


def write(tmp_path, rows, name="a.json"):
    path = tmp_path / name
    if name.endswith(".json"):
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_objects_and_lists_of_one_object_become_columns(tmp_path, name):
    table = read_files([write(tmp_path, ROWS, name)]).table
    assert table.column_names == [
        "id",
        "data.text",
        "data.from.url",
        "annotations.0.by",
        LABEL,
        "parts",
    ]
    assert table["data.text"].to_pylist() == [row["data"]["text"] for row in ROWS]
    assert table[LABEL].to_pylist() == [["a"], ["b"]] * 10
    assert table["parts"].to_pylist() == [row["parts"] for row in ROWS]


def test_a_name_leads_into_lists_of_any_length_and_to_null_where_they_end():
    table = pa.table({"a.b": ["x", "y"], "a": [{"c": [{"d": 1}, {"d": 2}]}, None]})
    added = add_named(table, ["a.b", "a.c.1.d", "a.c.7.d", "a.nothing", "a.c.x", "b.c"])
    assert added.column_names == ["a.b", "a", "a.c.1.d", "a.c.7.d"]
    assert added["a.c.1.d"].to_pylist() == [2, None]
    assert added["a.c.7.d"].to_pylist() == [None, None]


def test_dotted_columns_are_named_by_flags_and_in_other_files(tmp_path):
    path = write(tmp_path, ROWS)
    other = [*ROWS[:9], {**ROWS[9], "annotations": ROWS[9]["annotations"] * 2}]
    test = write(tmp_path, other, "test.json")
    read = read_custom_dataset(
        TrainConfig(
            train_file=(str(path),),
            test_file=(str(test),),
            text_column=("data.text",),
            label_column=LABEL,
        )
    )
    assert read.task.label_names == ("a", "b")
    assert read.raw["test"]["label"][:] == [0, 1] * 5
    assert read.raw["test"]["text"][:] == [row["data"]["text"] for row in other]
    with pytest.raises(UserError, match=r"no column 'data'; .*did you mean 'data.text'"):
        read_custom_dataset(TrainConfig(train_file=(str(path),), text_column=("data",)))
