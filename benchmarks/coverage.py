"""How often the 95 % intervals hold the true score: simulated validation sets of MRPC's size.

    python benchmarks/coverage.py

A row is as hard as it is, whatever the seed; a seed's model is as good as it is, whatever the row; and
some of both is chance. The true score is that of rows, and of seeds, without end. Each simulation
draws 408 rows, with as many of each label as MRPC's validation rows have, and computes the intervals
as a run does. Prints a table; ends with 1 where a promised coverage is not between 92 % and 98 %. The
last lines are not promised: they show what the intervals do not cover.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from tqdm.auto import tqdm

from plainloop.metrics.bootstrap import mean_intervals, score_intervals
from plainloop.metrics.scorer import Scorer

NUM_ROWS, NUM_POSITIVE = 408, 279  # of MRPC's validation rows
NAMES = ("accuracy", "f1")
PROMISED = (0.92, 0.98)


@dataclass(frozen=True)
class World:
    """Where rows, models and labels come from; all in logits of being right.

    Attributes:
        ease: of a row with label 0, and with label 1.
        sd_rows: standard deviation of how hard rows are.
        sd_seeds: of how good seeds are.
        sd_both: of what only this seed makes of this row.
        mix_varies: whether a validation set's number of positives is chance, too.
    """

    ease: tuple[float, float] = (1.0, 4.0)
    sd_rows: float = 2.0
    sd_seeds: float = 0.3
    sd_both: float = 1.0
    mix_varies: bool = False

    def predict(
        self, labels: NDArray[np.int64], num_seeds: int, draw: np.random.Generator
    ) -> NDArray[np.int64]:
        """The predictions of new seeds for new rows, (seeds, rows)."""
        rows = np.take(self.ease, labels) + draw.normal(0, self.sd_rows, len(labels))
        seeds = draw.normal(0, self.sd_seeds, (num_seeds, 1))
        both = draw.normal(0, self.sd_both, (num_seeds, len(labels)))
        return np.where(rows + seeds + both > 0, labels, 1 - labels)

    def labels(self, draw: np.random.Generator) -> NDArray[np.int64]:
        """The labels of a validation set."""
        if self.mix_varies:
            return (draw.random(NUM_ROWS) < NUM_POSITIVE / NUM_ROWS).astype(np.int64)
        return (np.arange(NUM_ROWS) < NUM_POSITIVE).astype(np.int64)

    def true_scores(self, num_seeds: int = 4001) -> NDArray[np.float64]:
        """Mean over seeds of accuracy and F1 on rows without end: no draw, the normal's quantiles."""
        seeds = norm.ppf((np.arange(num_seeds) + 0.5) / num_seeds) * self.sd_seeds
        spread = np.hypot(self.sd_rows, self.sd_both)
        recalls = norm.cdf((np.array(self.ease)[:, None] + seeds) / spread)  # (labels, seeds)
        share = NUM_POSITIVE / NUM_ROWS
        hits, false_alarms = share * recalls[1], (1 - share) * (1 - recalls[0])
        accuracy = hits + (1 - share) * recalls[0]
        return np.array([accuracy.mean(), (2 * hits / (hits + false_alarms + share)).mean()])


def coverage(world: World, num_seeds: int, num_simulations: int, title: str) -> NDArray[np.float64]:
    """Share of the simulations whose intervals hold the true accuracy, and the true F1."""
    truth = world.true_scores()
    held = np.zeros(len(NAMES))
    for number in tqdm(range(num_simulations), desc=title, unit="simulation", leave=False):
        draw = np.random.default_rng([2, number])
        labels = world.labels(draw)
        models = [
            Scorer(NAMES, labels, predicted, num_labels=2)
            for predicted in world.predict(labels, num_seeds, draw)
        ]
        intervals = score_intervals(models[0]) if num_seeds == 1 else mean_intervals(models)
        ends = np.array([intervals[name] for name in NAMES])
        held += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return held / num_simulations


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    num_simulations = parser.parse_args().simulations
    no_seeds = World(sd_seeds=0.0)
    cases = [
        ("one run, over rows", no_seeds, 1, True),
        ("mean of 3 seeds, over rows and seeds", World(), 3, True),
        ("mean of 5 seeds, over rows and seeds", World(), 5, True),
        ("mean of 5 seeds that differ much", World(sd_seeds=1.0), 5, False),
        (
            "one run, the mix of labels is chance, too",
            World(sd_seeds=0.0, mix_varies=True),
            1,
            False,
        ),
    ]
    print(f"{'':<44}{'accuracy':>10}{'F1':>10}   of {num_simulations} simulations")
    failed = False
    for title, world, num_seeds, promised in cases:
        shares = coverage(world, num_seeds, num_simulations, title)
        cells = "".join(f"{share:>10.1%}" for share in shares)
        print(f"{title:<44}{cells}   {'' if promised else 'not promised'}".rstrip())
        failed |= promised and not all(PROMISED[0] <= share <= PROMISED[1] for share in shares)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
