"""Compare an exported model with its run on the run's validation rows, and decide if it may be used."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.settings import LESS_IS_BETTER
from plainloop.metrics.bootstrap import Difference, score_differences
from plainloop.metrics.decision_rule import compute_probabilities
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.scorer import PER_LABEL
from plainloop.predict.input_files import ROWS_PER_CHUNK
from plainloop.predict.loaded_run import BATCH_SIZE, Run
from plainloop.predict.output_columns import labels_of

if TYPE_CHECKING:
    from plainloop.predict.classifier import Classifier
    from plainloop.predict.export.onnx_classifier import OnnxClassifier

MOST_POINTS = 1.0
"""How far a metric may fall, in hundredths; for an error such as the log loss how far it may rise, in %."""
FEW_ROWS = 500
MOST_ROWS_SHOWN = 20


@dataclass(frozen=True)
class Speed:
    """Rows per second, from texts, and the bytes of a model's weights on disk."""

    samples_per_second: float
    bytes: int

    def __str__(self) -> str:
        return f"{self.samples_per_second:,.0f} samples/s, {self.bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class Proof:
    """How the predictions of an exported model differ from those of its run.

    Attributes:
        labels_changed: number of rows with another label; None for regression, which has none.
        changed_rows: of each such row its number in its file, from 0, and both labels.
        largest_difference: largest difference of a probability; for regression, of a value.
        scores: metric -> the run's and the exported model's, with the paired interval.
        speed: of the exported model.
    """

    labels_changed: int | None
    changed_rows: list[dict[str, Any]]
    largest_difference: float
    scores: dict[str, Difference]
    speed: Speed


Logits = NDArray[np.float32]


def predict_rows(
    predictor: "Classifier | OnnxClassifier", rows: RowPredictions, files: Iterable[Path]
) -> tuple[Logits, Speed]:
    """Predict the texts of rows, after a first batch that is not timed; `files` hold the weights."""
    texts, size = list(rows.texts.values()), ROWS_PER_CHUNK
    predictor.logits([column[:BATCH_SIZE] for column in texts], BATCH_SIZE)
    started = time.perf_counter()
    logits = [
        predictor.logits([column[at : at + size] for column in texts], BATCH_SIZE, first_row=at + 1)
        for at in range(0, len(rows.idx), size)
    ]
    seconds = time.perf_counter() - started
    num_bytes = sum(file.stat().st_size for file in files)
    return np.concatenate(logits), Speed(len(rows.idx) / seconds, num_bytes)


def compare_models(
    run: Run, rows: RowPredictions, ours: Logits, exported: Logits, speed: Speed
) -> Proof:
    """Compare an exported model with its run, row by row.

    The run's temperature and thresholds are applied to both. They were chosen on these rows, so that
    both scores are too good; their difference is that of the two models under one rule.

    Args:
        run: that was exported.
        rows: its validation rows.
        ours: the run's logits of them.
        exported: the exported model's.
        speed: the exported model's.
    """
    task, decision = run.task, run.decision
    both = [ours, exported]
    names = [name for name in task.metrics if name != PER_LABEL]
    scorers = [
        replace(rows, logits=logits, decision=decision).scorer(names, task) for logits in both
    ]
    labels = [labels_of(logits, task, decision) for logits in both]
    changed = [
        {"row": int(number), "run": one, "exported": two}
        for number, one, two in zip(rows.idx, *labels, strict=True)
        if task.label_names and one != two
    ]
    values = [compute_probabilities(logits, task.problem_type, decision) for logits in both]
    return Proof(
        len(changed) if task.label_names else None,
        changed,
        float(np.abs(values[0] - values[1]).max()),
        score_differences(scorers[:1], scorers[1:]),
        speed,
    )


def find_falls(proof: Proof) -> list[str]:
    """Each metric that is worse by more than `MOST_POINTS`, or whose interval shows a loss."""
    falls = []
    for name, score in proof.scores.items():
        is_error = name in LESS_IS_BETTER
        sign = -1 if is_error else 1
        most = MOST_POINTS / 100 * (abs(score.first) if is_error else 1)
        is_lower = score.interval is not None and max(sign * end for end in score.interval) < 0
        if sign * score.difference < -most or is_lower:
            falls.append(f"{name} {describe_difference(score)}")
    return falls


def describe_difference(score: Difference) -> str:
    """Both scores, their difference and its interval on one line."""
    text = f"{score.first:.4f} -> {score.second:.4f} ({score.difference:+.4f}"
    if score.interval is None:
        return f"{text})"
    return f"{text}, 95 % interval {score.interval[0]:+.4f} to {score.interval[1]:+.4f})"


def describe_proof(proof: Proof, num_rows: int) -> list[str]:
    """The lines of a proof: the labels that changed first, with their rows."""
    lines = []
    if proof.labels_changed is not None:
        rows = ", ".join(str(row["row"] + 1) for row in proof.changed_rows[:MOST_ROWS_SHOWN])
        more = ", ..." if proof.labels_changed > MOST_ROWS_SHOWN else ""
        shown = f": rows {rows}{more}" if rows else ""
        lines = [f"{proof.labels_changed} of {num_rows:,} labels changed{shown}"]
    kind = "value" if proof.labels_changed is None else "probability"
    return [
        *lines,
        f"largest difference of a {kind} {proof.largest_difference:.2g}",
        *(f"{name} {describe_difference(score)}" for name, score in proof.scores.items()),
        str(proof.speed),
    ]


def describe_few_rows(proof: Proof, num_rows: int) -> str | None:
    """How little fewer than `FEW_ROWS` rows prove; None if there are more."""
    if num_rows >= FEW_ROWS:
        return None
    few = f"{num_rows} validation rows prove little about other rows"
    if proof.labels_changed is None:
        return few
    from scipy.stats import binomtest

    # The interval of Clopper and Pearson (1934).
    share = binomtest(proof.labels_changed, num_rows).proportion_ci(0.95, method="exact").high
    return f"{few}: of those up to {share:.1%} may get another label (95 % interval)"
