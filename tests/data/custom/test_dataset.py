"""One's own rows: found columns, labels and parts become a task and raw splits."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plainloop.config.settings import TrainConfig
from plainloop.data.custom.dataset import read_custom_dataset
from plainloop.errors import UserError

ROWS = [("good one", "yes"), ("bad one", "no"), ("fine one", "yes"), ("poor one", "no")]


def csv_of(path, rows, header="text,label"):
    lines = [header, *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def read(path, **settings):
    return read_custom_dataset(TrainConfig(train_file=(str(path),), **settings))


def test_a_csv_becomes_a_task_and_two_parts(tmp_path):
    given = [(f"{text} {n}", label) for n, (text, label) in enumerate(ROWS * 5)]
    own = read(csv_of(tmp_path / "reviews.csv", given), validation_fraction=0.2)
    assert own.task.name == "reviews"
    assert own.task.label_names == ("no", "yes")
    assert own.task.text_columns == ("text",)
    assert own.raw.num_rows == {"train": 16, "validation": 4}
    for rows in own.raw.values():
        for row in rows:
            assert given[row["idx"]] == (row["text"], own.task.label_names[row["label"]])
    assert sorted([*own.raw["train"]["idx"], *own.raw["validation"]["idx"]]) == list(range(20))
    assert any("4 of 20 rows, seed 42" in line for line in own.found)
    resolved = own.config
    assert (resolved.text_column, resolved.label_column) == (("text",), "label")
    assert resolved.problem_type == "single_label_classification"


def test_the_resolved_settings_read_the_same_again(tmp_path):
    path = csv_of(tmp_path / "r.csv", ROWS * 5)
    first = read(path)
    again = read_custom_dataset(first.config)
    assert again.config == first.config
    assert again.raw["validation"].to_list() == first.raw["validation"].to_list()


def test_pairs_files_of_each_part_and_shards(tmp_path):
    header = "premise,hypothesis,label"
    pairs = [
        (first, second, label)
        for (first, label), (second, _) in zip(ROWS, ROWS[1:] + ROWS[:1], strict=True)
    ]
    for name in ("a-1.csv", "a-2.csv", "v.csv", "t.csv"):
        csv_of(tmp_path / name, pairs, header)
    own = read_custom_dataset(
        TrainConfig(
            train_file=(str(tmp_path / "a-*.csv"),),
            validation_file=(str(tmp_path / "v.csv"),),
            test_file=(str(tmp_path / "t.csv"),),
        )
    )
    assert own.raw.num_rows == {"train": 8, "validation": 4, "test": 4}
    assert own.task.text_columns == ("text", "text_pair")
    assert own.raw["test"][0]["text_pair"] == "bad one"


def test_several_labels_and_targets(tmp_path):
    rows = [{"text": f"row {n} says", "labels": ["a", "b"][: n % 3]} for n in range(12)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    own = read(tmp_path / "m.jsonl")
    assert own.task.problem_type == "multi_label_classification"
    assert all(row["label"] == [[0, 0], [1, 0], [1, 1]][row["idx"] % 3] for row in own.raw["train"])
    table = pa.table(
        {"text": [f"row {n} says" for n in range(12)], "score": [n / 2 for n in range(12)]}
    )
    pq.write_table(table, tmp_path / "r.parquet")
    own = read(tmp_path / "r.parquet", problem_type="regression")
    assert own.task.num_labels == 1
    assert own.task.label_names == ()
    assert all(row["label"] == row["idx"] / 2 for row in own.raw["validation"])


@pytest.mark.parametrize(("on_null", "texts"), [("drop", 11), ("empty", 12)])
def test_a_row_without_a_text_is_dropped_or_empty_as_asked(tmp_path, on_null, texts):
    rows = [{"text": None if n == 5 else f"row {n} says", "label": "ab"[n % 2]} for n in range(12)]
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    own = read(tmp_path / "n.jsonl", on_null=on_null)
    assert sum(own.raw.num_rows.values()) == texts
    rest = [*own.raw["train"], *own.raw["validation"]]
    assert all(row["text"] == (f"row {row['idx']} says" if row["idx"] != 5 else "") for row in rest)
    with pytest.raises(UserError, match="no text in line 6"):
        read(tmp_path / "n.jsonl")


def test_a_group_stays_on_one_side(tmp_path):
    rows = [(f"{ROWS[n % 4][0]} {n}", ROWS[n % 4][1], f"user {n // 4}") for n in range(40)]
    path = csv_of(tmp_path / "g.csv", rows, "text,label,user")
    own = read(path, group_column="user", validation_fraction=0.3)
    sides = [{row["idx"] // 4 for row in own.raw[part]} for part in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 3


def test_another_encoding_is_read(tmp_path):
    path = tmp_path / "k.csv"
    path.write_bytes("text,label\n좋은 영화,긍정\n나쁜 영화,부정\n".encode("cp949") * 1)
    own = read(path, encoding="cp949", validation_file=(str(path),))
    assert own.raw["train"]["text"][:] == ["좋은 영화", "나쁜 영화"]
    assert own.task.label_names == ("긍정", "부정")


def test_columns_of_another_file_may_differ_by_case_and_space(tmp_path):
    train = csv_of(tmp_path / "t.csv", ROWS, "review_text,label")
    other = csv_of(tmp_path / "v.csv", ROWS[:2], "Review Text,Label")
    own = read(train, validation_file=(other,))
    assert own.raw["validation"]["text"][:] == [text for text, _ in ROWS[:2]]
    csv_of(tmp_path / "v.csv", [("a", "b", "yes")], "Review Text,Review-Text,Label")
    with pytest.raises(UserError, match=r"v.csv: no column 'review_text', which the training"):
        read(train, validation_file=(other,))


def test_rows_without_a_label_are_left_out_with_a_line(tmp_path):
    rows = [(f"row {n} says", ["a", "b", "nan"][n % 3]) for n in range(30)]
    path = csv_of(tmp_path / "n.csv", [*rows, ("row 30", ""), ("text", "label")])
    before = (tmp_path / "n.csv").read_bytes()
    own = read(path, on_null="drop")
    assert own.task.label_names == ("a", "b")
    kept = [*own.raw["train"], *own.raw["validation"]]
    assert sorted(row["idx"] for row in kept) == [n for n in range(30) if n % 3 != 2]
    assert all(own.task.label_names[row["label"]] == "ab"[row["idx"] % 3] for row in kept)
    assert (
        "train: 12 rows without a text or label are left out: lines 4, 7, 10 (+9 more) (--on-null drop)"
        in own.found
    )
    assert read_custom_dataset(own.config).raw["train"].to_list() == own.raw["train"].to_list()
    assert (tmp_path / "n.csv").read_bytes() == before


def test_rows_without_several_labels_or_a_target_are_left_out(tmp_path):
    rows = [{"text": f"row {n}", "y": ["a", "b"][: n % 3] if n % 4 else None} for n in range(24)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    own = read(tmp_path / "m.jsonl", label_column="y", on_null="drop")
    kept = [*own.raw["train"], *own.raw["validation"]]
    assert sorted(row["idx"] for row in kept) == [n for n in range(24) if n % 4]
    assert all(row["label"] == [[0, 0], [1, 0], [1, 1]][row["idx"] % 3] for row in kept)
    path = csv_of(
        tmp_path / "r.csv", [(f"row {n}", "nan" if n % 4 else f"{n}.5") for n in range(24)]
    )
    own = read(path, problem_type="regression", on_null="drop")
    kept = [*own.raw["train"], *own.raw["validation"]]
    assert sorted((row["idx"], row["label"]) for row in kept) == [
        (n, n + 0.5) for n in range(0, 24, 4)
    ]


def test_empty_rows_at_the_end_of_each_file_are_left_out_with_a_line(tmp_path):
    for name in ("a", "b"):
        csv_of(
            tmp_path / f"{name}.csv", [*((f"{name} {n}", "xy"[n % 2]) for n in range(10)), ("", "")]
        )
    own = read(tmp_path / "*.csv")
    assert sum(own.raw.num_rows.values()) == 20
    assert any(line.startswith("2 empty rows at the end of ") for line in own.found)
    assert own.show("train", [10]) == "b.csv, line 2"
    csv_of(tmp_path / "a.csv", [("a", "x"), ("", ""), ("b", "y")])
    with pytest.raises(UserError, match=r"no label in a\.csv, line 3"):
        read(tmp_path / "*.csv")


def test_a_text_that_mysql_writes_for_null_is_no_text(tmp_path):
    path = csv_of(tmp_path / "m.csv", [*ROWS * 4, ("\\N", "yes")])
    with pytest.raises(UserError, match=r"no text in line 18; --on-null drop"):
        read(path)
    assert read(path, on_null="empty").raw["train"]["text"][:].count("") <= 1


def test_a_label_in_another_unicode_form_is_explained(tmp_path):
    train = csv_of(tmp_path / "t.csv", [("x", "caf\u00e9"), ("z", "tea")])
    other = csv_of(tmp_path / "v.csv", [("x", "cafe\u0301"), ("z", "tea")])
    with pytest.raises(
        UserError, match=r"\(line 2\) is not among .* another Unicode form \(NFC, NFD\)"
    ):
        read(train, validation_file=(other,))


def test_rows_of_equal_texts_stay_on_one_side_unless_a_run_has_the_older_rule(tmp_path):
    rows = [(f"text {n % 20}", "ab"[n % 2]) for n in range(40)]
    path = csv_of(tmp_path / "d.csv", rows)
    own = read(path, validation_fraction=0.3)
    sides = [{row["text"] for row in own.raw[part]} for part in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 6
    by_rows = read(path, validation_fraction=0.3, group_duplicates=False)
    assert by_rows.raw["validation"]["idx"][:] != own.raw["validation"]["idx"][:]
    assert by_rows.raw.num_rows == {"train": 28, "validation": 12}
