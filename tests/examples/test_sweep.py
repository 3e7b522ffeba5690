"""examples/sweep.py: trials with a tiny model, a study that goes on, trials cut short."""

import optuna
import pytest
import yaml
from conftest import ROOT
from optuna.trial import TrialState
from sweep import ReportingMetric, sweep

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.metrics.task_metric import TaskMetric


@pytest.fixture
def settings(tiny_model, tiny_data):
    return TrainConfig(task="demo", model=str(tiny_model), data_dir=tiny_data, max_steps=3)


@pytest.fixture(autouse=True)
def quiet():
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


@pytest.mark.slow
def test_three_trials_and_then_two_more_of_the_same_study(settings, tmp_path):
    path = tmp_path / "out" / "sweep.db"
    first = sweep(settings, 3, path).get_trials()
    assert [trial.state for trial in first] == [TrialState.COMPLETE] * 3
    again = sweep(settings, 5, path)
    assert again.get_trials()[:3] == first
    assert len(again.trials) == 5
    assert len({trial.params["learning_rate"] for trial in again.trials}) == 5
    assert len(sweep(settings, 5, path).trials) == 5
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text(encoding="utf-8"))
    assert best == {**settings.to_dict(), "metric_for_best_model": "accuracy"} | again.best_params
    assert again.best_value == max(trial.value for trial in again.trials)
    with pytest.raises(UserError, match="its trials have another max_steps"):
        sweep(TrainConfig(**{**vars(settings), "max_steps": 4}), 6, path)


@pytest.mark.slow
def test_a_trials_score_is_the_one_of_plainloop_train_with_its_settings(
    settings, tmp_path, run_command
):
    flags = ["--task", "demo", "--model", settings.model, "--data-dir", settings.data_dir]
    run_command(ROOT / "examples/sweep.py", "--trials", 2, *flags, "--epochs", 1)
    run_command("-m", "plainloop", "train", "--config", "best.yaml", "-o", "best")
    metrics = yaml.safe_load((tmp_path / "best" / "metrics.json").read_text(encoding="utf-8"))
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path}/sweep.db")
    assert metrics["saved"]["accuracy"] == study.best_value


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
