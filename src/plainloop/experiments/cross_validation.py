"""Find label errors in the training rows: cross-validated predictions and confident learning."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from plainloop.atomic_file import write_json
from plainloop.config.settings import METRIC_SCHEDULES, TrainConfig
from plainloop.config.tasks import Task
from plainloop.console import say
from plainloop.data.custom.split import number_texts, one_of_each
from plainloop.errors import UserError
from plainloop.experiments.seeds import train_unless_finished
from plainloop.metrics.analysis import add_places, analyse
from plainloop.metrics.row_predictions import RowPredictions, concatenate_predictions
from plainloop.run.atomic import MANIFEST_FILE
from plainloop.run.folder import METRICS_FILE, load_metrics
from plainloop.run.manifest import write_manifest
from plainloop.run.signals import StopRequest
from plainloop.training.prepare import Inputs

CV_FOLDER = "cv"
SEED = 0


def check_folds(inputs: Inputs, num_folds: int) -> None:
    """Check before training that `--cv` is possible.

    Args:
        inputs: inputs of the run.
        num_folds: value of --cv.

    Raises:
        UserError: the number of folds is out of range, or the task is a regression.
    """
    what, rows = "", len(inputs.raw["train"])
    if inputs.task.problem_type == "regression":
        what, fix = "suspects labels, and here they are numbers", "leave it out"
    elif not 1 < num_folds <= rows:
        what, fix = f"{num_folds} folds of {rows} training rows", f"give 2 to {rows}, as 5"
    if what:
        raise UserError(what, where="--cv", fix=fix)


def find_label_errors(inputs: Inputs, num_folds: int, stop: StopRequest) -> None:
    """Predict each fold of the training rows with a model trained on the others; list label errors.

    Adds the key cv to metrics.json of the finished run, and writes the out-of-fold predictions into
    its folder cv. The models of the folds are deleted. With --resume, finished folds are skipped.

    Args:
        inputs: inputs of the run, which is finished.
        num_folds: number of folds, checked by `check_folds`.
        stop: stop request, as in `fine_tune`.
    """
    from accelerate import PartialState
    from datasets import DatasetDict

    train, folder = inputs.raw["train"], inputs.config.run_path / CV_FOLDER
    labels, paths = np.array(train["label"][:]), []
    table = train.with_format("arrow")[:]
    copies = number_texts(table[name] for name in inputs.task.text_columns)
    if not inputs.config.group_duplicates:
        copies = np.arange(len(labels))
    for number, (rest, fold) in enumerate(split_folds(labels, inputs.task, num_folds, copies), 1):
        config = config_of_fold(inputs.config, number)
        paths.append(config.run_path)
        raw = DatasetDict(train=train.select(rest), validation=train.select(fold))
        # A fold's metrics.json is deleted, so baselines would be computed for nothing.
        check = replace(inputs.check, raw=raw, baselines=False)
        of_fold = replace(inputs, config=config, raw=raw, check=check)
        text = f"{number} of {num_folds}, {len(fold)} rows held out"
        train_unless_finished(of_fold, stop, "Fold", text)
    if not PartialState().is_main_process:
        return
    rows = concatenate_predictions([RowPredictions.load(path, "validation") for path in paths])
    found = analyse(rows, inputs.task, intervals=False)
    add_places(found, partial(inputs.check.show, "train"))
    kept = ("rows", "scores", "num_suspected", "suspected")
    metrics = load_metrics(inputs.config.run_path)
    metrics[CV_FOLDER] = {"folds": num_folds, **{name: found[name] for name in kept}}
    # Without a manifest a run is used, with a warning: a process killed in between leaves no run
    # that is refused.
    (inputs.config.run_path / MANIFEST_FILE).unlink(missing_ok=True)
    rows.save(folder, "train")
    write_json(inputs.config.run_path / METRICS_FILE, metrics)
    write_manifest(inputs.config.run_path)
    for path in paths:
        shutil.rmtree(path)
    say("Suspected", f"{found['num_suspected']} labels of {found['rows']} training rows")


def split_folds(
    labels: NDArray[np.int64], task: Task, num_folds: int, copies: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split the rows into shuffled folds, stratified if each label has a row for each fold.

    Args:
        labels: int64 (rows,), or multi-hot (rows, num_labels).
        task: the task; multi-label rows are not stratified.
        num_folds: at most the number of rows.
        copies: a number for each row; rows of one number are in one fold.

    Yields:
        For each fold the indices of the training rows and of the held-out rows, int (n,) each.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    single = task.problem_type == "single_label_classification"
    chosen, unit_of_row = one_of_each(copies, labels if single else None)
    units = labels[chosen]
    stratifies = single and np.unique(units, return_counts=True)[1].min() >= num_folds
    kind = StratifiedKFold if stratifies else KFold
    folds = kind(num_folds, shuffle=True, random_state=SEED)
    for _, held_out in folds.split(np.zeros(len(units)), units):
        is_held_out = np.isin(unit_of_row, held_out)
        yield np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def config_of_fold(config: TrainConfig, number: int) -> TrainConfig:
    """Derive the settings of a fold: as the run's, without selection on the held-out rows.

    A choice made on these rows, such as the best checkpoint, would leak their labels into their
    predictions, and hide label errors.

    Args:
        config: settings of the run.
        number: number of the fold, from 1.
    """
    by_metric = config.lr_scheduler_type in METRIC_SCHEDULES
    return replace(
        config,
        output_dir=config.run_path / CV_FOLDER / f"fold-{number}",
        # A schedule by metric steps at each evaluation, so it keeps the run's evaluations.
        eval_strategy=config.eval_strategy if by_metric else "epoch",
        load_best_model_at_end=False,
        early_stopping_patience=None,
        threshold_metric=None,
        threshold_costs=None,
        calibrate=False,
        report_to=(),
    )
