"""Labels as plain values: class names, lists in a text, and what is no label."""

import json

import pyarrow as pa
import pytest

from plainloop.data.custom.label_column import class_label_names, plain_labels
from plainloop.data.files.tables import Part, Source
from plainloop.errors import UserError


def source(labels, texts=None, kind=None, names=("text", "y")):
    columns = [texts or [f"text {n}" for n in range(len(labels))], pa.array(labels, kind)]
    table = pa.table(dict(zip(names, columns, strict=True)))
    return Source(table, "t.csv", (Part("t.csv", len(labels), "line", 2, ","),))


def plain(labels, texts=None, **settings):
    return plain_labels(source(labels, texts), "y", **settings).table["y"].to_pylist()


def question(labels, texts=None, names=("text", "y"), **settings):
    with pytest.raises(UserError) as caught:
        plain_labels(source(labels, texts, names=names), names[1], **settings)
    return str(caught.value)


def with_class_names(labels, names, kind="ClassLabel"):
    feature = {"names": names, "_type": "ClassLabel"}
    if kind == "List":
        feature = {"feature": feature, "_type": "List"}
    if kind == "old list":
        feature = [feature]
    table = pa.table({"text": ["x"] * len(labels), "y": labels})
    metadata = {"huggingface": json.dumps({"info": {"features": {"y": feature}}})}
    return Source(table.replace_schema_metadata(metadata), "t.parquet")


@pytest.mark.parametrize(
    ("labels", "kind", "expected"),
    [
        ([1, 0, -1, None], "ClassLabel", ["no", "yes", None, None]),
        ([[1, 0], [], [0]], "List", [["no", "yes"], [], ["yes"]]),
        ([[1, 0], [1], [0]], "old list", [["no", "yes"], ["no"], ["yes"]]),
        ([[1], [0], [1]], "List", ["no", "yes", "no"]),
    ],
)
def test_the_names_of_a_class_label_are_kept(labels, kind, expected):
    found = with_class_names(labels, ["yes", "no"], kind)
    assert plain_labels(found, "y").table["y"].to_pylist() == expected


def test_a_run_that_was_trained_on_the_numbers_keeps_them():
    found = with_class_names([1, 0, 1], ["yes", "no"])
    assert plain_labels(found, "y", known=("0", "1")).table["y"].to_pylist() == [1, 0, 1]


@pytest.mark.parametrize(
    "metadata", [None, {b"huggingface": b"{"}, {b"huggingface": b'{"info": 3}'}]
)
def test_other_metadata_is_no_class_label(metadata):
    schema = pa.schema([("y", pa.int64())], metadata)
    assert class_label_names(schema, "y") is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["['a', 'b']", "[]", "['c']", ""], [["a", "b"], [], ["c"], None]),
        (['["a", "b"]', "[1, 2.5]"], [["a", "b"], ["1", "2.5"]]),
        (["{'b', 'a'}", "{'c'}"], [["a", "b"], ["c"]]),
        (["('a', 'b')", "('c',)"], [["a", "b"], ["c"]]),
        (['{"choices": ["a", "b"]}', "c"], [["a", "b"], ["c"]]),
    ],
    ids=["Python", "JSON", "sets", "tuples", "Label Studio"],
)
def test_lists_written_as_text_are_asked_and_read_with_the_flag(labels, expected):
    message = question(labels)
    assert message.startswith("t.csv: column 'y' holds lists written as text, as ")
    assert "(line 2" in message or "(lines 2, 3)" in message
    assert message.endswith(
        "set --problem-type multi_label_classification for several labels in a row"
    )
    assert plain(labels, problem_type="multi_label_classification") == expected
    assert plain(labels, problem_type="single_label_classification") == labels


def test_lists_of_exactly_one_label_are_classes():
    assert plain(["['a']", "['b']", "['a']"]) == ["a", "b", "a"]
    assert plain([["a"], ["b"], None]) == ["a", "b", None]
    assert plain([["a"], []]) == [["a"], []]
    several = {"problem_type": "multi_label_classification"}
    assert plain([["a"], ["b"]], **several) == [["a"], ["b"]]
    assert plain(["['a']", "['b']"], **several) == [["a"], ["b"]]
    assert plain(["['a']", "['b']"], known=("['a']", "['b']")) == ["['a']", "['b']"]


@pytest.mark.parametrize(
    "text", ["['a' 'b']", "[0 1]", "[deleted]", "(other)", "{a, b}", "[", "[" * 9999]
)
def test_what_cannot_be_read_as_a_list_stays_a_text(text):
    assert plain([text, "x", text, "x"]) == [text, "x", text, "x"]


@pytest.mark.parametrize(
    "mark", ["nan", "NaN", "NULL", "NA", "N/A", "<NA>", "#N/A", "\\N", "-", "?", "None"]
)
def test_a_mark_of_a_missing_label_is_asked_and_left_out_with_the_flag(mark):
    labels = ["a", mark, "b", mark]
    assert question(labels) == (
        f"t.csv, column 'y': lines 3, 5: label {mark!r} looks like a missing one; --on-null drop leaves "
        "these rows out, --problem-type single_label_classification keeps them"
    )
    assert plain(labels, drop=True) == ["a", None, "b", None]
    assert plain(labels, problem_type="single_label_classification") == labels
    assert plain(labels, known=("a", "b", mark), drop=True) == labels


@pytest.mark.parametrize(
    "labels", [["none", "low"], ["+", "-"], ["Nan Goldin", "b"], ["-1", "1"], [-1, 1]]
)
def test_a_label_that_only_resembles_a_mark_is_taken(labels):
    assert plain(labels) == labels


@pytest.mark.parametrize("labels", [["0", "1", "-1"], [0, 1, -1], ["0.0", "1.0", "-1.0"]])
def test_minus_one_beside_zero_and_one_is_asked(labels):
    assert f": label {str(labels[2])!r} looks like a missing one" in question(labels)
    assert plain(labels, drop=True) == [*labels[:2], None]
    assert plain(labels, known=("-1", "0", "1"), drop=True) == labels
    assert plain(labels, problem_type="regression", drop=True) == labels


def test_a_repeated_header_is_asked_and_left_out_with_the_flag():
    labels, texts = ["a", "y", "b", "y"], ["x", "text", "z", "w"]
    message = "t.csv, column 'y': line 3: repeats the header; --on-null drop leaves these rows out"
    assert question(labels, texts) == message
    assert question(labels, texts, problem_type="single_label_classification") == message
    assert plain(labels, texts, drop=True) == ["a", None, "b", "y"]


@pytest.mark.parametrize("word", ["Total", "total", "TOTAL:", "Summe", "합계"])
def test_a_row_of_totals_is_asked_and_left_out_with_the_flag(word):
    labels, texts = ["1", "0", "1", "3"], ["x", "z", "w", word]
    assert question(labels, texts).startswith(
        "t.csv, column 'y': line 5: looks like a row of totals; "
    )
    assert plain(labels, texts, drop=True) == ["1", "0", "1", None]
    assert plain(["1", "0", "1", "0"], texts) == ["1", "0", "1", "0"]  # a label that others have
    assert plain(labels, [word, "z", "w", "x"]) == labels  # not at the end


def test_everything_that_is_no_label_is_named_together():
    message = question(["a", "nan", "-", "y"], ["x", "z", "w", "text"])
    assert [line.split(": ")[1] for line in message.splitlines()] == ["line 5", "line 3", "line 4"]
