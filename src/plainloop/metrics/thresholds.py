"""Fit a decision rule, thresholds and temperature, on rows that were not trained on; cross-fitting."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import ProblemType
from plainloop.metrics.calibration import fit_temperature
from plainloop.metrics.decision_rule import DecisionRule, compute_probabilities
from plainloop.metrics.formulas import LABEL_METRICS, ConfusionCounts, Floats

NUM_FOLDS = 5
SEED = 0
HALF = 0.5
TOLERANCE = (
    1e-12  # scores this close are equal: sums of the same fractions round in their last bits
)
THRESHOLD_METRICS: dict[ProblemType, tuple[str, ...]] = {
    "single_label_classification": (
        "accuracy",
        "f1",
        "f1_macro",
        "f1_weighted",
        "matthews_correlation",
    ),
    "multi_label_classification": ("f1_micro", "f1_macro"),
    "regression": (),
}
"""The metrics that thresholds can maximise; multi-label: those that each label adds to by itself."""


def fit_decision(
    logits: NDArray[Any], references: NDArray[Any], problem_type: ProblemType, config: TrainConfig
) -> DecisionRule:
    """The best temperature and thresholds for these rows, of which none may have been trained on.

    Args:
        logits: float (rows, num_labels), finite.
        references: labels, int (rows,); or multi-hot (rows, num_labels).
        problem_type: what the logits mean.
        config: whether to calibrate, and which metric or costs choose the thresholds.

    Returns:
        The temperature of the lowest log loss; then, of all thresholds of its probabilities, the best
        one, and of equally good ones the nearest to one half. A label that no row has, or every row,
        keeps one half.
    """
    temperature = fit_temperature(logits, references, problem_type) if config.calibrate else 1.0
    if not (config.threshold_metric or config.threshold_costs):
        return DecisionRule(temperature)
    probabilities = compute_probabilities(logits, problem_type, DecisionRule(temperature))
    truth = references.astype(bool)
    if references.ndim == 1:  # two labels: the threshold is that of label 1
        probabilities, truth = probabilities[:, 1:], truth[:, None]
    candidates = [list_candidates(*label) for label in zip(probabilities.T, truth.T, strict=True)]
    if config.threshold_costs:
        scores = [-each.cost(*config.threshold_costs) for each in candidates]
    elif config.threshold_metric == "f1_micro":
        scores = f1_micro_gains(candidates)
    else:  # multi-label F1 macro is the mean of each label's F1
        metric = str(config.threshold_metric) if references.ndim == 1 else "f1"
        scores = [LABEL_METRICS[metric](each.confusion()) for each in candidates]
    best = [each.thresholds[each.best(of)] for each, of in zip(candidates, scores, strict=True)]
    return DecisionRule(temperature, tuple(threshold.item() for threshold in best))


def cross_fit(
    logits: NDArray[Any], references: NDArray[Any], problem_type: ProblemType, config: TrainConfig
) -> DecisionRule:
    """A decision rule for each row that was fitted without it, on the rows of the other folds.

    On the rows it was fitted on a rule scores too well. Args as in `fit_decision`.

    Returns:
        temperature, float64 (rows, 1); thresholds, float64 (rows, labels that have one).
    """
    temperature: Floats = np.ones((len(logits), 1))
    thresholds: Floats | None = None
    for others, fold in split_folds(references):
        decision = fit_decision(logits[others], references[others], problem_type, config)
        temperature[fold] = decision.temperature
        if decision.thresholds is not None:
            fitted = np.asarray(decision.thresholds)
            if thresholds is None:
                thresholds = np.full((len(logits), len(fitted)), HALF)
            thresholds[fold] = fitted
    return DecisionRule(temperature, thresholds)


def split_folds(references: NDArray[Any]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows of the other folds, and the rows of a fold, for each of `count_folds`.

    Drawn with `SEED`; stratified by label if every label of single-label rows has two rows.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if _rarest_label_rows(references) > 1 else KFold
    folds = kind(count_folds(references), shuffle=True, random_state=SEED)
    yield from folds.split(np.zeros(len(references)), references)


def count_folds(references: NDArray[Any]) -> int:
    """5, or as many as there are rows of the rarest label, or rows."""
    fewest = _rarest_label_rows(references)
    return min(NUM_FOLDS, fewest if fewest > 1 else len(references))


def _rarest_label_rows(references: NDArray[Any]) -> int:
    """The number of rows of the rarest single label; 0 for multi-label rows."""
    return 0 if references.ndim > 1 else int(np.unique(references, return_counts=True)[1].min())


@dataclass(frozen=True)
class Candidates:
    """Every distinct way in which a threshold can divide the rows of one label.

    Attributes:
        thresholds: float64 (candidates,), ascending; the first has every row above it, the last none.
        hits: rows above it that have the label, (candidates,).
        above: rows above it, (candidates,).
        support: rows that have the label.
        rows: all rows.
    """

    thresholds: Floats
    hits: Floats
    above: Floats
    support: int
    rows: int

    def confusion(self) -> ConfusionCounts:
        """The counts of a binary task, a line for each candidate: label 1 is the one above it."""
        absent_hits = self.rows - self.support - (self.above - self.hits)
        return ConfusionCounts(
            hits=np.stack([absent_hits, self.hits], axis=1),
            support=np.array([[self.rows - self.support, self.support]], float),
            predicted=np.stack([self.rows - self.above, self.above], axis=1),
            correct=absent_hits + self.hits,
            rows=self.rows,
        )

    def cost(self, false_positive: float, false_negative: float) -> Floats:
        """The total cost of the false positives and false negatives, (candidates,)."""
        misses: Floats = self.support - self.hits
        return false_positive * (self.above - self.hits) + false_negative * misses

    def best(self, scores: Floats) -> int:
        """The candidate of the largest score; of equal scores the threshold nearest to one half."""
        equal = np.flatnonzero(scores >= scores.max() - TOLERANCE)
        return int(equal[np.argmin(abs(self.thresholds[equal] - HALF))])


def list_candidates(probabilities: Floats, truth: NDArray[np.bool_]) -> Candidates:
    """The thresholds between the probabilities of one label; equal probabilities stay together.

    Args:
        probabilities: of one label, float64 (rows,).
        truth: whether a row has it, bool (rows,). If no row has it, or every one, nothing can be
            learned about it, and one half is the only candidate.
    """
    values, group = np.unique(probabilities, return_inverse=True)
    given = np.bincount(group, weights=truth, minlength=len(values))
    sizes = np.bincount(group, minlength=len(values))
    hits, above = (np.append(counts[::-1].cumsum()[::-1], 0.0) for counts in (given, sizes))
    # A threshold t makes the same division for all low <= t < high.
    low, high = np.append(-np.inf, values), np.append(values, np.inf)
    middle = (low.clip(0) + high.clip(None, 1)) / 2
    middle = np.where(middle < high, middle, low)  # the middle of adjacent floats is one of them
    thresholds = np.where((low <= HALF) & (high > HALF), HALF, middle)
    kept = thresholds >= 0  # no row is below a probability of 0
    if truth.all() or not truth.any():
        kept = thresholds == HALF
    return Candidates(thresholds[kept], hits[kept], above[kept], int(truth.sum()), len(truth))


def f1_micro_gains(candidates: list[Candidates]) -> list[Floats]:
    """What each label's candidates add to the best micro F1, (candidates,) each.

    Micro F1 is a ratio of sums over labels, 2 hits / (support + above). Its maximum r is the ratio at
    which the largest sum of 2 hits - r (support + above) is 0, and in that sum each label can be
    maximised by itself (W. Dinkelbach, "On nonlinear fractional programming", 1967).
    """
    ratio, better = -1.0, 0.0
    while better > ratio + TOLERANCE:
        ratio = better
        gains = [2 * each.hits - ratio * (each.support + each.above) for each in candidates]
        chosen = [each.best(gain) for each, gain in zip(candidates, gains, strict=True)]
        pairs = list(zip(candidates, chosen, strict=True))
        hits = sum(each.hits[at] for each, at in pairs)
        rows = sum(each.support + each.above[at] for each, at in pairs)
        better = 2 * hits / max(rows, 1)
    return gains
