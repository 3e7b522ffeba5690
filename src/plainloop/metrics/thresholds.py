"""choose_decision() and cross_fit(): thresholds and a temperature, from rows not trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.settings import TrainConfig
from plainloop.metrics.decision import Decision
from plainloop.metrics.task_metric import probabilities_of

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType

Floats = NDArray[np.float64]
NUM_FOLDS = 5
SEED = 0
HALF = 0.5
SAME = 1e-12  # scores this close are equal: sums of the same fractions round in their last bits
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
THRESHOLD_METRICS: dict["ProblemType", tuple[str, ...]] = {
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
"""What a threshold can be chosen by; of several labels a row, what each label adds to by itself."""


def choose_decision(
    logits: NDArray[Any], references: NDArray[Any], problem_type: "ProblemType", config: TrainConfig
) -> Decision:
    """What is best for these rows, of which none may have been trained on.

    Args:
        logits: float (rows, num_labels), finite.
        references: labels, int (rows,); or multi-hot (rows, num_labels).
        problem_type: what the logits mean.
        config: whether to calibrate, and by what thresholds are chosen.

    Returns:
        The temperature of the lowest log loss; then, of all thresholds of its probabilities, the best
        one, and of equally good ones the nearest to one half. A label that no row has, or every row,
        keeps one half.
    """
    temperature = fit_temperature(logits, references, problem_type) if config.calibrate else 1.0
    if not (config.threshold_metric or config.threshold_costs):
        return Decision(temperature)
    probabilities = probabilities_of(logits, problem_type, Decision(temperature))
    has = references.astype(bool)
    if references.ndim == 1:  # two labels: the threshold is that of label 1
        probabilities, has = probabilities[:, 1:], has[:, None]
    cuts = [find_cuts(*label) for label in zip(probabilities.T, has.T, strict=True)]
    if config.threshold_costs:
        of_cuts = [-cut.cost(*config.threshold_costs) for cut in cuts]
    elif config.threshold_metric == "f1_micro":
        of_cuts = gains_of_f1_micro(cuts)
    else:  # of several labels F1 macro is the mean of each label's F1
        metric = str(config.threshold_metric) if references.ndim == 1 else "f1"
        of_cuts = [cut.score(metric) for cut in cuts]
    return Decision(
        temperature,
        tuple(
            cut.thresholds[nearest_best(values, cut.thresholds)].item()
            for cut, values in zip(cuts, of_cuts, strict=True)
        ),
    )


def cross_fit(
    logits: NDArray[Any], references: NDArray[Any], problem_type: "ProblemType", config: TrainConfig
) -> Decision:
    """A decision for each row that was chosen without it: by the rows of the other folds.

    Of the same rows a chosen decision scores too well, since it was chosen for that score. Args as of
    `choose_decision`.

    Returns:
        temperature, float64 (rows, 1); thresholds, float64 (rows, labels that have one).
    """
    temperature: Floats = np.ones((len(logits), 1))
    thresholds: Floats | None = None
    for chosen_by, decided in split_folds(references):
        decision = choose_decision(logits[chosen_by], references[chosen_by], problem_type, config)
        temperature[decided] = decision.temperature
        if decision.thresholds is not None:
            of_fold = np.asarray(decision.thresholds)
            if thresholds is None:
                thresholds = np.full((len(logits), len(of_fold)), HALF)
            thresholds[decided] = of_fold
    return Decision(temperature, thresholds)


def split_folds(references: NDArray[Any]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows of the other folds, and the rows of a fold, for each of `count_folds`.

    Drawn by `SEED`; where every single label has two rows, stratified by label.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if _fewest(references) > 1 else KFold
    folds = kind(count_folds(references), shuffle=True, random_state=SEED)
    yield from folds.split(np.zeros(len(references)), references)


def count_folds(references: NDArray[Any]) -> int:
    """5, or as many as there are rows of the rarest label, or rows."""
    fewest = _fewest(references)
    return min(NUM_FOLDS, fewest if fewest > 1 else len(references))


def _fewest(references: NDArray[Any]) -> int:
    """The rows of the rarest single label; 0 where a row may have several."""
    return 0 if references.ndim > 1 else int(np.unique(references, return_counts=True)[1].min())


def fit_temperature(
    logits: NDArray[Any], references: NDArray[Any], problem_type: "ProblemType"
) -> float:
    """The temperature of the lowest log loss, between 0.05 and 20 (Guo et al. 2017, section 4.2).

    1 where none is better than that. Rows that are all right have their lowest loss at the lowest
    temperature, whatever is true of other rows.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        decision = Decision(float(np.exp(log_temperature)))
        return float(row_losses(logits, references, problem_type, decision).mean())

    bounds = np.log([LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < loss(0.0) - SAME else 1.0


def row_losses(
    logits: NDArray[Any],
    references: NDArray[Any],
    problem_type: "ProblemType",
    decision: Decision | None,
) -> Floats:
    """-log of the probability of each row's label, nats, (rows,); of several labels their mean."""
    from scipy.special import log_expit, log_softmax

    scaled = np.asarray(logits, np.float64) / (1.0 if decision is None else decision.temperature)
    if problem_type == "multi_label_classification":
        losses: Floats = -log_expit(np.where(references.astype(bool), scaled, -scaled)).mean(axis=1)
    else:
        losses = -log_softmax(scaled, axis=1)[np.arange(len(scaled)), references.astype(np.int64)]
    return losses


@dataclass(frozen=True)
class Cuts:
    """What thresholds can make of the rows of one label: from every row above it to none.

    Attributes:
        thresholds: float64 (cuts,), ascending.
        hits: rows above it that have the label, (cuts,).
        above: rows above it, (cuts,).
        given: rows that have the label.
        rows: all rows.
    """

    thresholds: Floats
    hits: Floats
    above: Floats
    given: int
    rows: int

    def cost(self, false_positive: float, false_negative: float) -> Floats:
        """The cost of all mistakes."""
        misses: Floats = self.given - self.hits
        return false_positive * (self.above - self.hits) + false_negative * misses

    def score(self, metric: str) -> Floats:
        """A metric of two labels, as scores.py defines it."""
        absent = self.rows - self.given
        right_absent = absent - (self.above - self.hits)
        left = self.rows - self.above
        f1 = 2 * self.hits / np.maximum(self.given + self.above, 1)
        f1_absent = 2 * right_absent / np.maximum(absent + left, 1)
        if metric == "f1":
            return f1
        if metric == "accuracy":
            return (self.hits + right_absent) / self.rows
        if metric == "f1_macro":
            return (f1 + f1_absent) / 2
        if metric == "f1_weighted":
            return (self.given * f1 + absent * f1_absent) / self.rows
        assert metric == "matthews_correlation", metric  # noqa: S101 - the settings were checked
        spread = np.sqrt(self.above * left * float(self.given) * absent)
        covariance = self.hits * self.rows - self.above * self.given
        return covariance / np.where(spread > 0, spread, 1)


def find_cuts(probabilities: Floats, has: NDArray[np.bool_]) -> Cuts:
    """Every way in which a threshold divides rows; equal probabilities stay together.

    Args:
        probabilities: of one label, float64 (rows,).
        has: whether a row has it, bool (rows,). Where no row has it, or every one, nothing can be
            learned of it, and one half is all there is.
    """
    values, group = np.unique(probabilities, return_inverse=True)
    given = np.bincount(group, weights=has, minlength=len(values))
    sizes = np.bincount(group, minlength=len(values))
    hits, above = (np.append(counts[::-1].cumsum()[::-1], 0.0) for counts in (given, sizes))
    # A threshold divides so where it is at least `low` and less than `high`.
    low, high = np.append(-np.inf, values), np.append(values, np.inf)
    middle = (low.clip(0) + high.clip(None, 1)) / 2
    middle = np.where(middle < high, middle, low)  # of two neighbouring floats it is one of them
    thresholds = np.where((low <= HALF) & (high > HALF), HALF, middle)
    there = thresholds >= 0  # nothing is below a probability of 0
    if has.all() or not has.any():
        there = thresholds == HALF
    return Cuts(thresholds[there], hits[there], above[there], int(has.sum()), len(has))


def nearest_best(values: Floats, thresholds: Floats) -> int:
    """Which of the largest values has the threshold nearest to one half."""
    best = np.flatnonzero(values >= values.max() - SAME)
    return int(best[np.argmin(abs(thresholds[best] - HALF))])


def gains_of_f1_micro(cuts: list[Cuts]) -> list[Floats]:
    """What each label's cuts add to the best F1 of all labels together, (cuts,) each.

    F1 is 2 hits / (given + above), and the best ratio r is where the largest 2 hits - r (given +
    above), which each label adds to by itself, is 0 (W. Dinkelbach 1967).
    """
    ratio, better = -1.0, 0.0
    while better > ratio + SAME:
        ratio = better
        gains = [2 * cut.hits - ratio * (cut.given + cut.above) for cut in cuts]
        chosen = [nearest_best(gain, cut.thresholds) for gain, cut in zip(gains, cuts, strict=True)]
        hits = sum(cut.hits[at] for cut, at in zip(cuts, chosen, strict=True))
        rows = sum(cut.given + cut.above[at] for cut, at in zip(cuts, chosen, strict=True))
        better = 2 * hits / max(rows, 1)
    return gains
