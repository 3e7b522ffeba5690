"""Trackers: what their files hold is what history.jsonl and metrics.json hold; the bits stay."""

import json
import sqlite3
from contextlib import closing

import pytest

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.training import prepare
from plainloop.training.prepare import check_trackers
from plainloop.training.trackers import mlflow_name, track

SETTINGS = {"num_train_epochs": 2, "learning_rate": 1e-3}


def test_tensorboards_files_hold_the_history_and_the_evaluations(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(report_to=("tensorboard",), **SETTINGS)
    events = EventAccumulator(str(result.folder / "logs" / "plainloop")).Reload()
    for name in ("loss", "learning_rate", "grad_norm", "samples_per_second"):
        logged = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert logged == pytest.approx(dict(zip(range(1, 13), result.series(name), strict=True)))
    accuracies = [event.value for event in events.Scalars("eval/accuracy")]
    assert accuracies == pytest.approx([each["accuracy"] for each in result.metrics["evaluations"]])


def test_mlflows_store_holds_them_too(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    result = run(report_to=("mlflow",), **SETTINGS)
    client = mlflow.MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'plainloop'")
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == result.folder.name
    assert found.info.status == "FINISHED"
    assert found.data.params["learning_rate"] == "0.001"
    losses = [each.value for each in client.get_metric_history(found.info.run_id, "train/loss")]
    assert losses == pytest.approx(result.series("loss"))
    assert found.data.metrics["eval/f1"] == pytest.approx(result.metrics["saved"]["f1"])


NAMES = [
    "c++",
    "q&a (help)",
    "a//b",
    "/",
    "..",
    ".",
    "a/",
    "",
    "x" * 300,
    "猫 é",
    "\n",
    "\ud800",
    "a.b",
]


def test_mlflow_takes_every_labels_name_and_tells_them_apart():
    validation = pytest.importorskip("mlflow.utils.validation")
    names = {label: mlflow_name(f"eval/f1/{label}") for label in NAMES}
    for name in names.values():
        validation._validate_metric(name, 0.5, 0, 0)
    assert len(set(names.values())) == len(NAMES)
    assert names["c++"] == "eval/f1/c_2b__2b_"
    unchanged = ["train/loss", "eval/f1/a.b", "eval/f1/a/b", "eval/f1/a: b"]
    assert [mlflow_name(name) for name in unchanged] == unchanged


def test_mlflow_gets_no_more_values_at_once_than_it_takes_and_the_others_all(run):
    class Tracker:
        def __init__(self, name):
            self.name, self.logged = name, []

        def log(self, values, step):
            self.logged.append(dict(values))
            assert step == 7

    class Accelerator:
        trackers = (Tracker("mlflow"), Tracker("other"))

    values = {f"eval/f1/{number}": float(number) for number in range(1200)}
    track(Accelerator, values, 7)
    mlflow, other = Accelerator.trackers
    assert [len(batch) for batch in mlflow.logged] == [500, 500, 200]
    assert {name: value for batch in mlflow.logged for name, value in batch.items()} == values
    assert other.logged == [values]


@pytest.fixture
def tracked(run_command, tiny_model, tiny_data, tmp_path):
    """A real command that logs to a tracker; its losses, its last F1. Trackers leave threads behind."""

    def tracked(tracker, **environment):
        source = ("--task", "demo", "--model", tiny_model, "--data-dir", tiny_data)
        settings = ("--epochs", "1", "--logging-steps", "1", "--report-to", tracker)
        words = ("-m", "plainloop", "train", *source, *settings, "-o", tmp_path / "named")
        run_command(*words, **environment)
        lines = (tmp_path / "named" / "history.jsonl").read_text(encoding="utf-8").splitlines()
        metrics = json.loads((tmp_path / "named" / "metrics.json").read_text(encoding="utf-8"))
        return [json.loads(line)["loss"] for line in lines], metrics["saved"]["f1"]

    return tracked


def test_trackios_store_holds_them_too(tracked, tmp_path):
    losses, f1 = tracked("trackio", TRACKIO_DIR=str(tmp_path / "store"), HF_HUB_OFFLINE="1")
    with closing(sqlite3.connect(tmp_path / "store" / "plainloop.db")) as store:
        rows = store.execute("select run_name, metrics from metrics order by id").fetchall()
    assert {name for name, _ in rows} == {"named"}
    logged = [json.loads(metrics) for _, metrics in rows]
    assert [each["train/loss"] for each in logged if "train/loss" in each] == losses
    assert [each["eval/f1"] for each in logged if "eval/f1" in each] == [f1]


@pytest.mark.slow
def test_wandbs_offline_file_holds_them_too(tracked, tmp_path):
    losses, f1 = tracked("wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    [path] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = path.read_bytes()  # protocol buffers; each value in them is JSON
    assert b"named" in content
    assert [loss for loss in losses if json.dumps(loss).encode() not in content] == []
    assert json.dumps(f1).encode() in content
    assert content.count(b"train/loss") >= len(losses)


def test_a_tracked_run_has_the_bits_of_one_that_is_not(run):
    plain, tracked = run(**SETTINGS), run(report_to=("tensorboard",), **SETTINGS)
    assert plain.series("loss") == tracked.series("loss")
    assert all((plain.weights[name] == tracked.weights[name]).all() for name in plain.weights)
    without = {key: value for key, value in plain.metrics.items() if key != "environment"}
    assert json.dumps(without) == json.dumps({key: tracked.metrics[key] for key in without})


def test_a_tracker_that_is_not_installed_is_a_line_before_anything(monkeypatch):
    monkeypatch.setattr(prepare, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        check_trackers(TrainConfig(report_to=("trackio", "wandb")))
    assert str(caught.value) == (
        "--report-to: trackio and wandb not installed; pip install trackio wandb"
    )
