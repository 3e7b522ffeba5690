"""Train several seeds of one run, each in its own folder, and summarize their scores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plainloop.atomic_file import write_json
from plainloop.config.settings import LESS_IS_BETTER, TrainConfig
from plainloop.console import draws_on_terminal, emit, say
from plainloop.errors import UserError
from plainloop.experiments.seeds_page import write_seeds_report
from plainloop.metrics.bootstrap import (
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    mean_intervals,
    score_intervals,
)
from plainloop.metrics.decision_rule import fits_decision
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.predict.ensemble import average_logits, seed_folders
from plainloop.predict.loaded_run import Run, load_run
from plainloop.report.content import main_split, shown_label
from plainloop.report.end_of_training import lacks_pages, say_report, write_pages
from plainloop.report.page import read_metrics
from plainloop.report.terminal import draw_seeds
from plainloop.run.folder import check_output_dir, is_finished, lock_folder
from plainloop.run.machine_limits import explain_training_errors
from plainloop.run.rank_failure import raise_on_all_ranks
from plainloop.run.signals import StopRequest
from plainloop.training.prepare import Inputs, read_inputs

SUMMARY_FILE = "summary.json"
LARGEST_SEED = 2**32 - 1


def choose_seeds(given: Sequence[int], first: int) -> list[int]:
    """Determine the seeds from the values of --seeds.

    Args:
        given: several seeds, or a single number N for the N seeds from `first` on.
        first: first seed, from --seed.

    Raises:
        UserError: there are fewer than two seeds, or duplicate or out-of-range ones.
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
    """Train each seed in OUTPUT_DIR/seed-N, and write a summary; --resume skips finished seeds.

    The rows are read and split once, so that all seeds are evaluated on the same rows.

    Args:
        config: settings of the run.
        given: values of --seeds; see `choose_seeds`.
        stop: stop request, as in `fine_tune`.

    Raises:
        UserError: as `load_inputs`, or a setting cannot be combined with several seeds.
    """
    inputs, configs = load_shared_inputs(config, choose_seeds(given, config.seed))
    from plainloop.run.accelerator import create_accelerator

    # This initializes the process group. `train_unless_finished` makes a PartialState, which would
    # be of a single process if it were the first.
    accelerator = create_accelerator(config)
    with raise_on_all_ranks(accelerator):
        if accelerator.is_main_process and not config.dry_run:
            lock_folder(config.run_path, f"--output-dir {config.run_path}")
    for each in configs:
        path = each.run_path
        if train_unless_finished(replace(inputs, config=each), stop, "Run", str(path)):
            write_pages(path)
        elif accelerator.is_main_process and not config.dry_run and lacks_pages(path):
            lock_folder(path, f"--output-dir {path}")
            write_pages(path)
    if accelerator.is_main_process and not config.dry_run:
        report_summary(config.run_path, [load_run(each.run_path) for each in configs])


def load_shared_inputs(
    config: TrainConfig, seeds: Sequence[int]
) -> tuple[Inputs, list[TrainConfig]]:
    """Read the data once for all seeds, and derive the settings of each seed.

    Returns:
        The inputs of the first seed, and the settings of every seed (in a dry run only the first).

    Raises:
        UserError: as `load_inputs`, or a setting cannot be combined with several seeds.
    """
    if config.resume_from_checkpoint is not None:
        raise UserError(
            "is a checkpoint of one seed", where="--resume-from-checkpoint", fix="give --resume"
        )
    if config.eval_strategy == "no":
        raise UserError("needs evaluations", where="--seeds", fix="set --eval-strategy epoch")
    folder = config.run_path
    if not (config.task or config.validation_file):
        # By default the validation rows are drawn with the run's seed, so that each seed would be
        # evaluated on other rows.
        config = replace(config, validation_seed=config.split_seed)
    first = replace(config, seed=seeds[0], output_dir=folder / f"seed-{seeds[0]}")
    inputs = read_inputs(first)
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
        inputs: inputs of the run.
        stop: stop request, as in `fine_tune`.
        title, text: line to print first; a note is added if the run was already finished.

    Returns:
        Whether the run was trained; False for a dry run.
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
    """Write and print the summary of finished seeds, and write their report."""
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


def load_seeds(path: Path, *, accept_changed_files: bool = False) -> list[Run]:
    """Open the run in a folder, or the runs of all seeds in it, sorted by seed.

    Raises:
        UserError, CheckpointError: as `load_run`.
    """
    folders = seed_folders(path) or [path]
    return [load_run(folder, accept_changed_files=accept_changed_files) for folder in folders]


def summarize_seeds(runs: Sequence[Run]) -> dict[str, Any]:
    """Summarize the scores of several evaluated seeds of a run.

    Returns:
        task: name of the task.
        seeds: the seeds.
        split, rows: name and number of rows of the evaluated split.
        headline: name of the headline metric.
        scores: metric -> mean over seeds, sample standard deviation (ddof=1; None for one seed),
            95 % interval of the mean over resampled rows and seeds, and the score of each seed.
        best, worst: seeds with the best and the worst headline score.
        ensemble: metric -> score and 95 % interval over rows of the mean prediction of all seeds; None
            with a decision rule.
        failed: seed -> the label that its model predicts for every row, if it does.
        intervals: level, method, number of resamples and seed of the intervals.
    """
    metrics = [read_metrics(run) for run in runs]
    split = main_split(metrics[0])
    assert split is not None  # noqa: S101 - the caller has looked
    task, seeds = runs[0].task, [run.config.seed for run in runs]
    rows = [RowPredictions.load(run.path, split, run.decision) for run in runs]
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
    ensemble = None
    if not any(fits_decision(run.config) for run in runs):
        mean = average_logits([each.logits for each in rows], task.problem_type)
        scorer = replace(rows[0], logits=mean).scorer(list(scores), task)
        found, ends = scorer.plain_scores(), score_intervals(scorer)
        ensemble = {
            name: {"score": found[name], "interval": list(ends[name]) if name in ends else None}
            for name in scores
            if name in found
        }
    headline = next(iter(scores))
    order = np.argsort(scores[headline]["by_seed"], kind="stable")
    low, high = seeds[order[0]], seeds[order[-1]]
    less = headline in LESS_IS_BETTER
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
        "ensemble": ensemble,
        "failed": {
            str(seed): shown_label(constant, task.label_names)
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
    """Write summary.json into the folder of the seeds; return its contents."""
    summary = summarize_seeds(runs)
    write_json(folder / SUMMARY_FILE, summary)
    return summary
