"""All that a person can get wrong is looked at together, before anything is written."""

import pytest

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task
from plainloop.errors import UserError
from plainloop.training.prepare import check_fits_task, load_inputs


@pytest.fixture
def settings(tiny_model, tiny_data, tmp_path):
    """Settings that can be used."""
    return {
        "task": "demo",
        "model": str(tiny_model),
        "data_dir": tiny_data,
        "output_dir": tmp_path / "run",
    }


def test_inputs_are_the_task_the_model_and_the_rows(settings, tiny_data, tmp_path):
    inputs = load_inputs(
        TrainConfig(**settings, max_train_samples=5, test_file=(str(tiny_data / "test.tsv"),))
    )
    assert inputs.task is get_task("demo")
    assert inputs.pretrained == settings["model"]
    assert inputs.raw.num_rows == {"train": 5, "validation": 21, "test": 13}
    assert list(tmp_path.iterdir()) == []


def test_every_independent_problem_has_its_line(settings, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    wrong = {
        "seed": -1,
        "dropout": 1.0,
        "model": "./nowhere",
        "output_dir": tmp_path / "full",
        "metric_for_best_model": "acuracy",
        "data_dir": tmp_path / "no-data",
    }
    with pytest.raises(UserError) as caught:
        load_inputs(TrainConfig(**settings | wrong))
    where = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert where == {
        "--seed",
        "--dropout",
        "--model",
        f"--output-dir {tmp_path / 'full'}",
        "--metric-for-best-model",
        str(tmp_path / "no-data"),
    }


def test_a_single_problem_is_reported_as_it_is(settings):
    with pytest.raises(UserError, match=r"^--task: unknown task 'dem'; did you mean demo\?$"):
        load_inputs(TrainConfig(**settings | {"task": "dem"}))


def test_a_dry_run_may_name_a_folder_in_use(settings):
    folder = settings["output_dir"]
    folder.mkdir()
    (folder / "run.yaml").write_text("task: demo\nnum_train_epochs: 3\n")
    assert load_inputs(TrainConfig(**settings, dry_run=True)).raw.num_rows["train"] == 43
    with pytest.raises(UserError, match="the folder holds a run already"):
        load_inputs(TrainConfig(**settings))


WEIGHTS = "weights for 2 labels; give one for each of not_equivalent, equivalent, in this order"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"metric_for_best_model": "acuracy"},
            "--metric-for-best-model: task mrpc has no metric 'acuracy'; did you mean accuracy?",
        ),
        (
            {"class_weights": (1.0,)},
            f"--class-weights: 1 {WEIGHTS}",
        ),
        (
            {"class_weights": ()},
            f"--class-weights: 0 {WEIGHTS}",
        ),
    ],
)
def test_what_the_task_does_not_have_is_refused(wanted, message):
    with pytest.raises(UserError) as caught:
        check_fits_task(TrainConfig(**wanted), get_task("mrpc"))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"metric_for_best_model": "loss"},
        {"metric_for_best_model": "f1"},
        {"class_weights": "balanced"},
        {"class_weights": (1.0, 2.0)},
    ],
)
def test_what_the_task_has_is_accepted(wanted):
    assert check_fits_task(TrainConfig(**wanted), get_task("mrpc")) is None


def test_every_file_that_is_missing_has_its_line(settings, tmp_path):
    wrong = {"data_dir": tmp_path / "no-data", "test_file": ("no-test.tsv",)}
    with pytest.raises(UserError) as caught:
        load_inputs(TrainConfig(**settings | wrong))
    where = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert where == {str(tmp_path / "no-data"), "no-test.tsv"}
