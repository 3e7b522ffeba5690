"""The mean prediction of several seeds: in Python, in files, in the summary; what it cannot do is refused."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.csv as pa_csv
import pytest
from scipy.special import expit, softmax

from plainloop.cli.app import train
from plainloop.cli.evaluate import evaluate
from plainloop.cli.export import export
from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.metrics.bootstrap import score_intervals
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.scorer import Scorer
from plainloop.predict.ensemble import average_logits
from plainloop.predict.loaded_run import load_run

PAIRS = [("The cat ate the fish", "The cat saw a bird"), ("The dog ran", "The cat ran"), ("", "")]


def test_the_probabilities_of_the_averaged_logits_are_the_mean_probabilities():
    drawn = np.random.default_rng(0).normal(0, 5, (3, 40, 4)).astype(np.float32)
    single = average_logits(list(drawn), "single_label_classification")
    assert single.dtype == np.float32
    assert softmax(single, axis=1) == pytest.approx(softmax(drawn, axis=2).mean(0), abs=1e-6)
    several = average_logits(list(drawn), "multi_label_classification")
    assert expit(several) == pytest.approx(expit(drawn).mean(0), abs=1e-6)
    assert average_logits(list(drawn), "regression") == pytest.approx(drawn.mean(0), abs=1e-6)


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_certain_models_give_finite_logits(kind):
    found = average_logits([np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)] * 2, kind)
    assert np.isfinite(found).all()
    assert found.argmax(1).tolist() == [0, 1]


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
def test_a_folder_of_seeds_predicts_their_mean_and_its_score_is_in_the_summary(
    config, run_command, tmp_path
):
    train(config, seeds=(5, 6, 7))
    folder = config.output_dir
    singles = [load_run(folder / f"seed-{seed}") for seed in (5, 6, 7)]
    of_singles = [single.predict(PAIRS) for single in singles]
    found = load_run(folder).predict(PAIRS)
    for row, *rows in zip(found, *of_singles, strict=True):
        means = {name: np.mean([one["scores"][name] for one in rows]) for name in row["scores"]}
        assert row["scores"] == pytest.approx(means, abs=1e-6)
        assert row["label"] == max(means, key=means.__getitem__)

    given = tmp_path / "given.csv"
    given.write_text(
        "sentence1,sentence2\nThe cat ate,The cat saw a bird\nThe dog ran,The cat ran\n"
    )
    run_command("-m", "plainloop", "predict", folder, "--file", given, "-o", "predicted.csv")
    written = pa_csv.read_csv(tmp_path / "predicted.csv").to_pylist()
    wanted = load_run(folder).predict(
        [("The cat ate", "The cat saw a bird"), ("The dog ran", "The cat ran")]
    )
    for line, row in zip(written, wanted, strict=True):
        assert line["label"] == row["label"]
        for name, probability in row["scores"].items():
            assert line[f"probability_{name}"] == pytest.approx(probability, abs=1e-6)

    rows = [RowPredictions.load(single.path, "validation") for single in singles]
    logits = average_logits([each.logits for each in rows], "single_label_classification")
    scorer = Scorer(("accuracy", "f1"), rows[0].references, logits.argmax(1), num_labels=2)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for name, score in scorer.plain_scores().items():
        ends = score_intervals(scorer).get(name)
        wanted = {"score": score, "interval": ends and list(ends)}
        assert summary["ensemble"][name] == wanted
    assert "mean prediction" in (folder / "report.html").read_text(encoding="utf-8")

    for command in (evaluate, export):
        with pytest.raises(UserError, match="several seeds, which can only predict") as error:
            command(folder, **({"output": tmp_path / "onnx"} if command is export else {}))
        assert str(singles[0].path) in str(error.value)


@pytest.mark.slow
def test_seeds_with_thresholds_of_their_own_are_not_averaged(config):
    train(replace(config, threshold_metric="f1"), seeds=(2,))
    with pytest.raises(UserError, match="has its own thresholds"):
        load_run(config.output_dir)
    summary = json.loads((config.output_dir / "summary.json").read_text(encoding="utf-8"))
    assert summary["ensemble"] is None
    assert "mean prediction" not in (config.output_dir / "report.html").read_text(encoding="utf-8")
