"""examples/sweep.py: trials with a tiny model, a study that resumes, several processes, a killed one."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import optuna
import pytest
import sweep as example
import yaml
from conftest import ROOT
from optuna.trial import TrialState
from sweep import ReportingMetric, Search, compare_with_given, next_trial, open_study, sweep

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.metrics.task_metric import TaskMetric
from plainloop.run.folder import load_metrics
from plainloop.training.fine_tune import fine_tune


@pytest.fixture
def settings(tiny_model, tiny_data):
    return TrainConfig(task="demo", model=str(tiny_model), data_dir=tiny_data, max_steps=3)


@pytest.fixture
def flags(settings):
    rows = ["--task", "demo", "--data-dir", str(settings.data_dir)]
    return [*rows, "--model", settings.model, "--max-steps", "3"]


@pytest.fixture(autouse=True)
def quiet():
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


def states(study):
    return [trial.state for trial in study.get_trials()]


@pytest.mark.slow
def test_three_trials_and_then_two_more_of_the_same_study(settings, tmp_path):
    folder = tmp_path / "out" / "sweep"
    first = sweep(settings, 3, folder).get_trials()
    assert [trial.state for trial in first] == [TrialState.COMPLETE] * 3
    again = sweep(settings, 5, folder)
    assert again.get_trials()[:3] == first
    assert states(again) == [TrialState.COMPLETE] * 5
    assert len({trial.params["learning_rate"] for trial in again.trials}) == 5
    assert len(sweep(settings, 5, folder).trials) == 5
    with pytest.raises(UserError, match="its trials have another max_steps"):
        sweep(TrainConfig(**{**vars(settings), "max_steps": 4}), 6, folder)

    compared = compare_with_given(settings, again, folder)
    best = yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))
    assert best == settings.to_dict() | again.best_params
    assert compared.rows == 21, "the validation rows"
    for name, side in (("given", "first"), ("best", "second")):
        saved = load_metrics(folder / name)["saved"]["accuracy"]
        assert getattr(compared.scores["accuracy"], side) == saved
    before = (folder / "best" / "model.safetensors").stat().st_mtime_ns
    assert compare_with_given(settings, again, folder) == compared
    assert (folder / "best" / "model.safetensors").stat().st_mtime_ns == before
    better = optuna.create_study(direction="maximize")
    better.enqueue_trial({**again.best_params, "num_train_epochs": 7})
    better.optimize(lambda trial: trial.suggest_int("num_train_epochs", 2, 7), n_trials=1)
    compare_with_given(settings, better, folder)
    saved = yaml.safe_load((folder / "best" / "run.yaml").read_text(encoding="utf-8"))
    assert saved["num_train_epochs"] == 7, "after more trials the best run is trained again"


@pytest.mark.slow
def test_a_trials_score_is_that_of_a_run_on_the_same_rows_none_of_which_is_a_validation_row(
    settings, tmp_path
):
    search = Search(settings)
    trial = optuna.create_study().ask()
    score = search.score(trial)
    rows = {name: part.remove_columns("idx") for name, part in search.raw.items()}
    given = {name: part.to_list() for name, part in rows.items()}
    config = TrainConfig(
        model=settings.model, max_steps=3, output_dir=tmp_path / "run", **trial.params
    )
    fine_tune(config, train_dataset=rows["train"], eval_dataset=rows["validation"])
    assert load_metrics(tmp_path / "run")["saved"]["accuracy"] == score
    assert len(given["train"]) + len(given["validation"]) == 43
    unseen = search.inputs.raw["validation"].remove_columns("idx").to_list()
    assert not [row for row in unseen if row in given["train"] + given["validation"]]


def test_a_trial_without_a_sign_of_life_fails_and_one_that_lives_counts(settings, tmp_path):
    study = open_study(settings, tmp_path / "sweep", None)
    running = [study.ask() for _ in range(3)]
    running[0].set_user_attr("alive", time.time() - 2 * example.LOST_AFTER)
    running[1].set_user_attr("alive", time.time())
    assert next_trial(study, 2) is None, "the new one and the living one"
    assert states(study) == [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]
    asked = next_trial(study, 3)
    assert asked.number == 3
    assert next_trial(study, 3) is None


@pytest.mark.nightly
def test_two_processes_share_a_study_and_replace_the_trial_of_a_killed_one(
    settings, flags, tmp_path
):
    folder = tmp_path / "sweep"
    lives = "import sweep; sweep.SIGN_OF_LIFE, sweep.LOST_AFTER = 0.5, 10; sweep.main()"
    command = [sys.executable, "-c", lives, "--study", folder, "--trials", "4", *flags]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "examples")])
    start = partial(
        subprocess.Popen,
        command,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    killed = start()
    for _ in range(600):  # until it has begun its second trial
        time.sleep(0.1)
        log = (folder / "journal.log").read_text("utf-8") if folder.exists() else ""
        if log.count('"alive"') and '"trial_id": 1' in log:
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    workers = [start(), start()]
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    study = open_study(Search(settings).base, folder, None)
    found = states(study)
    assert found.count(TrialState.COMPLETE) == 4
    assert found.count(TrialState.RUNNING) == 0
    assert found.count(TrialState.FAIL) <= 1 + len(workers), "killed, or asked for at the same time"
    assert any("second run" in text for text in printed), "the comparison's conclusion"


def test_a_trial_that_is_worse_than_the_others_were_ends_at_its_evaluation():
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=2)
    )
    evaluated = []

    def objective(trial):
        metric = ReportingMetric(TaskMetric(("accuracy",)), "accuracy", trial)
        right = 4 if trial.number < 2 else 1
        for _ in range(2):
            logits = [[0.0, 1.0]] * right + [[1.0, 0.0]] * (4 - right)
            metric.add_batch(predictions=logits, references=[1] * 4)
            scores = metric.compute()
            evaluated.append(trial.number)
        return scores["accuracy"]

    study.optimize(objective, n_trials=3)
    assert [trial.state for trial in study.trials] == [
        *(TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED)
    ]
    assert evaluated == [0, 0, 1, 1]
    assert study.trials[2].intermediate_values == {1: 0.25}


@pytest.mark.parametrize(
    "changed", [{"metric_for_best_model": "loss"}, {"eval_strategy": "no"}], ids=str
)
def test_a_sweep_without_a_metric_is_refused_before_there_is_a_study(settings, tmp_path, changed):
    with pytest.raises(UserError, match="goes by a metric"):
        sweep(TrainConfig(**{**vars(settings), **changed}), 1, tmp_path / "sweep.db")
    assert not [*tmp_path.iterdir()]


def test_the_page_shows_what_is_searched():
    page = (ROOT / "docs" / "how-to" / "sweep.md").read_text(encoding="utf-8")
    shown = page.partition("```python\n")[2].partition("```")[0]
    assert shown.startswith("def suggest(")
    assert shown in (ROOT / "examples" / "sweep.py").read_text(encoding="utf-8")
