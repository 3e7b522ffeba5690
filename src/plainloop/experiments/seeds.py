"""The seeds of a run: a folder of runs that differ in nothing else, and what they say together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plainloop.atomic_file import write_json
from plainloop.config.settings import LESS_IS_BETTER
from plainloop.errors import printable
from plainloop.metrics.bootstrap import LEVEL, NUM_RESAMPLES, SEED, mean_intervals
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.predict.loaded_run import Run, load_run
from plainloop.report.content import main_split, shown_label
from plainloop.report.page import read_metrics

SEED_FOLDERS = "seed-*"
SUMMARY_FILE = "summary.json"


def load_seeds(path: Path) -> list[Run]:
    """The run in a folder, or the runs of each seed in it, by seed.

    Raises:
        UserError: no run, or one that is not finished.
    """
    folders = sorted(path.glob(SEED_FOLDERS), key=lambda folder: (len(folder.name), folder.name))
    return [load_run(folder) for folder in folders] or [load_run(path)]


def summarize_seeds(runs: Sequence[Run]) -> dict[str, Any]:
    """What several seeds of a run say together; of runs that were evaluated.

    Returns:
        seeds; split, and rows, how many it has; scores, of each metric its mean over seeds, its
        standard deviation between seeds (of the sample: divided by one less than their number),
        by_seed, and the interval of the mean over the draw of rows and seeds; best and worst, the
        seeds with the best and the worst headline score; failed, the seeds whose model gives every
        row the same label, by seed; intervals, how they were made.
    """
    metrics = [read_metrics(run) for run in runs]
    split = main_split(metrics[0])
    assert split is not None  # noqa: S101 - the caller has looked
    task, seeds = runs[0].task, [run.config.seed for run in runs]
    rows = [RowPredictions.load(run.path, split) for run in runs]
    names = [name for name in task.metrics if name in metrics[0]["analysis"][split]["scores"]]
    intervals = mean_intervals([each.resampled_scores(names, task) for each in rows])
    scores: dict[str, dict[str, Any]] = {}
    for name in names:
        of_seeds = [each["analysis"][split]["scores"].get(name) for each in metrics]
        if None in of_seeds:
            continue
        scores[name] = {
            "mean": float(np.mean(of_seeds)),
            "standard_deviation": float(np.std(of_seeds, ddof=1)) if len(seeds) > 1 else None,
            "interval": list(intervals[name]) if name in intervals else None,
            "by_seed": of_seeds,
        }
    headline = next(iter(scores))
    order = np.argsort(scores[headline]["by_seed"], kind="stable")
    low, high = seeds[order[0]], seeds[order[-1]]
    less = headline in LESS_IS_BETTER
    label_names = [printable(name) for name in task.label_names]
    constants = [each["analysis"][split].get("constant") for each in metrics]
    return {
        "task": task.name,
        "seeds": seeds,
        "split": split,
        "rows": len(rows[0].idx),
        "headline": headline,
        "scores": scores,
        "best": low if less else high,
        "worst": high if less else low,
        "failed": {
            str(seed): shown_label(constant, label_names)
            for seed, constant in zip(seeds, constants, strict=True)
            if constant is not None
        },
        "intervals": {
            "level": LEVEL,
            "method": "two-level bootstrap percentiles, over rows and seeds",
            "num_resamples": NUM_RESAMPLES,
            "seed": SEED,
        },
    }


def write_summary(folder: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """Write summary.json into the folder of several seeds; return what it holds."""
    summary = summarize_seeds(runs)
    write_json(folder / SUMMARY_FILE, summary)
    return summary
