"""The study's scores: each recipe's gain over the default of the same seed and fold, with its interval."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from quality.recipes import DEFAULT
from quality.training import FOLDS, Data

Floats = NDArray[np.float64]
LEVEL = 0.95
FEW = 2


def score(task: str, labels: Floats, predictions: Floats) -> float:
    """GLUE's own score of a task, in points: the mean of its metrics, where it has two."""
    if task == "stsb":
        pearson = stats.pearsonr(labels, predictions).statistic
        return float(100 * (pearson + stats.spearmanr(labels, predictions).statistic) / 2)
    found = predictions > 0.5  # noqa: PLR2004
    if task == "cola":
        return float(100 * matthews_corrcoef(labels, found))
    return float(100 * (accuracy_score(labels, found) + f1_score(labels, found)) / 2)


OF_FOLDS = 1 / (FOLDS - 1)


def mean_interval(gains: Sequence[float], correction: float) -> tuple[float, float, float]:
    """The mean and its 95 % interval, Student's t.

    Args:
        gains: of several seeds.
        correction: what is added to 1 / n of the variance. Folds share training rows, so that their gains
            depend on each other: the ratio of held-out to training rows (Nadeau and Bengio, 2003).
            0 for seeds on the same rows.
    """
    mean, n = float(np.mean(gains)), len(gains)
    if n == 1:
        return mean, float("-inf"), float("inf")
    variance = float(np.var(gains, ddof=1)) * (1 / n + correction)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * variance**0.5
    return mean, mean - half, mean + half


def describe(results: Sequence[dict[str, Any]], glue: Path) -> list[str]:
    """A Markdown table for each task, of folds and of GLUE's own split.

    Two seeds have their gains: an interval of two is 8 times as wide as they are apart.
    """

    @cache
    def labels(task: str, seed: int | None) -> Floats:
        return np.asarray(Data.read(task, glue, seed).raw["validation"]["label"], dtype=np.float64)

    tables: dict[str, dict[str, dict[int, float]]] = {}
    for line in results:
        task, own_split = line["task"], line["own_split"]
        truth = labels(task, None if own_split else line["seed"])
        points = score(task, truth, np.asarray(line["predictions"]))
        title = f"**{task}**, {'its own split' if own_split else 'folds of its training rows'}"
        tables.setdefault(title, {}).setdefault(line["recipe"], {})[line["seed"]] = points
    lines = []
    for title, recipes in tables.items():
        lines += [title, "", "| recipe | seeds | score | gain |", "|---|---|---|---|"]
        default = recipes.get(DEFAULT, {})
        for name, found in recipes.items():
            seeds = sorted(found.keys() & default.keys())
            if not seeds:
                continue
            gains = [found[seed] - default[seed] for seed in seeds]
            mean, low, high = mean_interval(gains, OF_FOLDS if "folds" in title else 0.0)
            each = f"{low:+.2f} to {high:+.2f}"
            if len(gains) <= FEW:
                each = ", ".join(f"{gain:+.2f}" for gain in gains)
            gain = "" if name == DEFAULT else f"{mean:+.2f} ({each})"
            level = np.mean([found[seed] for seed in seeds])
            lines.append(f"| {name} | {len(seeds)} | {level:.2f} | {gain} |")
        lines.append("")
    return lines
