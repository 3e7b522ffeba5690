"""Columns of 0 and 1, one for each label."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from plainloop.config.settings import TrainConfig
from plainloop.data.custom.dataset import read_custom_dataset
from plainloop.data.custom.one_hot import find_one_hot, join_one_hot
from plainloop.data.files.tables import read_files
from plainloop.errors import UserError

WORDS = ["nice", "room", "late", "staff", "price", "clean"]
HOT = {"anger": "0101", "fear": "1100", "joy": "0011"}
FRAME = pd.DataFrame(
    {
        "id": range(20),
        "comment": [f"the {WORDS[n % 6]} was not so {WORDS[n % 5]} {n}" for n in range(20)],
        **{name: [int(bit) for bit in bits * 5] for name, bits in HOT.items()},
    }
)
LABELS = [["fear"], ["anger", "fear"], ["joy"], ["anger", "joy"]] * 5


def write(tmp_path, frame, name="a.csv", **settings):
    path = tmp_path / name
    if name.endswith(".csv"):
        frame.to_csv(path, index=False, **settings)
    else:
        frame.to_parquet(path)
    return path


def found(path, **settings):
    return find_one_hot(read_files([path]), TrainConfig(train_file=(str(path),), **settings))


def labels_of(path):
    source, name = join_one_hot(read_files([path]), tuple(HOT))
    return source.table[name].to_pylist()


def as_words(frame, yes, no):
    return frame.assign(**{name: frame[name].map({1: yes, 0: no}) for name in HOT})


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("WAHR", "FALSCH"), ("1", ""), ("true", "")],
)
def test_columns_of_zeros_and_ones_are_found_and_read(tmp_path, yes, no):
    path = write(tmp_path, as_words(FRAME, yes, no), sep=";")
    assert found(path) == tuple(HOT)
    assert labels_of(path) == LABELS


@pytest.mark.parametrize("kind", ["int8", "float32", "bool"])
def test_typed_columns_are_read(tmp_path, kind):
    path = write(tmp_path, FRAME.astype(dict.fromkeys(HOT, kind)), "a.parquet")
    assert pq.read_schema(path).field("joy").type == {"bool": "bool", "float32": "float"}.get(
        kind, kind
    )
    assert found(path) == tuple(HOT)
    assert labels_of(path) == LABELS


@pytest.mark.parametrize(
    "frame",
    [
        FRAME.drop(columns="joy"),
        FRAME.assign(joy=1),
        FRAME.assign(joy=[0, 1, 2, 3] * 5),
        FRAME.assign(source=["web", "app"] * 10),
        FRAME.assign(label=["a", "b"] * 10),
        FRAME.assign(country="de"),
        FRAME.assign(parts=[["a"], ["b"]] * 10),
    ],
    ids=["two", "one value", "numbers", "another property", "a label", "a constant", "lists"],
)
def test_other_columns_are_not_taken_for_labels(tmp_path, frame):
    assert found(write(tmp_path, frame)) == ()
    assert found(write(tmp_path, frame, "a.parquet")) == ()


def test_two_columns_are_a_question_that_names_both_answers(tmp_path):
    path = write(tmp_path, FRAME.drop(columns="joy"))
    with pytest.raises(UserError) as caught:
        read_custom_dataset(TrainConfig(train_file=(str(path),)))
    assert str(caught.value) == (
        f"{path}: the label may be 'anger' or 'fear'; --label-column 'anger' takes one, "
        "--label-column 'anger' 'fear' several in a row"
    )
    for label, problem_type in (
        ("anger", "single_label_classification"),
        (("anger", "fear"), "multi_label_classification"),
    ):
        taken = read_custom_dataset(TrainConfig(train_file=(str(path),), label_column=label))
        assert taken.task.problem_type == problem_type
        assert taken.config.label_column == label


def test_the_data_set_has_a_number_for_each_column_and_each_row(tmp_path):
    path = write(tmp_path, FRAME)
    read = read_custom_dataset(TrainConfig(train_file=(str(path),), validation_file=(str(path),)))
    assert read.task.label_names == ("anger", "fear", "joy")
    for split in ("train", "validation"):
        assert read.raw[split]["label"][:] == FRAME[list(HOT)].to_numpy().tolist()
        assert read.raw[split]["text"][:] == FRAME["comment"].tolist()
    assert read.config.label_column == tuple(HOT)
    assert (
        read.found[1] == "label: 3 columns of 0 and 1, one for each label (the only other columns)"
    )
    again = read_custom_dataset(read.config)
    assert again.raw["train"].to_dict() == read.raw["train"].to_dict()
    assert again.found[1].endswith("(--label-column)")


def test_rows_that_are_neither_are_named(tmp_path):
    frame = FRAME.astype(dict.fromkeys(HOT, str))
    frame.loc[3, "anger"], frame.loc[[1, 7], "fear"] = "2", ""
    path = write(tmp_path, frame)
    with pytest.raises(UserError) as caught:
        read_custom_dataset(TrainConfig(train_file=(str(path),), label_column=tuple(HOT)))
    anger, fear = str(caught.value).splitlines()
    assert anger.startswith(f"{path}, column 'anger': neither 0 nor 1 in line 5;")
    assert fear.startswith(f"{path}, column 'fear': neither 0 nor 1 in lines 3, 9;")
    with pytest.raises(UserError, match="column 'love': no such column"):
        read_custom_dataset(TrainConfig(train_file=(str(path),), label_column=("joy", "love")))
