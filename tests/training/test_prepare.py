"""All that a person can get wrong is looked at together, before anything is written."""

import pytest

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task
from plainloop.errors import UserError
from plainloop.training.prepare import check_fits_task, check_source, load_inputs


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


def csv_of(path, rows):
    lines = ["text,label", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def refusal(settings, path, rows, **more):
    given = {"model": settings["model"], "output_dir": settings["output_dir"], **more}
    with pytest.raises(UserError) as caught:
        load_inputs(TrainConfig(train_file=(csv_of(path, rows),), **given))
    assert not settings["output_dir"].exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        (
            [(f"text {n}", "a" if n < 15 else "b") for n in range(30)],
            {"max_train_samples": 8},
            "train: every row has the same label 'a': there is nothing to learn; give rows of other",
        ),
        (
            [("", "ab"[n % 2]) for n in range(30)],
            {"group_duplicates": False},
            "every text is empty",
        ),
        (
            [(f"text {n}", 3.5) for n in range(30)],
            {"problem_type": "regression"},
            "train: every row has the same label: there is nothing to learn",
        ),
        (
            [(f"text {n}", f"{n + 1}e20") for n in range(30)],
            {"problem_type": "regression"},
            "standardise them: mean, deviation = ",
        ),
    ],
    ids=["one label left", "empty texts", "constant target", "targets beyond float32"],
)
def test_what_check_calls_impossible_is_refused_before_training(
    settings, tmp_path, rows, more, said
):
    assert said in refusal(settings, tmp_path / "f.csv", rows, **more)
    given = {"train_file": (str(tmp_path / "f.csv"),), "model": settings["model"], **more}
    inputs = load_inputs(TrainConfig(**given), refuse=False)
    [error] = inputs.check.quick.errors
    assert said.partition("; ")[0] in str(error)


def test_a_metric_that_the_validation_labels_leave_undefined_is_refused(settings, tmp_path):
    rows = [(f"text {n}", "ab"[n % 2]) for n in range(30)]
    held_out = csv_of(tmp_path / "v.csv", [("text x", "a"), ("text z", "a")])
    more = {"validation_file": (held_out,), "metric_for_best_model": "roc_auc"}
    assert refusal(settings, tmp_path / "f.csv", rows, **more) == (
        "--metric-for-best-model: roc_auc is not defined for the labels of these validation rows: "
        "none or all have 'a', 'b'; choose another metric, or a --validation-file with and without "
        "each label"
    )
    for name in ("accuracy", "f1_macro", "loss", None):
        config = TrainConfig(
            train_file=(str(tmp_path / "f.csv"),),
            model=settings["model"],
            **more | {"metric_for_best_model": name},
        )
        assert load_inputs(config).raw.num_rows["validation"] == 2


def test_a_task_that_is_named_as_a_file_is_told_its_flag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="mrpc: no such file; --task mrpc"):
        check_source(TrainConfig(train_file=("mrpc",)))
    (tmp_path / "mrpc").mkdir()
    check_source(TrainConfig(train_file=("mrpc",)))
