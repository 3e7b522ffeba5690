"""Everything a person can get wrong, checked before torch is imported and anything is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plainloop.config import TrainConfig
from plainloop.data.read import read_splits
from plainloop.errors import UserError, nearest
from plainloop.pretrained import go_offline_if_unreachable, resolve_model
from plainloop.ranges import check_config
from plainloop.run_folder import check_output_dir
from plainloop.tasks import Task, get_task

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class Inputs:
    """What a run works on.

    Attributes:
        task: its columns, labels and metrics.
        pretrained: the folder or hub name of the model.
        raw: the splits as read.
    """

    task: Task
    pretrained: str
    raw: "DatasetDict"


def load_inputs(config: TrainConfig) -> Inputs:
    """Check the settings, find the model, read the data.

    Raises:
        UserError: all that is wrong, a line for each independent problem.
    """
    problems: list[UserError] = []

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
    with noted():
        if not config.dry_run:
            check_output_dir(config)
    with noted():
        task = get_task(config.task)
        with noted():
            check_fits_task(config, task)
        if config.data_dir is None and task.hub is not None:
            go_offline_if_unreachable()
        raw = read_splits(
            task,
            config.data_dir,
            test_file=config.test_file,
            max_train_samples=config.max_train_samples,
        )
    if problems:
        raise UserError.together(problems)
    if config.class_weights == "balanced":
        found = set(raw["train"]["label"])
        missing = [name for label, name in enumerate(task.label_names) if label not in found]
        if missing:
            raise UserError(
                f"no training row has the label {', '.join(missing)}",
                where="--class-weights balanced",
                fix="use more training rows, or give the weights as numbers",
            )
    return Inputs(task, pretrained, raw)


def check_fits_task(config: TrainConfig, task: Task) -> None:
    """Check what only the task can say of the settings.

    Raises:
        UserError: a metric that the task does not have, or a wrong number of class weights.
    """
    known = ("loss", *task.metrics)
    if config.metric_for_best_model not in (None, *known):
        raise UserError(
            f"task {task.name} has no metric '{config.metric_for_best_model}'",
            where="--metric-for-best-model",
            fix=nearest(str(config.metric_for_best_model), known),
        )
    weights = config.class_weights
    if isinstance(weights, tuple) and len(weights) != len(task.label_names):
        raise UserError(
            f"{len(weights)} weights for {len(task.label_names)} labels",
            where="--class-weights",
            fix=f"give one for each of {', '.join(task.label_names)}, in this order",
        )
