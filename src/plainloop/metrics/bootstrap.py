"""Bootstrap confidence intervals of scores: of one model, of a mean over seeds, of a difference."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.metrics.formulas import Floats
from plainloop.metrics.scorer import Scorer

LEVEL = 0.95
NUM_RESAMPLES = 2000
SEED = 0
MAX_COUNTS_PER_BATCH = 4_000_000  # numbers (resamples * rows) held at once: 32 MB
Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """A metric's values for two models on the same rows; for several seeds, the means.

    Attributes:
        first, second: score of each model.
        difference: second minus first.
        interval: 95 % paired bootstrap interval of the difference; None if it is not defined.
    """

    first: float
    second: float
    difference: float
    interval: Interval | None


def score_differences(first: Sequence[Scorer], second: Sequence[Scorer]) -> dict[str, Difference]:
    """Each score of two models, or of the means over seeds of two sides, if it is defined.

    Args as in `difference_intervals`, which gives the intervals.
    """
    # A scorer takes how often each row counts, (resamples, rows): once each gives the plain score.
    once = np.ones((1, len(first[0].references)))
    means = [np.mean([of_seed(once)[:, 0] for of_seed in side], axis=0) for side in (first, second)]
    intervals = difference_intervals(first, second)
    return {
        name: Difference(float(one), float(two), float(two - one), intervals.get(name))
        for name, one, two in zip(first[0].keys, *means, strict=True)
        if np.isfinite(one + two)
    }


def score_intervals(
    scorer: Scorer, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """The 95 % interval of each score of one model, over the sampling of the rows.

    Percentiles of `scipy.stats.bootstrap`, stratified by label: each resample has as many rows of
    each label as the rows have. The interval is therefore about other rows with the same share of labels,
    as in a validation part that was split by label. If those shares are a matter of chance, and some
    labels are harder than others, the interval is wider. Multi-label rows and values are not
    stratified.

    Args:
        scorer: of the rows.
        num_resamples: how many.
        seed: of the resamples; no global generator is touched.

    Returns:
        Lower and upper end by the score's name. Left out are scores that some resample does not
        define, and scores that are the same in every resample, as if no row is wrong: a bootstrap
        cannot tell how far those may be off. An accuracy has Wilson's interval then.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    strata = label_strata(scorer.references)
    num_rows = len(scorer.references)
    lone = [rows for rows in strata if len(rows) == 1]  # scipy takes no sample of one
    drawn = [rows for rows in strata if len(rows) > 1]
    if not drawn:
        return _without_variation({}, scorer)

    def statistic(*samples: NDArray[np.intp], axis: int) -> Floats:
        rows = np.atleast_2d(np.concatenate(samples, axis=axis))
        counts = count_draws(rows, num_rows)
        for row in lone:
            counts[:, row] = 1
        return scorer(counts)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # those scores are left out below
        interval = bootstrap(
            drawn,
            statistic,
            vectorized=True,
            axis=-1,
            n_resamples=num_resamples,
            batch=resamples_per_batch(num_rows),
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = (np.reshape(end, -1).tolist() for end in interval)
    return _without_variation(_finite(zip(scorer.keys, low, high, strict=True)), scorer)


def _without_variation(found: dict[str, Interval], scorer: Scorer) -> dict[str, Interval]:
    """The intervals without those of no width; an accuracy gets Wilson's instead."""
    from scipy.stats import binomtest

    kept = {name: ends for name, ends in found.items() if ends[0] < ends[1]}
    num_rows = len(scorer.references)
    if num_rows and "accuracy" in scorer.keys and "accuracy" not in kept:
        num_right = round(scorer.plain_scores().get("accuracy", 0.0) * num_rows)
        ends = binomtest(num_right, num_rows).proportion_ci(LEVEL, method="wilson")
        kept["accuracy"] = (float(ends.low), float(ends.high))
    return kept


def mean_intervals(
    scorers: Sequence[Scorer], *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """The 95 % interval of each score's mean over seeds, over the sampling of the rows and the seeds.

    Args as in `difference_intervals`, of which this is one side.
    """
    draws = _two_level(scorers, num_resamples, np.random.default_rng(seed))
    # If no resample differs, no seed does, so that the first has the mean's score.
    return _without_variation(_percentiles(scorers[0].keys, draws), scorers[0])


def difference_intervals(
    first: Sequence[Scorer],
    second: Sequence[Scorer],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """The 95 % interval of second minus first, each a model or a mean over seeds; paired by row.

    A two-level bootstrap: a resample draws rows, stratified by label and the same for every model,
    and each side's seeds. The means of few seeds drawn with replacement vary too little; they are
    spread by sqrt(k / (k - 1)) of k seeds around their mean, which gives them the variance of the
    mean of k new seeds (B. Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982,
    section 10.7). If seeds differ more than rows do, an interval of few seeds is still too narrow:
    benchmarks/coverage.py measures by how much. One seed cannot show how seeds differ: then the
    interval is about these trained models.

    Args:
        first, second: a scorer for each seed's model, on the same rows in the same order.
        num_resamples: how many.
        seed: of the resamples; no global generator is touched.
    """
    generator = np.random.default_rng(seed)
    rows_seed = generator.integers(2**63)
    draws = [
        _two_level(side, num_resamples, np.random.default_rng(rows_seed), generator)
        for side in (first, second)
    ]
    return _percentiles(first[0].keys, draws[1] - draws[0])


def _two_level(
    scorers: Sequence[Scorer],
    num_resamples: int,
    row_generator: np.random.Generator,
    seed_generator: np.random.Generator | None = None,
) -> Floats:
    """The mean over seeds in each resample of rows and seeds, (scores, resamples)."""
    references = scorers[0].references
    strata = label_strata(references)
    num_seeds, size = len(scorers), resamples_per_batch(len(references))
    batches = []
    for start in range(0, num_resamples, size):
        count = min(size, num_resamples - start)
        rows = [row_generator.choice(stratum, (count, len(stratum))) for stratum in strata]
        counts = count_draws(np.concatenate(rows, axis=1), len(references))
        batches.append(np.stack([scorer(counts) for scorer in scorers]))
    values: Floats = np.concatenate(batches, axis=-1)  # (seeds, scores, resamples)
    mean: Floats = values.mean(axis=0)
    if num_seeds == 1:
        return mean
    drawn = (seed_generator or row_generator).integers(num_seeds, size=(num_seeds, num_resamples))
    times = (drawn[:, None] == np.arange(num_seeds)[:, None]).sum(axis=0)  # (seeds, resamples)
    resampled = (values * times[:, None]).sum(axis=0) / num_seeds
    expanded: Floats = mean + seeds_expansion(num_seeds) * (resampled - mean)
    return expanded


def seeds_expansion(num_seeds: int) -> float:
    """The factor by which means of resampled seeds vary too little; see `difference_intervals`."""
    return math.sqrt(num_seeds / (num_seeds - 1))


def label_strata(references: NDArray[Any]) -> list[NDArray[np.intp]]:
    """The rows of each label; for multi-label rows and values, all rows together."""
    if references.ndim > 1 or references.dtype.kind == "f":
        return [np.arange(len(references))]
    return [np.flatnonzero(references == label) for label in np.unique(references)]


def count_draws(drawn: NDArray[np.intp], num_rows: int) -> NDArray[np.int64]:
    """Row numbers (resamples, draws) -> how often each row was drawn (resamples, rows)."""
    offsets = np.arange(len(drawn))[:, None] * num_rows
    counts = np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * num_rows)
    return counts.reshape(len(drawn), num_rows)


def resamples_per_batch(num_rows: int) -> int:
    """How many resamples of so many rows are held in memory at once."""
    return max(1, MAX_COUNTS_PER_BATCH // max(1, num_rows))


def _percentiles(keys: Sequence[str], draws: Floats) -> dict[str, Interval]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=1).tolist()
    return _finite(zip(keys, low, high, strict=True))


def _finite(ends: Iterable[tuple[str, float, float]]) -> dict[str, Interval]:
    return {key: (low, high) for key, low, high in ends if math.isfinite(low + high)}
