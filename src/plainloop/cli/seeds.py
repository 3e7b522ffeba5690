"""`plainloop train --seeds`: each seed a run in its own folder, then what they say together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError

if TYPE_CHECKING:
    from plainloop.run.signals import StopRequest
    from plainloop.training.prepare import Inputs

LARGEST_SEED = 2**32 - 1


def choose_seeds(given: Sequence[int], first: int) -> list[int]:
    """The seeds to train: those given; or, of one number, so many from the first on.

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


def train_seeds(config: TrainConfig, given: Sequence[int], stop: "StopRequest") -> None:
    """Train each seed in OUTPUT_DIR/seed-N, unless it is finished and --resume is given.

    The rows are read, and split, once: all seeds are evaluated on the same ones.

    Raises:
        UserError: as `load_inputs`; or what cannot be had of several seeds.
    """
    inputs, configs = read_once(config, choose_seeds(given, config.seed))
    from plainloop.cli.report import write_pages
    from plainloop.console import say
    from plainloop.run.accelerator import create_accelerator
    from plainloop.run.folder import is_finished
    from plainloop.run.machine_limits import explain_training_errors
    from plainloop.training.fine_tune import fine_tune

    # The processes meet here: whoever asks for Accelerate's state before takes himself to be alone.
    accelerator = create_accelerator(use_cpu=config.use_cpu, ddp_timeout=config.ddp_timeout)
    for each in configs:
        done = each.resume and is_finished(each.run_path)
        if accelerator.is_main_process:
            say("Run", f"{each.run_path}{': finished before' if done else ''}")
        if not done:
            with explain_training_errors(each):
                if fine_tune(each, replace(inputs, config=each), stop):
                    write_pages(each.run_path)
    if accelerator.is_main_process and not config.dry_run:
        conclude(config.run_path, [each.run_path for each in configs])


def read_once(config: TrainConfig, seeds: Sequence[int]) -> tuple["Inputs", list[TrainConfig]]:
    """The inputs of all seeds, and the settings of each; of a dry run those of the first alone.

    Raises:
        UserError: as `load_inputs`; or what cannot be had of several seeds.
    """
    if config.resume_from_checkpoint is not None:
        raise UserError(
            "is a checkpoint of one seed", where="--resume-from-checkpoint", fix="give --resume"
        )
    if config.eval_strategy == "no":
        raise UserError("needs evaluations", where="--seeds", fix="set --eval-strategy epoch")
    from plainloop.run.folder import check_output_dir
    from plainloop.training.prepare import load_inputs

    folder = config.run_path
    if not (config.task or config.validation_file):
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


def conclude(folder: Path, paths: Sequence[Path]) -> None:
    """Write and print what finished seeds say together."""
    from plainloop.console import draws_on_terminal, emit, say
    from plainloop.experiments.seeds import SUMMARY_FILE, write_summary
    from plainloop.experiments.seeds_page import write_seeds_report
    from plainloop.predict.loaded_run import load_run
    from plainloop.report.page import check_report_packages
    from plainloop.report.terminal import draw_seeds
    from plainloop.training.progress import describe_scores

    runs = [load_run(path) for path in paths]
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
    try:
        check_report_packages("Report")
        say("Report", str(write_seeds_report(folder, runs, summary)))
    except UserError as missing:
        say("Report", f"none: {missing.fix}, then plainloop report {folder}")
