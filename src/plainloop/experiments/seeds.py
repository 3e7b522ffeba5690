"""Several seeds of one run: train each in its own folder, then summarise their scores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plainloop.atomic_file import write_json
from plainloop.config.settings import LESS_IS_BETTER, TrainConfig
from plainloop.console import draws_on_terminal, emit, say
from plainloop.errors import UserError, printable
from plainloop.experiments.seeds_page import write_seeds_report
from plainloop.metrics.bootstrap import LEVEL, NUM_RESAMPLES, SEED, mean_intervals
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.predict.loaded_run import Run, load_run
from plainloop.report.content import main_split, shown_label
from plainloop.report.end_of_training import say_report, write_pages
from plainloop.report.page import read_metrics
from plainloop.report.terminal import draw_seeds
from plainloop.run.folder import check_output_dir, is_finished
from plainloop.run.machine_limits import explain_training_errors
from plainloop.run.signals import StopRequest
from plainloop.training.prepare import Inputs, load_inputs

SEED_FOLDERS = "seed-*"
SUMMARY_FILE = "summary.json"
LARGEST_SEED = 2**32 - 1


def choose_seeds(given: Sequence[int], first: int) -> list[int]:
    """The seeds to train: several given ones, or, given one number, that many from `first` on.

    Raises:
        UserError: fewer than two, one twice, or one out of range.
    """
    seeds = [first + number for number in range(given[0])] if len(given) == 1 else list(given)
    what = ""
    if len(seeds) < 2:  # noqa: PLR2004
        what = f"{given[0]} is one run or none"
    elif len(set(seeds)) < len(seeds):
        what = "a seed is given twice"
    elif min(seeds) < 0 or max(seeds) > LARGEST_SEED:
        what = f"a seed is not between 0 and {LARGEST_SEED}"
    if what:
        raise UserError(
            what, where="--seeds", fix="give how many, at least 2, or several different seeds"
        )
    return seeds


def train_seeds(config: TrainConfig, given: Sequence[int], stop: StopRequest) -> None:
    """Train each seed in OUTPUT_DIR/seed-N, unless it is finished and --resume is given.

    The rows are read and split once, so that all seeds are evaluated on the same ones.

    Raises:
        UserError: as `load_inputs`, or a setting that several seeds cannot have.
    """
    inputs, configs = load_shared_inputs(config, choose_seeds(given, config.seed))
    from plainloop.run.accelerator import create_accelerator

    # Here the processes join. A PartialState made earlier would take this one to be the only one.
    accelerator = create_accelerator(use_cpu=config.use_cpu, ddp_timeout=config.ddp_timeout)
    for each in configs:
        if train_unless_finished(replace(inputs, config=each), stop, "Run", str(each.run_path)):
            write_pages(each.run_path)
    if accelerator.is_main_process and not config.dry_run:
        report_summary(config.run_path, [load_run(each.run_path) for each in configs])


def load_shared_inputs(
    config: TrainConfig, seeds: Sequence[int]
) -> tuple[Inputs, list[TrainConfig]]:
    """Read the data once for all seeds, and give each seed its settings.

    Returns:
        The inputs of the first seed, and the settings of each; of a dry run those of the first only.

    Raises:
        UserError: as `load_inputs`, or a setting that several seeds cannot have.
    """
    if config.resume_from_checkpoint is not None:
        raise UserError(
            "is a checkpoint of one seed", where="--resume-from-checkpoint", fix="give --resume"
        )
    if config.eval_strategy == "no":
        raise UserError("needs evaluations", where="--seeds", fix="set --eval-strategy epoch")
    folder = config.run_path
    if not (config.task or config.validation_file):
        # The validation rows are drawn with the run's seed unless this is set: seeds would be
        # evaluated on different rows.
        config = replace(config, validation_seed=config.split_seed)
    first = replace(config, seed=seeds[0], output_dir=folder / f"seed-{seeds[0]}")
    inputs = load_inputs(first)
    if config.dry_run:
        return inputs, [inputs.config]
    configs = [
        replace(inputs.config, seed=seed, output_dir=folder / f"seed-{seed}") for seed in seeds
    ]
    for each in configs:
        check_output_dir(each)
    return inputs, configs


def train_unless_finished(inputs: Inputs, stop: StopRequest, title: str, text: str) -> bool:
    """Train one of several runs, unless it is finished and --resume is given.

    Args:
        inputs: of the run.
        stop: as of `fine_tune`.
        title, text: printed before, with whether the run was finished before.

    Returns:
        Whether it was trained; False for a dry run.
    """
    from accelerate import PartialState

    from plainloop.training.fine_tune import fine_tune

    config = inputs.config
    done = config.resume and is_finished(config.run_path)
    if PartialState().is_main_process:
        say(title, f"{text}{': finished before' if done else ''}")
    if done:
        return False
    with explain_training_errors(config):
        return bool(fine_tune(config, inputs, stop))


def report_summary(folder: Path, runs: Sequence[Run]) -> None:
    """Write and print the summary of finished seeds, and their report."""
    from plainloop.training.progress import describe_scores

    summary = write_summary(folder, runs)
    emit("summary", summary)
    for title, key in (("Mean", "mean"), ("Deviation", "standard_deviation")):
        of_seeds = {name: score[key] for name, score in summary["scores"].items()}
        say(title, describe_scores(of_seeds))
    for seed, label in summary["failed"].items():
        say("Failed", f"seed {seed} answers {label} to every row: it has not learned anything")
    if draws_on_terminal():
        draw_seeds(runs, summary)
    say("Summary", str(folder / SUMMARY_FILE))
    say_report(folder, lambda: write_seeds_report(folder, runs, summary))


def load_seeds(path: Path) -> list[Run]:
    """The run in a folder, or the runs of each seed in it, by seed.

    Raises:
        UserError: no run, or one that is not finished.
    """
    folders = sorted(path.glob(SEED_FOLDERS), key=lambda folder: (len(folder.name), folder.name))
    return [load_run(folder) for folder in folders] or [load_run(path)]


def summarize_seeds(runs: Sequence[Run]) -> dict[str, Any]:
    """Summarise the scores of several evaluated seeds of a run.

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
    intervals = mean_intervals([each.scorer(names, task) for each in rows])
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
