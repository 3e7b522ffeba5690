"""Labels: their kind, their names, their numbers, and each way in which they can be wrong."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from plainloop.data.custom.labels import encode_labels, infer_labels
from plainloop.data.files.tables import Source
from plainloop.errors import UserError


def source(labels, kind=None):
    return Source(pa.table({"y": pa.array(labels, kind)}), "train.csv")


def inferred(labels, **settings):
    return infer_labels(source(labels), "y", **settings)


def refusal(labels, **settings):
    with pytest.raises(UserError) as caught:
        inferred(labels, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b", "a"], ("a", "b")),
        (["10", "9", "10", "9"], ("9", "10")),
        ([10, 9, 10], ("9", "10")),
        ([True, False, True], ("false", "true")),
        (["1.0", "0", "1.0", "0"], ("0", "1")),
        (["NA", "null", "NA"], ("NA", "null")),
        ([-1, 1, -1], ("-1", "1")),
    ],
    ids=["text", "digits", "integers", "booleans", "integers written as floats", "NA", "minus 1"],
)
def test_single_labels_are_sorted_numbers_by_their_value(labels, names):
    found = inferred(labels)
    assert found.problem_type == "single_label_classification"
    assert found.label_names == names
    numbers = encode_labels(source(labels), "y", found).to_pylist()
    assert [found.label_names[number] for number in numbers] == [
        {"True": "true", "False": "false", "1.0": "1"}.get(str(label), str(label))
        for label in labels
    ]


def test_a_list_column_and_a_separated_text_are_several_labels():
    for labels, separator in (
        ([["a", "c"], [], ["b"]], None),
        (["a; c", "", "b;"], ";"),
    ):
        found = inferred(labels, label_separator=separator)
        assert found.problem_type == "multi_label_classification"
        assert found.label_names == ("a", "b", "c")
        hot = encode_labels(source(labels), "y", found)
        assert hot.to_pylist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
        assert hot.type == pa.list_(pa.float32(), 3)


def test_targets_are_float32():
    found = inferred(["1", "2.5", " -3e2"], problem_type="regression")
    assert found.label_names == ()
    targets = encode_labels(source(["1", "2.5", " -3e2"]), "y", found)
    assert targets.to_pylist() == [1.0, 2.5, -300.0]
    assert targets.type == pa.float32()


@pytest.mark.parametrize(
    ("labels", "settings", "fragments"),
    [
        (["a", None, "b", ""], {}, ["no label in rows 2, 4", "test split?"]),
        (["-1", "-1"], {}, ["every label is -1", "unlabelled"]),
        ([None, None], {}, ["no row has a label", "unlabelled"]),
        (["a", "a"], {}, ["need at least 2 classes, found only 'a'"]),
        (["pos ", "pos", "x"], {}, ["'pos ' (row 1)", "'pos' (row 2)", "space, case or Unicode"]),
        (["Pos", "pos", "x"], {}, ["'Pos' (row 1)", "'pos' (row 2)", "write them in the same way"]),
        (["0.5", "1", "2"], {}, ["fractions, as 0.5 (row 1)", "--problem-type regression"]),
        ([0.5, 1.5, 2.0], {}, ["fractions, as 0.5 (row 1)", "--problem-type regression"]),
        ([str(n) for n in range(301)], {}, ["301 different numbers", "--problem-type"]),
        ([f"text {n}" for n in range(30)], {}, ["30 different labels in 30 rows", "like a text"]),
        (
            ["1", "good", "2", "bad"],
            {"problem_type": "regression"},
            ["rows 2, 4", "'good' is not a number"],
        ),
        (["1", "nan", "inf"], {"problem_type": "regression"}, ["rows 2, 3", "not finite"]),
        ([1.0, float("nan")], {"problem_type": "regression"}, ["row 2", "not finite"]),
        (["1e99", "2"], {"problem_type": "regression"}, ["row 1", "not finite"]),
        (["1", ""], {"problem_type": "regression"}, ["row 2", "no target"]),
        ([["a"], None], {}, ["no label in row 2"]),
        ([["a"], ["b"]], {"label_separator": ";"}, ["no effect: column 'y' holds lists"]),
        (
            ["a", "b"],
            {"label_separator": ";", "problem_type": "single_label_classification"},
            ["--label-separator: has no effect with --problem-type single_label"],
        ),
        (["a,b", "a"], {"label_separator": ";"}, ["';' is in no row of column 'y'"]),
        (["a", "b"], {"label_separator": ""}, ["--label-separator: is empty"]),
        (["a", "a, b", "b"], {}, ["'a, b' (row 2) is several labels", "--label-separator ','"]),
        (["['a']", "['b']"], {}, ["(row 1) is a list written as text", "jsonl"]),
        ([[0, 1, 0], [1, 1, 0]], {}, ["lists of 3 zeros and ones", "names"]),
        ([[{"a": 1}], [{"a": 2}]], {}, ["holds lists of objects"]),
        ([[["a"]], [["b"]]], {}, ["holds lists of lists"]),
        ([1.0, float("nan"), 0.0], {}, ["no label in row 2"]),
        (["1", "nan", "0"], {}, ["'nan' (row 2) is not a number"]),
        ([str(n) for n in range(30)], {}, ["30 different numbers", "--problem-type"]),
        ([["a"], ["b"]], {"problem_type": "regression"}, ["holds lists", "--label-column"]),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, list) else None,
)
def test_what_is_wrong_is_named_with_its_rows(labels, settings, fragments):
    said = refusal(labels, **settings)
    assert said.startswith("train.csv")
    assert [part for part in fragments if part not in said] == []


def test_a_label_that_training_lacks_is_named_with_its_row():
    found = inferred(["a", "b", "a"])
    with pytest.raises(UserError, match=r"label 'c' \(rows 2, 3\) is not among the labels of"):
        encode_labels(source(["a", "c", "c"]), "y", found)


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["neg", "pos"], ("pos", "neg"), [1, 0]),
        ([0, 1, 1], ("pos", "neg"), [0, 1, 1]),
        (["a", "b"], ("a", "b"), [0, 1]),
    ],
    ids=["its order", "its numbers", "other labels are sorted"],
)
def test_the_checkpoints_own_labels_keep_their_order(labels, names, numbers):
    checkpoint = ("pos", "neg")
    found = inferred(labels, checkpoint_labels=checkpoint)
    assert found.label_names == names
    assert encode_labels(source(labels), "y", found).to_pylist() == numbers


@given(
    labels=st.lists(
        st.text(st.characters(codec="utf-8", categories=["L"]), min_size=1, max_size=3),
        min_size=2,
        max_size=40,
    )
)
def test_every_label_is_read_back_from_its_number(labels):
    alike = {label.casefold() for label in labels}
    try:
        found = infer_labels(source(labels), "y", problem_type="single_label_classification")
    except UserError:
        # Refused are labels that differ by case only, and a single one.
        assert (
            len(set(labels)) == 1
            or len(alike) < len(set(labels))
            or not all(map(str.isascii, labels))
        )
        return
    numbers = encode_labels(source(labels), "y", found).to_pylist()
    assert [found.label_names[number] for number in numbers] == labels
    assert list(found.label_names) == sorted(set(labels))
    assert np.asarray(numbers).dtype == np.int64


def test_a_checkpoints_numbers_are_all_there_or_none_is_meant():
    stars = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    for labels in (["0", "1"], ["1", "2", "3", "4"]):
        found = inferred(labels, checkpoint_labels=stars)
        assert found.label_names == tuple(labels)
        assert not found.numbered


def test_a_list_column_fits_a_run_with_a_separator():
    found = inferred(["a;b", "b"], label_separator=";")
    hot = encode_labels(source([["b"], ["a", "b"]]), "y", found)
    assert hot.to_pylist() == [[0, 1], [1, 1]]


def test_control_characters_of_a_label_are_not_printed():
    found = inferred(["a", "b\x1b[31mX"])
    with pytest.raises(UserError) as caught:
        encode_labels(source(["b\x1b[31mY"]), "y", found)
    assert str(caught.value).isprintable()


def test_numbers_stand_for_names_only_if_no_name_is_a_number():
    stars = ("1", "2", "3")
    found = inferred(["0", "1", "2"], checkpoint_labels=stars)
    assert found.label_names == ("0", "1", "2")
    assert not found.numbered
    assert inferred(["1", "2", "3"], checkpoint_labels=stars).label_names == stars


@pytest.mark.parametrize(
    ("labels", "fragments"),
    [
        (["x, y", "y, z", "z, x"], ["'x, y' (row 1)", "--label-separator ','"]),
        (["x|y", "y|z", "z|x"], ["--label-separator '|'"]),
        (["x/y", "y/z", "x/z"], ["--label-separator '/'"]),
        (["3 10", "3", "10"], ["'3 10' (row 1)", "--label-separator ' '"]),
        (["1,5", "2,5", "1"], ["'1,5' (row 1) has a decimal comma", "--problem-type regression"]),
        ([str(n) for n in range(5, 95, 3)] * 3, ["30 different numbers", "regression"]),
    ],
)
def test_several_labels_decimal_commas_and_scores_are_asked(labels, fragments):
    said = refusal(labels)
    assert [part for part in fragments if part not in said] == []


@pytest.mark.parametrize(
    "labels",
    [
        ["Sci/Tech", "World", "Sports"],
        ["Payday loan, title loan", "Card, prepaid", "Mortgage"],
        ["card arrival", "card lost", "card", "lost"],
        [str(n) for n in range(77)],
        [str(n) for n in range(1, 31)],
    ],
)
def test_names_that_hold_separators_and_ids_that_count_up_are_classes(labels):
    assert set(inferred(labels * 3).label_names) == set(labels)


def test_decimal_commas_are_read_where_a_flag_says_regression():
    targets = encode_labels(
        source(["3,5", "-4,25", "2"]), "y", inferred(["3,5", "2"], problem_type="regression")
    )
    assert targets.to_pylist() == [3.5, -4.25, 2.0]
    for labels in (["1,234", "5,678"], ["1,5", "2.5"], ["1,5", "1,234,5"]):
        assert "is not a number" in refusal(labels, problem_type="regression")


def test_all_labels_that_training_lacks_are_counted():
    found = inferred(["a", "b", "a"])
    with pytest.raises(UserError, match="2 more labels are not among those of the training data"):
        encode_labels(source(["c", "d", "e", "f", "g"]), "y", found)
