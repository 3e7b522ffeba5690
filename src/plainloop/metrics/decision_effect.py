"""Scores before and after a decision rule, as plain values for metrics.json."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.metrics.bootstrap import (
    LEVEL,
    NUM_RESAMPLES,
    SEED as RESAMPLES_SEED,
    difference_intervals,
    score_intervals,
)
from plainloop.metrics.calibration import measure_calibration, row_losses
from plainloop.metrics.decision_rule import (
    DecisionRule,
    compute_probabilities,
    predict_labels,
    threshold_labels,
)
from plainloop.metrics.formulas import LABEL_METRICS, Floats, one_hot
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.metrics.scorer import Scorer
from plainloop.metrics.thresholds import SEED, count_folds, cross_fit

CALIBRATION_ERROR = "expected_calibration_error"


def measure_decision(
    splits: Mapping[str, RowPredictions], task: Task, config: TrainConfig, decision: DecisionRule
) -> dict[str, Any]:
    """The saved rule, and the scores of each split before and after it.

    The rule was fitted on the validation rows, so these are not scored with it but cross-fitted: each
    with the rule that is fitted on the other folds (`cross_fit`).

    Returns:
        temperature, None if not fitted; thresholds, by label, or None; chosen_by, the metric or the
        costs; chosen_on, the number of rows; folds, of the validation rows; seed, of the folds;
        intervals, how they were made; splits: rows, cross_fitted, before, after and difference, each
        with scores and intervals.
    """
    thresholds: Any = decision.thresholds
    validation = splits["validation"]
    effect: dict[str, Any] = {
        "temperature": decision.temperature if config.calibrate else None,
        "thresholds": thresholds and dict(zip(threshold_labels(task), thresholds, strict=True)),
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
        effect["splits"][split] = {
            "rows": len(rows.idx),
            "cross_fitted": split == "validation",
            **compare_scores(rows, task, config, used),
        }
    return effect


def summarize_decision(effect: Mapping[str, Any]) -> str:
    """The validation scores before and after, from `measure_decision`, on one line."""
    validation = effect["splits"]["validation"]
    before, after = (validation[side]["scores"] for side in ("before", "after"))
    return ", ".join(f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in before)


def compare_scores(
    rows: RowPredictions, task: Task, config: TrainConfig, decision: DecisionRule
) -> dict[str, Any]:
    """The scores that a decision rule can change: before, after, and the difference, paired by row.

    With thresholds the task's label metrics, the metric that chose them, and cost, the mean cost of a
    row's mistakes; with a temperature log_loss and the expected calibration error. That has no
    interval, as it is larger on resampled rows than on the rows.
    """
    sides = [_scorer(rows, task, config, rule) for rule in (None, decision)]
    found: dict[str, Any] = {}
    once = np.ones((1, len(rows.idx)))
    for name, scorer, rule in zip(("before", "after"), sides, (None, decision), strict=True):
        scores = dict(zip(scorer.keys, scorer(once)[:, 0].tolist(), strict=True))
        if config.calibrate:
            probabilities = compute_probabilities(rows.logits, task.problem_type, rule)
            truth, multi_label = one_hot(rows.references, task.num_labels), rows.references.ndim > 1
            calibration = measure_calibration(probabilities, truth, multi_label=multi_label)
            scores[CALIBRATION_ERROR] = calibration[CALIBRATION_ERROR]
        intervals = score_intervals(scorer)
        found[name] = {"scores": scores, "intervals": _as_lists(intervals)}
    before, after = found["before"]["scores"], found["after"]["scores"]
    intervals = difference_intervals(sides[:1], sides[1:])
    found["difference"] = {
        "scores": {key: after[key] - before[key] for key in before},
        "intervals": _as_lists(intervals),
    }
    return found


def _scorer(
    rows: RowPredictions, task: Task, config: TrainConfig, decision: DecisionRule | None
) -> Scorer:
    names: list[str] = []
    row_values: dict[str, Floats] = {}
    if config.threshold_metric or config.threshold_costs:
        wanted = dict.fromkeys((config.threshold_metric, *task.metrics))
        names = [name for name in wanted if name in LABEL_METRICS]
    if config.threshold_costs:
        false_positive, false_negative = config.threshold_costs
        predicted = predict_labels(rows.logits, task.problem_type, decision).astype(int)
        wrong = np.reshape(predicted - rows.references, (len(predicted), -1))
        costs = np.where(wrong > 0, false_positive, false_negative) * (wrong != 0)
        row_values["cost"] = costs.sum(axis=1)
    if config.calibrate:
        losses = row_losses(rows.logits, rows.references, task.problem_type, decision)
        row_values["log_loss"] = losses
    return Scorer.from_logits(
        names,
        rows.references,
        rows.logits,
        task.problem_type,
        task.label_names,
        decision=decision,
        row_values=row_values,
    )


def _as_lists(intervals: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: list(ends) for name, ends in intervals.items()}
