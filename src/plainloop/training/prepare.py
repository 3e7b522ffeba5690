"""Load and check all inputs of a run (settings, model, data) before torch is imported."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.marks import CLASSES_ONLY, NOT_WITH_TASK
from plainloop.config.settings import TrainConfig, marked
from plainloop.config.tasks import TASKS, Task, get_task
from plainloop.config.validation import check_config, flag
from plainloop.console import say
from plainloop.data.custom.dataset import read_custom_dataset
from plainloop.data.custom.given_rows import sources_of
from plainloop.data.files.paths import find_files
from plainloop.data.files.tables import Source
from plainloop.data.glue import layout_of, read_splits
from plainloop.data.quality.findings import MOST_SHOWN, read_arrays
from plainloop.data.quality.summary import DataCheck, find_impossible, refuse_impossible
from plainloop.errors import UserError, nearest, printable_path
from plainloop.metrics.formulas import one_hot
from plainloop.metrics.scorer import Scores, score_names
from plainloop.metrics.task_metric import TaskMetric
from plainloop.metrics.thresholds import THRESHOLD_METRICS
from plainloop.model.lora import check_peft
from plainloop.model.pretrained import (
    DEMO_MODEL,
    go_offline_if_unreachable,
    head_labels,
    resolve_model,
)
from plainloop.run.folder import check_output_dir, run_of_file
from plainloop.run.manifest import verify_run
from plainloop.run.rank_failure import is_rank_zero

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class Inputs:
    """The checked inputs of a run.

    Attributes:
        config: the settings, with what was found in the data filled in.
        task: its columns, labels and metrics.
        pretrained: the folder or hub name of the model.
        raw: the splits as read.
        check: the findings in these rows.
        found: printable lines: what was found in a user's custom data, and why.
    """

    config: TrainConfig
    task: Task
    pretrained: str
    raw: "DatasetDict"
    check: DataCheck
    found: tuple[str, ...] = ()


def load_inputs(
    config: TrainConfig, train_dataset: Any = None, eval_dataset: Any = None, *, refuse: bool = True
) -> Inputs:
    """Check the settings, resolve the model, read and check the data; nothing is written.

    Args:
        config: the settings.
        train_dataset: rows instead of those that the settings name; see `sources_of`.
        eval_dataset: validation rows for them.
        refuse: whether data are refused with which a training is impossible.

    Raises:
        UserError: all independent problems together, a line each.
        CheckpointError: the model is a finished run of which a file was changed.
    """
    problems: list[UserError] = []
    pretrained, inputs = "", None

    @contextmanager
    def noted() -> Iterator[None]:
        try:
            yield
        except UserError as problem:
            problems.append(problem)

    with noted():
        check_config(config)
    with noted():
        pretrained = resolve_model(config.model)
        if not config.dry_run:
            verify_run(
                Path(pretrained)
            )()  # a finished run's weights, which the training starts from
    with noted():
        if config.lora_rank is not None:
            check_peft("--lora-rank")
    with noted():
        check_trackers(config)
    with noted():
        if not config.dry_run:
            check_output_dir(config)
            check_overwritten(config)
    with noted():
        if eval_dataset is not None and train_dataset is None:
            raise UserError("needs train_dataset", where="eval_dataset", fix="give both")
        check_source(config, has_rows=train_dataset is not None)
        if config.task:
            task = get_task(config.task)
            with noted():
                check_fits_task(config, task)
            inputs = _load_task(config, task, pretrained)
        else:
            given = sources_of(train_dataset, eval_dataset) if train_dataset is not None else None
            inputs = _load_custom(config, pretrained, given)
            check_fits_task(config, inputs.task)
    if problems or inputs is None:
        raise UserError.together(problems)
    if refuse:
        splits = read_arrays(inputs.raw, inputs.task)
        refuse_impossible(find_impossible(splits, inputs.task))
    check_labels(config, inputs)
    embed = partial(_score_embeddings, inputs.raw, inputs.task, pretrained, inputs.config)
    return replace(inputs, check=replace(inputs.check, embed=embed))


def _score_embeddings(*inputs: Any) -> dict[str, Scores]:
    from plainloop.training.embedding_baseline import score_embeddings  # imports torch

    return score_embeddings(*inputs)


def read_inputs(config: TrainConfig, train_dataset: Any = None, eval_dataset: Any = None) -> Inputs:
    """Call `load_inputs` for a training, and print what was found in the data.

    The arguments, the result and the errors are those of `load_inputs`.
    """
    inputs = load_inputs(config, train_dataset, eval_dataset)
    if is_rank_zero():
        sizes = ", ".join(f"{len(rows)} {split}" for split, rows in inputs.raw.items())
        say("Data", f"{inputs.task.name}: {sizes}")
        for line in inputs.found:
            say("Found", line)
        for finding in inputs.check.quick.warnings:
            say("Warning", str(finding))
    return inputs


def input_paths(config: TrainConfig) -> list[Path]:
    """The files that the settings read, and the model's folder: what an output must not replace."""
    paths = [Path(config.model)] if config.model != DEMO_MODEL else []
    for given in (config.train_file, config.validation_file, config.test_file):
        for path in given:
            with suppress(UserError):  # a missing file is reported when it is read
                paths += find_files([path])
    if config.data_dir is not None and config.task in TASKS:
        layout = layout_of(TASKS[config.task])
        names = [*layout.files.values(), *layout.test_files.values()]
        paths += [config.data_dir / name for name in names]
    return paths


def check_overwritten(config: TrainConfig) -> None:
    """Check that --overwrite does not delete what the new run reads.

    Raises:
        UserError: the model or a training file is a part of the run that is replaced.
    """
    run = config.run_path.resolve()
    for path in input_paths(config) if config.overwrite else ():
        if run in (path.resolve(), run_of_file(path)):
            where = f"--output-dir {printable_path(config.run_path)}"
            what = f"--overwrite would delete {printable_path(path)}, which the new run reads"
            raise UserError(what, where=where, fix="choose another folder")


def check_trackers(config: TrainConfig) -> None:
    """Check that the trackers' packages are installed; Accelerate silently skips missing ones.

    Raises:
        UserError: a package is not installed.
    """
    missing = [name for name in config.report_to if not find_spec(name)]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not installed",
            where="--report-to",
            fix=f"pip install {' '.join(missing)}",
        )


def check_source(config: TrainConfig, *, has_rows: bool = False) -> None:
    """Check that the settings name exactly one data source, and no setting of another source.

    Args:
        config: the settings.
        has_rows: whether the rows are given in Python, which is a source, too.

    Raises:
        UserError: there are none or several, or a setting would have no effect.
    """
    sources = {
        "--task": config.task,
        "--train-file": config.train_file,
        "--dataset": config.dataset,
        "train_dataset": has_rows,
    }
    given = [where for where, value in sources.items() if value]
    if not given:
        raise UserError(
            "nothing to train on",
            fix="name a file before all flags (plainloop train FILE), or give --dataset, or --task: "
            f"one of {', '.join(TASKS)}",
        )
    if (
        config.train_file[:1]
        and config.train_file[0] in TASKS
        and not Path(config.train_file[0]).exists()
    ):
        name = config.train_file[0]
        raise UserError(
            "no such file", where=name, fix=f"--task {name} trains on the rows of that task"
        )
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} name different rows", fix="give one of them")
    unused = marked(NOT_WITH_TASK) if config.task else ("data_dir",)
    if config.dataset or has_rows:
        unused = ("data_dir", "validation_file", "test_file", "encoding")
    problems = [
        UserError(f"has no effect with {given[0]}", where=flag(name), fix="leave it out")
        for name in config.changed()
        if name in unused
    ]
    if problems:
        raise UserError.together(problems)


def _load_task(config: TrainConfig, task: Task, pretrained: str) -> Inputs:
    if config.data_dir is None and task.hub is not None:
        go_offline_if_unreachable()
    raw = read_splits(
        task,
        config.data_dir,
        test_file=config.test_file,
        max_train_samples=config.max_train_samples,
    )
    return Inputs(config, task, pretrained, raw, DataCheck(raw, task))


def _load_custom(
    config: TrainConfig, pretrained: str, given: Mapping[str, Source] | None
) -> Inputs:
    if config.dataset is not None:
        go_offline_if_unreachable()
    labels = head_labels(pretrained) if pretrained else None
    data = read_custom_dataset(config, labels, given)
    is_split = not (config.validation_file or config.group_column or "validation" in data.sources)
    pair = data.config.text_column if is_split else ()
    check = DataCheck(data.raw, data.task, data.show, pair=pair)
    return Inputs(data.config, data.task, pretrained, data.raw, check, data.found)


def check_fits_task(config: TrainConfig, task: Task) -> None:
    """Check the settings against the task: metric, class weights, loss, sampling, thresholds.

    Raises:
        UserError: the task has no such metric, another number of labels than there are class weights,
            or a problem type for which a setting is not defined.
    """
    problems = []
    known = ("loss", *score_names(task.metrics, task.label_names))
    if config.metric_for_best_model not in (None, *known):
        problems.append(
            UserError(
                f"task {task.name} has no metric '{config.metric_for_best_model}'",
                where="--metric-for-best-model",
                fix=nearest(str(config.metric_for_best_model), known),
            )
        )
    weights = config.class_weights
    if isinstance(weights, tuple) and len(weights) != task.num_labels:
        problems.append(
            UserError(
                f"{len(weights)} weights for {task.num_labels} labels",
                where="--class-weights",
                fix=f"give one for each of {', '.join(task.label_names)}, in this order",
            )
        )
    refused: tuple[str, ...] = ()
    if task.problem_type == "multi_label_classification":
        refused = ("label_smoothing_factor",)
    elif task.problem_type == "regression":
        refused = marked(CLASSES_ONLY)
        if config.train_sampling_strategy == "weighted":
            refused += ("train_sampling_strategy",)
    problems += [
        UserError(f"is not for {task.problem_type}", where=flag(name), fix="leave it out")
        for name in config.changed()
        if name in refused
    ]
    if task.problem_type != "regression":
        problems += _find_wrong_thresholds(config, task)
    if problems:
        raise UserError.together(problems)


def _find_wrong_thresholds(config: TrainConfig, task: Task) -> list[UserError]:
    given = {"threshold_metric": config.threshold_metric, "threshold_costs": config.threshold_costs}
    several = task.problem_type == "multi_label_classification"
    if not several and task.num_labels > 2:  # noqa: PLR2004
        return [
            UserError(
                f"of {task.num_labels} labels the most probable is the answer: there is no threshold",
                where=flag(name),
                fix="leave it out",
            )
            for name, value in given.items()
            if value
        ]
    known = THRESHOLD_METRICS[task.problem_type]
    if config.threshold_metric not in (None, *known):
        return [
            UserError(
                f"no threshold is chosen by '{config.threshold_metric}'",
                where="--threshold-metric",
                fix=nearest(str(config.threshold_metric), known),
            )
        ]
    return []


def check_best_metric(config: TrainConfig, task: Task, held_out: NDArray[Any]) -> None:
    """Check that the labels of the validation rows define the metric for the best model.

    Raises:
        UserError: it is not defined for them, whatever is predicted.
    """
    name = config.metric_for_best_model
    if name in (None, "loss") or config.eval_strategy == "no" or not len(held_out):
        return
    metric = TaskMetric(task.metrics, task.problem_type, task.label_names)
    logits = np.random.default_rng(0).normal(size=(len(held_out), task.num_labels))
    metric.add_batch(predictions=logits, references=held_out)
    if name in metric.compute():
        return
    what = f"{name} is not defined for the labels of these validation rows"
    if task.problem_type != "regression":
        count = one_hot(held_out, task.num_labels).sum(axis=0)
        lacking = [
            task.label_names[n] for n in np.flatnonzero((count == 0) | (count == len(held_out)))
        ]
        what += f": none or all have {', '.join(map(repr, lacking[:MOST_SHOWN]))}"
    raise UserError(
        what,
        where="--metric-for-best-model",
        fix="choose another metric, or a --validation-file with and without each label",
    )


def check_labels(config: TrainConfig, inputs: Inputs) -> None:
    """Check that there are enough rows per label for balanced weights, thresholds and calibration.

    Raises:
        UserError: for balanced weights, a label has no training row (or, with several labels per row,
            all rows); for a threshold, a label has fewer than 2 validation rows, since
            cross-fitting needs one to choose by and one to score; or calibration has only one row.
    """
    held_out = np.asarray(inputs.raw["validation"]["label"][:])
    check_best_metric(config, inputs.task, held_out)
    if (config.threshold_metric or config.threshold_costs) and held_out.ndim == 1:
        counts = [int((held_out == label).sum()) for label in (0, 1)]
        if min(counts) < 2:  # noqa: PLR2004
            name = inputs.task.label_names[int(np.argmin(counts))]
            raise UserError(
                f"{min(counts)} of the validation rows have the label {name}, and a threshold needs 2",
                where="--threshold-metric" if config.threshold_metric else "--threshold-costs",
                fix="give more validation rows, or leave it out",
            )
    if config.calibrate and len(held_out) < 2:  # noqa: PLR2004
        raise UserError(
            "one validation row is too few", where="--calibrate", fix="give more validation rows"
        )
    if config.class_weights != "balanced":
        return
    labels = np.asarray(inputs.raw["train"]["label"][:])
    names = inputs.task.label_names
    if labels.ndim > 1:
        having = labels.sum(axis=0)
        wrong = [name for name, n in zip(names, having, strict=True) if n in (0, len(labels))]
    else:
        wrong = [name for label, name in enumerate(names) if label not in set(labels.tolist())]
    if wrong:
        raise UserError(
            f"no training row has the label {', '.join(wrong)}"
            if labels.ndim == 1
            else f"no training row, or every one, has the label {', '.join(wrong)}",
            where="--class-weights balanced",
            fix="use more training rows, or give the weights as numbers",
        )
