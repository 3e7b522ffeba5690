"""How far a score may be from what more rows, or more seeds, would give: bootstrap intervals."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.metrics.resampled import Floats, ResampledScores

LEVEL = 0.95
NUM_RESAMPLES = 2000
SEED = 0
MOST_NUMBERS_AT_ONCE = 4_000_000  # of a batch of resamples: 32 MB
Interval = tuple[float, float]


def score_intervals(
    scores: ResampledScores, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """The 95 % interval of each score of one model, over the draw of the rows.

    `scipy.stats.bootstrap`'s percentiles. The rows of each label are resampled by themselves
    (stratified), so each resample has the mix of labels that the rows have: the interval is about
    other rows of this mix, as a validation part that was split by label is. Where the mix itself is
    a matter of chance, and the labels are not equally hard, it is wider than this. Rows of several
    labels, and values, are resampled all together.

    Args:
        scores: of the rows.
        num_resamples: how many.
        seed: of the resamples; no global generator is touched.

    Returns:
        Lower and upper end by the score's name; without scores that some resample does not define,
        and those that are the same in every resample, as where no row is wrong: of them a bootstrap
        says nothing.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    strata = strata_of(scores.references)
    num_rows = len(scores.references)
    if num_rows < 2:  # noqa: PLR2004
        return {}
    fixed = [rows for rows in strata if len(rows) == 1]  # scipy takes no sample of one
    drawn = [rows for rows in strata if len(rows) > 1]
    if not drawn:
        return {}

    def statistic(*samples: NDArray[np.intp], axis: int) -> Floats:
        rows = np.atleast_2d(np.concatenate(samples, axis=axis))
        counts = count_rows(rows, num_rows)
        for alone in fixed:
            counts[:, alone] = 1
        return scores(counts)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of what is left out below
        interval = bootstrap(
            drawn,
            statistic,
            vectorized=True,
            axis=-1,
            n_resamples=num_resamples,
            batch=batch_size(num_rows),
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = (np.reshape(end, -1).tolist() for end in interval)
    found = _finite(zip(scores.keys, low, high, strict=True))
    return {name: ends for name, ends in found.items() if ends[0] < ends[1]}


def mean_intervals(
    of_seeds: Sequence[ResampledScores],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """The 95 % interval of each score's mean over seeds, over the draw of the rows and the seeds.

    See `difference_intervals`, of which this is one side.
    """
    draws = _two_level(of_seeds, num_resamples, np.random.default_rng(seed))
    return _percentiles(of_seeds[0].keys, draws)


def difference_intervals(
    first: Sequence[ResampledScores],
    second: Sequence[ResampledScores],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """The 95 % interval of second minus first, each a model or a mean over seeds; paired by row.

    A two-level bootstrap: a resample draws rows, stratified by label and the same for every model,
    and each side's seeds. The scores of few seeds drawn with replacement are too close together;
    they are spread by sqrt(k / (k - 1)) of k seeds around their mean, which makes their variance that
    of k new seeds (B. Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982,
    section 10.7). Where seeds differ more than rows do, an interval of few seeds is still too
    narrow: benchmarks/coverage.py says by how much. One seed says nothing of others: then the
    interval is about these trained models.

    Args:
        first, second: the scores of each seed's model on the same rows in the same order.
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
    of_seeds: Sequence[ResampledScores],
    num_resamples: int,
    of_rows: np.random.Generator,
    of_choice: np.random.Generator | None = None,
) -> Floats:
    """The mean over seeds in each resample of rows and seeds, (scores, resamples)."""
    references = of_seeds[0].references
    strata = strata_of(references)
    count, size = len(of_seeds), batch_size(len(references))
    blocks = []
    for start in range(0, num_resamples, size):
        drawn = min(size, num_resamples - start)
        rows = [of_rows.choice(stratum, (drawn, len(stratum))) for stratum in strata]
        counts = count_rows(np.concatenate(rows, axis=1), len(references))
        blocks.append(np.stack([scores(counts) for scores in of_seeds]))
    values: Floats = np.concatenate(blocks, axis=-1)  # (seeds, scores, resamples)
    mean: Floats = values.mean(axis=0)
    if count == 1:
        return mean
    chosen = (of_choice or of_rows).integers(count, size=(count, num_resamples))
    times = (chosen[:, None] == np.arange(count)[:, None]).sum(axis=0)  # (seeds, resamples)
    of_chosen = (values * times[:, None]).sum(axis=0) / count
    expanded: Floats = mean + seeds_expansion(count) * (of_chosen - mean)
    return expanded


def seeds_expansion(count: int) -> float:
    """How much too close together the means of so many resampled seeds are; see above."""
    return math.sqrt(count / (count - 1))


def strata_of(references: NDArray[Any]) -> list[NDArray[np.intp]]:
    """The rows of each label; of several labels a row, and of values, all rows together."""
    if references.ndim > 1 or references.dtype.kind == "f":
        return [np.arange(len(references))]
    return [np.flatnonzero(references == label) for label in np.unique(references)]


def count_rows(drawn: NDArray[np.intp], num_rows: int) -> NDArray[np.int64]:
    """Row numbers (resamples, draws) -> how often each row was drawn (resamples, rows)."""
    offsets = np.arange(len(drawn))[:, None] * num_rows
    counts = np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * num_rows)
    return counts.reshape(len(drawn), num_rows)


def batch_size(num_rows: int) -> int:
    """How many resamples of so many rows are held at once."""
    return max(1, MOST_NUMBERS_AT_ONCE // max(1, num_rows))


def _percentiles(keys: Sequence[str], draws: Floats) -> dict[str, Interval]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=1).tolist()
    return _finite(zip(keys, low, high, strict=True))


def _finite(ends: Any) -> dict[str, Interval]:
    return {key: (low, high) for key, low, high in ends if math.isfinite(low + high)}
