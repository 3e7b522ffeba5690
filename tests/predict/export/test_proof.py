"""The proof: which labels changed, how far each metric differs, and when that is too much."""

from pathlib import Path

import numpy as np
import pytest

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.metrics.bootstrap import Difference
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.predict.export.proof import (
    Proof,
    Speed,
    compare_models,
    describe_few_rows,
    describe_proof,
    find_falls,
)
from plainloop.predict.loaded_run import Run

TASK = Task("rows", ("text",), ("no", "yes"), ("accuracy", "log_loss"))


def proof_of(changed=3, **scores):
    return Proof(changed, [], 0.1, scores, Speed(100.0, 1_000_000))


@pytest.mark.parametrize(
    ("name", "score", "falls"),
    [
        ("accuracy", Difference(0.9, 0.8899, -0.0101, (-0.03, 0.01)), True),
        ("accuracy", Difference(0.9, 0.8901, -0.0099, (-0.03, 0.01)), False),
        ("accuracy", Difference(0.9, 0.899, -0.001, (-0.002, -0.0005)), True),
        ("accuracy", Difference(0.9, 0.899, -0.001, (-0.002, 0.0)), False),
        ("accuracy", Difference(0.9, 0.95, 0.05, (0.01, 0.09)), False),
        ("accuracy", Difference(0.9, 0.88, -0.02, None), True),
        ("accuracy", Difference(0.9, 0.9, 0.0, None), False),
        # An error is worse if it rises, and its unit is the label's: the limit is a share of it.
        ("rmse", Difference(20.0, 20.3, 0.3, (-0.1, 0.7)), True),
        ("rmse", Difference(20.0, 20.1, 0.1, (-0.1, 0.3)), False),
        ("rmse", Difference(20.0, 20.1, 0.1, (0.01, 0.2)), True),
        ("rmse", Difference(20.0, 15.0, -5.0, (-6.0, -4.0)), False),
    ],
)
def test_a_fall_of_more_than_a_point_or_beyond_the_interval_is_found(name, score, falls):
    assert bool(
        find_falls(proof_of(f1=Difference(0.5, 0.5, 0.0, (0.0, 0.0)), **{name: score}))
    ) is (falls)


def rows_of(num_rows):
    references = np.arange(num_rows) % 2
    logits = np.zeros((num_rows, 2), np.float32)
    logits[np.arange(num_rows), references] = 2.0
    idx = np.arange(num_rows) + 100
    return RowPredictions(idx, {"text": ["a"] * num_rows}, references, logits)


def test_changed_labels_come_with_their_rows_and_each_metric_with_its_paired_interval():
    rows = rows_of(600)
    exported = rows.logits.copy()
    exported[[7, 30]] = exported[[7, 30], ::-1]
    run = Run(Path("nowhere"), TrainConfig(), TASK)
    proof = compare_models(run, rows, rows.logits, exported, Speed(90.0, 3))
    assert proof.changed_rows == [
        {"row": 107, "run": "yes", "exported": "no"},
        {"row": 130, "run": "no", "exported": "yes"},
    ]
    chance = 1 / (1 + np.exp(-2.0))
    assert proof.largest_difference == pytest.approx(2 * chance - 1)
    score = proof.scores["accuracy"]
    assert (score.first, score.second) == (1.0, pytest.approx(598 / 600))
    assert score.interval is not None
    low, high = score.interval
    assert low < score.difference < high <= 0
    assert describe_proof(proof, 600)[0] == "2 of 600 labels changed: rows 108, 131"
    assert describe_few_rows(proof, 600) is None


def test_few_rows_are_said_to_prove_little():
    # The upper end of 95 % by Clopper and Pearson: 1 - 0.025 ** (1 / 100) if no label changed.
    said = describe_few_rows(proof_of(changed=0), 100)
    assert said == (
        "100 validation rows prove little about other rows: of those up to 3.6% may get another "
        "label (95 % interval)"
    )
    assert describe_few_rows(proof_of(changed=None), 499) == (
        "499 validation rows prove little about other rows"
    )
    assert describe_few_rows(proof_of(), 500) is None
