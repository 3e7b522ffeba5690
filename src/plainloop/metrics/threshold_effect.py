"""describe_decision(): what a decision changes, in numbers, as plain values for metrics.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.errors import printable
from plainloop.metrics.analysis import calibrate
from plainloop.metrics.bootstrap import (
    LEVEL,
    NUM_RESAMPLES,
    SEED as RESAMPLES_SEED,
    difference_intervals,
    score_intervals,
)
from plainloop.metrics.decision import Decision, decided_labels
from plainloop.metrics.resampled import ResampledScores
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.task_metric import METRICS, predictions_of, probabilities_of
from plainloop.metrics.thresholds import SEED, Floats, count_folds, cross_fit, row_losses

CALIBRATION_ERROR = "expected_calibration_error"


def describe_decision(
    splits: Mapping[str, RowPredictions], task: Task, config: TrainConfig, decision: Decision
) -> dict[str, Any]:
    """What is saved, and the scores of each split before and after it.

    The validation rows chose the saved decision, so they are not scored with it: each is decided by
    what the other folds of them choose (`cross_fit`).

    Returns:
        temperature, None where it was not fitted; thresholds, by label, or None; chosen_by, the
        metric or the costs; chosen_on, how many rows; folds, of the validation rows; seed, of the
        folds; intervals, how they were made; splits: rows, cross_fitted, before, after and
        difference, each with scores and intervals.
    """
    labels = decided_labels(task)
    thresholds: Any = decision.thresholds
    validation = splits["validation"]
    found: dict[str, Any] = {
        "temperature": decision.temperature if config.calibrate else None,
        "thresholds": thresholds and dict(zip(labels, thresholds, strict=True)),
        "chosen_by": config.threshold_metric or config.threshold_costs,
        "chosen_on": len(validation.idx),
        "folds": count_folds(validation.references),
        "seed": SEED,
        "intervals": {"level": LEVEL, "num_resamples": NUM_RESAMPLES, "seed": RESAMPLES_SEED},
        "splits": {},
    }
    for split, rows in splits.items():
        used = decision
        if split == "validation":
            used = cross_fit(rows.logits, rows.references, task.problem_type, config)
        found["splits"][split] = {
            "rows": len(rows.idx),
            "cross_fitted": split == "validation",
            **compare_decided(rows, task, config, used),
        }
    return found


def summarize_change(described: Mapping[str, Any]) -> str:
    """What `describe_decision` found on the validation rows, in a line for the terminal."""
    of = described["splits"]["validation"]
    moved = [
        f"{name} {of['before']['scores'][name]:.4f} -> {of['after']['scores'][name]:.4f}"
        for name in of["before"]["scores"]
    ]
    return ", ".join(moved)


def show_decision(decision: Decision, task: Task) -> str:
    """A saved decision in a line: its temperature, and the threshold of each label."""
    thresholds: Any = decision.thresholds
    parts = [] if decision.temperature == 1 else [f"temperature {decision.temperature:.4f}"]
    if thresholds is not None:
        named = zip(decided_labels(task), thresholds, strict=True)
        parts += [f"{printable(name)} above {threshold:.4f}" for name, threshold in named]
    return ", ".join(parts)


def compare_decided(
    rows: RowPredictions, task: Task, config: TrainConfig, decision: Decision
) -> dict[str, Any]:
    """The scores that a decision moves: as trained, decided, and the difference, paired by row.

    With thresholds the task's metrics of labels, the one that chose, and cost, the mean cost of a
    row's mistakes; with a temperature log_loss and the expected calibration error, which has no
    interval: of resampled rows it is larger than of the rows.
    """
    sides = score_rows(rows, task, config, None), score_rows(rows, task, config, decision)
    found: dict[str, Any] = {}
    once = np.ones((1, len(rows.idx)))
    for name, side, used in zip(("before", "after"), sides, (None, decision), strict=True):
        scores = dict(zip(side.keys, side(once)[:, 0].tolist(), strict=True))
        if config.calibrate:
            scores[CALIBRATION_ERROR] = calibration_error(rows, task, used)
        found[name] = {
            "scores": scores,
            "intervals": {key: list(ends) for key, ends in score_intervals(side).items()},
        }
    before, after = found["before"]["scores"], found["after"]["scores"]
    intervals = difference_intervals([sides[0]], [sides[1]])
    found["difference"] = {
        "scores": {key: after[key] - before[key] for key in before},
        "intervals": {key: list(ends) for key, ends in intervals.items()},
    }
    return found


def score_rows(
    rows: RowPredictions, task: Task, config: TrainConfig, decision: Decision | None
) -> ResampledScores:
    """The scores of rows that a decision moves."""
    names: Sequence[str] = ()
    more: dict[str, Floats] = {}
    if config.threshold_metric or config.threshold_costs:
        names = tuple(
            dict.fromkeys(
                name for name in (config.threshold_metric, *task.metrics) if name in METRICS
            )
        )
    if config.threshold_costs:
        false_positive, false_negative = config.threshold_costs
        predicted = predictions_of(rows.logits, task.problem_type, decision).astype(int)
        wrong = np.reshape(predicted - rows.references, (len(predicted), -1))
        costs = np.where(wrong > 0, false_positive, false_negative) * (wrong != 0)
        more["cost"] = costs.sum(axis=1)
    if config.calibrate:
        more["log_loss"] = row_losses(rows.logits, rows.references, task.problem_type, decision)
    return ResampledScores(
        [name for name in names if name],
        rows.references,
        rows.logits,
        task.problem_type,
        task.label_names,
        decision=decision,
        more=more,
    )


def calibration_error(rows: RowPredictions, task: Task, decision: Decision | None) -> float:
    """The expected calibration error; see `calibrate`."""
    probabilities = probabilities_of(rows.logits, task.problem_type, decision)
    references = rows.references
    several = references.ndim > 1
    has = (
        references.astype(bool)
        if several
        else references[:, None] == np.arange(probabilities.shape[1])
    )
    error: float = calibrate(probabilities, has, several)[CALIBRATION_ERROR]
    return error
