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
    """A Markdown table for each task, of folds and of GLUE's own split."""

    @cache
    def labels(task: str, fold: int | None) -> Floats:
        return np.asarray(Data.read(task, glue, fold).raw["validation"]["label"], dtype=np.float64)

    tables: dict[str, dict[str, dict[int, tuple[float, float]]]] = {}
    for line in results:
        task, fold = line["task"], line["fold"]
        points = score(task, labels(task, fold), np.asarray(line["predictions"]))
        title = f"**{task}**, {'its own split' if fold is None else 'folds of its training rows'}"
        recipes = tables.setdefault(title, {})
        recipes.setdefault(line["recipe"], {})[line["seed"]] = (points, line["seconds"])
    lines = []
    for title, recipes in tables.items():
        lines += [title, "", "| recipe | seeds | score | gain (95 % interval) | time |"]
        lines += ["|---|---|---|---|---|"]
        default = recipes[DEFAULT]
        for name, found in recipes.items():
            seeds = sorted(found.keys() & default.keys())
            if not seeds:
                continue
            gains = [found[seed][0] - default[seed][0] for seed in seeds]
            correction = OF_FOLDS if "folds" in title else 0.0
            mean, low, high = mean_interval(gains, correction)
            gain = "" if name == DEFAULT else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
            times = np.mean([found[seed][1] / default[seed][1] for seed in seeds])
            level = np.mean([found[seed][0] for seed in seeds])
            lines.append(f"| {name} | {len(seeds)} | {level:.2f} | {gain} | {times:.2f} |")
        lines.append("")
    return lines
