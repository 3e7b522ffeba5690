"""The files that GLUE's server takes: their names, their rows, and how each task writes a label."""

import logging

import pytest

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import TASKS
from plainloop.data.glue import read_glue_tsv
from plainloop.errors import UserError
from plainloop.predict.loaded_run import Run, load_run
from plainloop.predict.submissions import write_submissions
from plainloop.training.fine_tune import fine_tune

TEXTS = ("The cat sees the car", 'a "quote', "NA", "the dog", "the pilot likes a boat")


def write_task(task, folder):
    """Five rows in each of a task's files, with the columns that are read alone."""
    layout = task.layout
    texts = [theirs for ours, theirs in layout.columns.items() if ours != "label"]
    names = task.label_names if layout.labels_are_names else range(task.num_labels)
    labels = [0.5, 1, 2, 3.5, 4] if task.problem_type == "regression" else [*names] * 5
    for file in (*layout.files.values(), *layout.test_files.values()):
        labelled = file in layout.files.values()
        header = [*texts, *([layout.columns["label"]] if labelled else [])]
        rows = [
            [*[text] * len(texts), *([str(label)] if labelled else [])]
            for text, label in zip(TEXTS, labels, strict=False)
        ]
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        lines = ["\t".join(row) + "\n" for row in [header, *rows]]
        (folder / file).write_text("".join(lines), encoding="utf-8")


def train(task, folder, tiny_model):
    config = TrainConfig(
        task=task.name,
        data_dir=folder,
        model=str(tiny_model),
        output_dir=folder / "run",
        max_steps=1,
        save_strategy="no",
        eval_strategy="no",
    )
    fine_tune(config)
    return load_run(folder / "run")


def read_submission(path):
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    assert header == "index\tprediction"
    numbers, predictions = zip(*(row.split("\t") for row in rows), strict=True)
    assert list(map(int, numbers)) == list(range(len(rows)))
    return list(predictions)


def test_mnli_has_two_files_of_names_and_predicts_ax(tiny_model, tmp_path, caplog):
    task = TASKS["mnli"]
    write_task(task, tmp_path)
    write_task(TASKS["ax"], tmp_path)
    run = train(task, tmp_path, tiny_model)
    with caplog.at_level(logging.WARNING):
        paths = write_submissions(run, tmp_path, tmp_path / "out")
    assert [path.name for path in paths] == ["MNLI-m.tsv", "MNLI-mm.tsv"]
    assert "5 rows, the official file has 9796: the server wants them all" in caplog.text
    [ax] = write_submissions(run, tmp_path, tmp_path / "out", task_name="ax")
    assert ax.name == "AX.tsv"
    wanted = [row["label"] for row in run.predict([(text, text) for text in TEXTS])]
    for path in (*paths, ax):
        assert read_submission(path) == wanted


def test_labels_are_numbers_where_the_files_have_numbers(tiny_model, tmp_path):
    task = TASKS["mrpc"]
    write_task(task, tmp_path)
    run = train(task, tmp_path, tiny_model)
    [path] = write_submissions(run, tmp_path, tmp_path)
    wanted = [row["label"] for row in run.predict([(text, text) for text in TEXTS])]
    assert path.name == "MRPC.tsv"
    assert [task.label_names[int(label)] for label in read_submission(path)] == wanted
    with pytest.raises(UserError, match="--task mnli: the run of mrpc has other labels"):
        write_submissions(run, tmp_path, tmp_path, task_name="mnli")
    with pytest.raises(UserError, match="demo has no unlabelled test files"):
        write_submissions(run, tmp_path, tmp_path, task_name="demo")


@pytest.mark.slow
def test_the_command_writes_them_and_says_where(tiny_model, tmp_path, run_command):
    task = TASKS["sst2"]
    write_task(task, tmp_path)
    run = train(task, tmp_path, tiny_model)
    words = ["predict", run.path, "--glue-submission", "out", "--data-dir", tmp_path]
    finished = run_command("-m", "plainloop", *words)
    assert finished.stdout.split() == ["Predicted", "out/SST-2.tsv"]
    wanted = [row["label"] for row in run.predict(TEXTS)]
    written = read_submission(tmp_path / "out" / "SST-2.tsv")
    assert [task.label_names[int(label)] for label in written] == wanted


def test_a_run_on_own_files_has_no_submission(tmp_path):
    run = Run(tmp_path, TrainConfig(train_file=("a.csv",)), TASKS["mrpc"])
    with pytest.raises(UserError, match="--task"):
        write_submissions(run, tmp_path, tmp_path)


def test_scores_have_three_decimals_and_stay_within_0_and_5(tiny_model, tmp_path):
    import torch

    task = TASKS["stsb"]
    write_task(task, tmp_path)
    run = train(task, tmp_path, tiny_model)
    for shift, wanted in ((0, None), (100, "5.000"), (-200, "0.000")):
        with torch.no_grad():
            run.classifier.model.classifier.bias += shift
        [path] = write_submissions(run, tmp_path, tmp_path)
        values = run.predict([(text, text) for text in TEXTS])
        clipped = [f"{min(max(row['label'], 0), 5):.3f}" for row in values]
        assert read_submission(path) == (clipped if wanted is None else [wanted] * 5)


def test_all_missing_files_are_named_before_any_is_written(tiny_model, tmp_path):
    task = TASKS["mnli"]
    write_task(task, tmp_path)
    run = train(task, tmp_path, tiny_model)
    for file in task.layout.test_files.values():
        (tmp_path / file).unlink()
    with pytest.raises(UserError, match=r"(?s)test_matched.*test_mismatched"):
        write_submissions(run, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb"])
def test_the_official_test_files_are_predicted_row_by_row(name, glue, tiny_model, tmp_path):
    task = TASKS[name]
    config = TrainConfig(
        task=name,
        data_dir=glue,
        model=str(tiny_model),
        output_dir=tmp_path / "run",
        max_steps=1,
        max_train_samples=64,
        save_strategy="no",
        eval_strategy="no",
    )
    fine_tune(config)
    [path] = write_submissions(load_run(tmp_path / "run"), glue, tmp_path)
    predictions = read_submission(path)
    [file] = task.layout.test_files.values()
    assert len(predictions) == read_glue_tsv(glue / file, task, labelled=False).num_rows
    assert len(predictions) == task.layout.num_rows["test"]
