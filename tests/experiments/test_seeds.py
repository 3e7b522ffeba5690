"""Several seeds: each as if alone, on the same rows, resumable as a whole, and what they say together."""

import json
import os

import numpy as np
import pytest
from safetensors.torch import load_file

from plainloop.cli.app import train
from plainloop.cli.report import report
from plainloop.config.settings import TrainConfig
from plainloop.errors import CheckpointError, UserError
from plainloop.experiments.comparison import compare_runs
from plainloop.experiments.seeds import choose_seeds, load_seeds, summarize_seeds
from plainloop.metrics.bootstrap import mean_intervals
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.scorer import Scorer
from plainloop.predict.ensemble import seed_folders
from plainloop.predict.loaded_run import load_run


def test_one_number_is_how_many_and_several_are_the_seeds():
    assert choose_seeds([3], 42) == [42, 43, 44]
    assert choose_seeds([7, 1], 42) == [7, 1]


@pytest.mark.parametrize("given", [[0], [1], [-2], [3, 3], [1, -1], [1, 2**32]])
def test_other_seeds_are_refused(given):
    with pytest.raises(UserError, match="--seeds"):
        choose_seeds(given, 42)


@pytest.fixture
def config(tiny_model, tiny_data, tmp_path):
    return TrainConfig(
        task="demo",
        model=str(tiny_model),
        data_dir=tiny_data,
        num_train_epochs=1,
        learning_rate=1e-3,
        output_dir=tmp_path / "seeds",
    )


@pytest.mark.slow
def test_each_seed_is_the_run_that_it_is_alone(config, run, capsys):
    train(config, seeds=(2,))
    folder = config.output_dir
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        "report.html",
        "seed-42",
        "seed-43",
        "summary.json",
    ]
    alone = run(num_train_epochs=1, learning_rate=1e-3, seed=43, logging_steps=10)
    weights = load_file(folder / "seed-43" / "model.safetensors")
    assert all((weights[name] == alone.weights[name]).all() for name in weights)
    assert "Mean           accuracy " in capsys.readouterr().out


@pytest.mark.slow
def test_the_summary_is_the_mean_and_deviation_of_the_runs(config):
    train(config, seeds=(5, 6, 7))
    summary = json.loads((config.output_dir / "summary.json").read_text(encoding="utf-8"))
    runs = load_seeds(config.output_dir)
    alone = [json.loads((run.path / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    accuracies = [metrics["saved"]["accuracy"] for metrics in alone]
    assert summary["seeds"] == [5, 6, 7]
    assert summary["scores"]["accuracy"]["by_seed"] == accuracies
    assert summary["scores"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert summary["scores"]["accuracy"]["standard_deviation"] == pytest.approx(
        np.std(accuracies, ddof=1)
    )
    assert accuracies[summary["seeds"].index(summary["best"])] == max(accuracies)
    assert accuracies[summary["seeds"].index(summary["worst"])] == min(accuracies)
    rows = [RowPredictions.load(run.path, "validation") for run in runs]
    scores = [
        Scorer(("accuracy", "f1"), each.references, each.logits.argmax(1), num_labels=2)
        for each in rows
    ]
    assert summary["scores"]["accuracy"]["interval"] == list(mean_intervals(scores)["accuracy"])
    before = (config.output_dir / "report.html").read_text(encoding="utf-8")
    report(config.output_dir)
    assert (config.output_dir / "report.html").read_text(encoding="utf-8") == before
    assert compare_runs(runs, runs).seeds == (3, 3)


@pytest.mark.slow
def test_a_seed_that_did_not_learn_is_named(config, capsys):
    train(config, seeds=(2,))
    stuck = RowPredictions.load(config.output_dir / "seed-43", "validation")
    path = config.output_dir / "seed-43" / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["analysis"]["validation"]["constant"] = 1
    path.write_text(json.dumps(metrics), encoding="utf-8")
    report(config.output_dir, accept_changed_files=True)
    assert len(stuck.idx) == 21
    summary = summarize_seeds(load_seeds(config.output_dir, accept_changed_files=True))
    assert summary["failed"]["43"] == "paraphrase"
    assert "failed to train" in (config.output_dir / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_finished_seed_is_not_trained_again_and_a_missing_one_is(config, capsys):
    from dataclasses import replace

    train(config, seeds=(42, 43))
    weights = config.output_dir / "seed-42" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    with pytest.raises(UserError, match="the folder holds a run already"):
        train(config, seeds=(42, 43, 44))
    damaged = config.output_dir / "seed-43" / "metrics.json"
    metrics = damaged.read_bytes()
    os.truncate(damaged, 700)
    with pytest.raises(CheckpointError, match=r"seed-43: changed .*: metrics\.json: 700 bytes"):
        report(config.output_dir)
    capsys.readouterr()
    train(replace(config, resume=True), seeds=(42, 43, 44))
    said = capsys.readouterr().out
    assert "seed-42: finished before" in said
    assert "seed-43: finished before" not in said
    assert damaged.read_bytes() == metrics
    assert weights.stat().st_mtime_ns == before
    assert load_run(config.output_dir / "seed-44").config.seed == 44


@pytest.mark.slow
@pytest.mark.parametrize("missing", [("report.html", "README.md"), ("README.md",)])
def test_a_seed_that_was_killed_before_its_pages_gets_them_when_resumed(config, missing, capsys):
    from dataclasses import replace

    train(config, seeds=(2,))
    folder = config.output_dir
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    # As a kill after seed 42's last metrics leaves it: nothing of the seeds that follow.
    for path in (*(folder / "seed-42" / name for name in missing), folder / "report.html"):
        path.unlink()
    (folder / "summary.json").unlink()
    train(replace(config, resume=True), seeds=(2,))
    assert capsys.readouterr().out.count("finished before") == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_seed_that_an_overwrite_has_moved_away_is_not_one_of_the_seeds(config, tmp_path):
    for name in ("seed-10", "seed-9", "seed-9.old", "seed-x", "seed-"):
        (tmp_path / name).mkdir()
    assert seed_folders(tmp_path) == [tmp_path / "seed-9", tmp_path / "seed-10"]


@pytest.mark.slow
def test_all_seeds_are_evaluated_on_the_same_part_of_ones_own_rows(tiny_model, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"text": f"the cat {n}", "label": "ab"[n % 2]}) for n in range(60)]
    path.write_text("\n".join(rows), encoding="utf-8")
    config = TrainConfig(
        train_file=(str(path),), model=str(tiny_model), max_steps=1, output_dir=tmp_path / "seeds"
    )
    train(config, seeds=(2,))
    runs = load_seeds(config.output_dir)
    idx = [RowPredictions.load(run.path, "validation").idx.tolist() for run in runs]
    assert idx[0] == idx[1]
    assert runs[1].config.validation_seed == 42
    from plainloop.predict.evaluate_run import evaluate_run

    metrics = json.loads((runs[1].path / "metrics.json").read_text(encoding="utf-8"))
    assert evaluate_run(runs[1])["validation"]["accuracy"] == metrics["saved"]["accuracy"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"eval_strategy": "no"}, "--seeds: needs evaluations"),
        ({"resume_from_checkpoint": "x"}, "is a checkpoint of one seed"),
    ],
)
def test_what_several_seeds_cannot_have_is_refused_before_anything_is_written(
    config, setting, message
):
    from dataclasses import replace

    with pytest.raises(UserError, match=message):
        train(replace(config, **setting), seeds=(2,))
    assert not config.output_dir.exists()
