"""Label errors among the training rows, by models that have not seen them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from plainloop.cli.app import train
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.errors import UserError
from plainloop.experiments.cross_validation import split_folds
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.training import fine_tune as fine_tuning

WRONG = {4, 17, 38}
NUM_ROWS = 60


def task_of(problem_type, num_labels=2):
    names = tuple(f"label {number}" for number in range(num_labels))
    return Task("own", ("text",), names, ("accuracy",), problem_type)


@pytest.fixture
def config(tiny_model, tmp_path):
    """Rows whose first word says the label, but for three."""
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in range(NUM_ROWS):
            text = f"the {['cat', 'baker'][row % 2]} sees the {['car', 'tree', 'song'][row % 3]}"
            label = row % 2 if row not in WRONG else 1 - row % 2
            file.write(json.dumps({"text": text, "label": ["no", "yes"][label]}) + "\n")
    return TrainConfig(
        train_file=(str(path),),
        validation_file=(str(path),),
        model=str(tiny_model),
        num_train_epochs=4,
        learning_rate=2e-3,
        group_duplicates=False,  # there are six different texts
        output_dir=tmp_path / "run",
    )


@pytest.mark.slow
def test_wrong_labels_are_found_by_models_that_have_not_seen_them(config, capsys):
    train(config, cv=3)
    folder = config.output_dir
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["cv"]
    assert (found["folds"], found["rows"]) == (3, NUM_ROWS)
    assert {each["row"] for each in found["suspected"]} >= WRONG
    assert found["num_suspected"] < 2 * len(WRONG)
    assert {each["row"] for each in found["suspected"][: len(WRONG)]} == WRONG
    rows = RowPredictions.load(folder / "cv", "train")
    assert rows.idx.tolist() == list(range(NUM_ROWS)), "each row once, in the order of the file"
    assert [path.name for path in (folder / "cv").iterdir()] == ["predictions"], "no model is left"
    assert f"Suspected      {found['num_suspected']} labels of 60 training rows" in (
        capsys.readouterr().out
    )
    page = (folder / "report.html").read_text(encoding="utf-8")
    listed = page.partition('<section id="cv-suspected">')[2].partition("</section>")[0]
    assert listed.count("<tr>") == 1 + len(found["suspected"])
    first = found["suspected"][0]
    assert f"<bdi>line {first['row'] + 1}</bdi>" in listed


@pytest.mark.slow
def test_a_fold_that_is_finished_is_not_trained_again(config, monkeypatch, capsys):
    trained, fine_tune = [], fine_tuning.fine_tune

    def stops_at_the_second_fold(config, inputs, stop):
        trained.append(config.run_path.name)
        if trained[-1] != "run":
            seen, held_out = (set(inputs.raw[split]["idx"]) for split in ("train", "validation"))
            assert len(held_out) == 20
            assert sorted([*seen, *held_out]) == list(range(NUM_ROWS)), "no row in both"
        if trained.count("fold-2") == 1 and trained[-1] == "fold-2":
            raise KeyboardInterrupt
        return fine_tune(config, inputs, stop)

    monkeypatch.setattr(fine_tuning, "fine_tune", stops_at_the_second_fold)
    with pytest.raises(KeyboardInterrupt):
        train(config, cv=3)
    train(replace(config, resume=True), cv=3)
    assert trained == ["run", "fold-1", "fold-2", "run", "fold-2", "fold-3"]
    assert "1 of 3, 20 rows held out: finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    "problem_type", ["single_label_classification", "multi_label_classification"]
)
def test_each_row_is_held_out_once_and_labels_are_spread(problem_type):
    single = problem_type == "single_label_classification"
    labels = np.array([0] * 20 + [1] * 10)
    given = labels if single else np.eye(2, dtype=int)[labels]
    held_out = []
    for rest, fold in split_folds(given, task_of(problem_type), 5, np.arange(30)):
        assert sorted([*rest, *fold]) == list(range(30))
        if single:
            assert labels[fold].sum() == 2
        held_out.extend(fold.tolist())
    assert sorted(held_out) == list(range(30))


def test_a_label_with_fewer_rows_than_folds_is_no_obstacle():
    labels = np.array([0] * 9 + [1])
    task = task_of("single_label_classification")
    assert len([*split_folds(labels, task, 5, np.arange(10))]) == 5


def test_rows_of_equal_texts_are_in_one_fold():
    labels, copies = np.arange(40) % 2, np.arange(40) % 20
    task = task_of("single_label_classification")
    for rest, fold in split_folds(labels, task, 5, copies):
        assert sorted([*rest, *fold]) == list(range(40))
        assert not set(copies[rest]) & set(copies[fold])
        assert len(fold) == 8


@pytest.mark.parametrize("num_folds", [1, 0, -2, NUM_ROWS + 1])
def test_other_numbers_of_folds_are_refused_before_anything_is_written(config, num_folds):
    with pytest.raises(UserError, match="--cv"):
        train(config, cv=num_folds)
    assert not config.output_dir.exists()


def test_numbers_and_seeds_are_refused(config):
    with pytest.raises(UserError, match=r"--cv: .*leave out --seeds"):
        train(config, cv=3, seeds=(2,))
    numbers = config.output_dir.parent / "numbers.csv"
    numbers.write_text("text,label\n" + "a,0.5\nb,1.5\n" * 20, encoding="utf-8")
    files = (str(numbers),)
    config = replace(config, problem_type="regression")
    with pytest.raises(UserError, match="--cv: suspects labels"):
        train(replace(config, train_file=files, validation_file=files), cv=3)
