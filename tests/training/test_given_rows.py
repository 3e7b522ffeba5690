"""fine_tune() with rows that are given in Python."""

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from plainloop import load_run
from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.predict.evaluate_run import evaluate_run
from plainloop.training.fine_tune import fine_tune
from plainloop.training.prepare import load_inputs

SUBJECTS, OBJECTS = ("cat", "dog", "girl", "boy"), ("car", "tree", "house", "river", "song")


@pytest.fixture
def frame():
    texts = [f"the {subject} sees a {thing}" for subject in SUBJECTS for thing in OBJECTS]
    labels = pd.Categorical(["yes", "no"] * (len(texts) // 2))
    # An index of its own, as after a filter, is no column.
    return pd.DataFrame({"text": texts, "label": labels}, index=range(7, 7 + len(texts)))


@pytest.fixture
def dataset(frame):
    rows = Dataset.from_pandas(frame.assign(label=frame.label.astype(str)), preserve_index=False)
    return rows.class_encode_column("label")


@pytest.fixture
def settings(tiny_model, tmp_path):
    return {"model": tiny_model, "output_dir": tmp_path / "run", "max_steps": 1}


def read(settings, *rows):
    return load_inputs(TrainConfig(**settings), *rows)


def test_a_frame_a_dataset_and_a_file_are_the_same_rows(settings, frame, dataset, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)
    of_file = load_inputs(TrainConfig(**settings, train_file=tmp_path / "rows.csv"))
    for rows in (frame, dataset, DatasetDict(train=dataset)):
        given = read(settings, rows)
        assert given.task.label_names == of_file.task.label_names == ("no", "yes")
        for split in ("train", "validation"):
            assert given.raw[split].to_dict() == of_file.raw[split].to_dict()


def test_splits_are_taken_by_their_names_and_eval_dataset_beats_them(settings, frame, dataset):
    splits = DatasetDict(train=dataset, validation=dataset.select(range(6)), more=dataset)
    assert read(settings, splits).raw.num_rows == {"train": 20, "validation": 6}
    assert read(settings, splits, frame[:4]).raw.num_rows == {"train": 20, "validation": 4}
    assert read(settings, dataset, frame[:4]).raw["validation"]["text"][:] == list(frame.text[:4])


def test_an_unlabelled_test_split_is_left_out_with_a_line(settings, dataset):
    unlabelled = dataset.select(range(3)).map(lambda _: {"label": -1})
    inputs = read(settings, DatasetDict(train=dataset, test=unlabelled))
    assert list(inputs.raw) == ["train", "validation"]
    assert "test: left out, since no row has a label" in inputs.found
    labelled = read(settings, DatasetDict(train=dataset, test=dataset.select(range(3))))
    assert labelled.raw.num_rows["test"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [1, 2], "train_dataset: a list has no table"),
        (lambda rows: rows.to_iterable_dataset(), "train_dataset: a IterableDataset has no table"),
        (lambda rows: {"dev": rows}, "train_dataset: no split 'train'; found: dev"),
        (lambda rows: rows.remove_columns("label"), "train_dataset: no column"),
        (
            lambda rows: rows.to_pandas().assign(label=["a", 1] * 10),
            "train_dataset: .*Conversion failed for column label",
        ),
    ],
)
def test_what_is_no_table_of_texts_and_labels_is_refused(settings, dataset, change, said):
    with pytest.raises(UserError, match=said):
        read(settings, change(dataset))


def test_rows_are_given_once(settings, frame, dataset):
    with pytest.raises(UserError, match="--train-file and train_dataset name different rows"):
        read({**settings, "train_file": "a.csv"}, frame)
    with pytest.raises(UserError, match="--validation-file: has no effect with train_dataset"):
        read({**settings, "validation_file": "a.csv"}, frame)
    with pytest.raises(UserError, match="eval_dataset: needs train_dataset"):
        read(settings, None, frame)
    with pytest.raises(UserError, match="eval_dataset: a DatasetDict has no table"):
        read(settings, frame, DatasetDict(train=dataset))


def test_a_run_of_given_rows_predicts_and_resumes_with_them(settings, frame):
    config = TrainConfig(**{**settings, "max_steps": 3}, save_strategy="steps", save_steps=1)
    metrics = fine_tune(config, train_dataset=frame)
    (settings["output_dir"] / "metrics.json").unlink()
    resumed = TrainConfig(
        **{**settings, "max_steps": 3}, save_strategy="steps", save_steps=1, resume=True
    )
    assert fine_tune(resumed, train_dataset=frame)["saved"] == metrics["saved"]
    run = load_run(settings["output_dir"])
    assert run.predict("the cat sees a car") == run.predict(["the cat sees a car"])
    with pytest.raises(UserError, match=r"its rows were given in Python.*--file"):
        evaluate_run(run)
