"""Reject settings, tasks and models that cannot be ejected, before anything is written."""

from collections.abc import Sequence
from pathlib import Path

from plainloop.config.marks import EJECTED, MAY_DIFFER, OF_CALL, NotEjected
from plainloop.config.settings import MARKS, TrainConfig, marked
from plainloop.config.tasks import Task
from plainloop.config.validation import flag
from plainloop.eject.branches import FULL_SCRIPT
from plainloop.errors import UserError
from plainloop.model.lora import is_lora_folder


def check_settings(config: TrainConfig) -> None:
    """Check that a script supports the settings; the data are not needed for this.

    Raises:
        UserError: one line for each setting that is not supported.
    """
    ignored = marked(EJECTED, MAY_DIFFER, OF_CALL)
    problems = []
    for name in config.changed():
        refused = [mark for mark in MARKS[name] if isinstance(mark, NotEjected)]
        if refused or name not in ignored:
            fix = (refused or [NotEjected()])[0].fix
            problems.append(UserError("is not ejected", where=flag(name), fix=fix))
    if config.task and not config.data_dir and config.task != "demo" and config.test_file:
        problems.append(
            UserError(
                "is not ejected with rows from the hub", where="--test-file", fix="give --data-dir"
            )
        )
    if problems:
        raise UserError.together(problems)


def check_task_and_model(config: TrainConfig, task: Task, pretrained: str) -> None:
    """Check that a script supports the task's metrics and the model.

    Args:
        config: settings of the run.
        task: task of the run.
        pretrained: name on the Hub or local folder of the model.

    Raises:
        UserError: the script does not compute the metric that chooses the best model, or the model
            is a folder of LoRA adapters.
    """
    problems = []
    script = FULL_SCRIPT.read_text(encoding="utf-8")
    computed = ["loss", *(name for name in task.metrics if f'scores["{name}"]' in script)]
    if config.best_metric not in computed:
        problems.append(
            UserError(
                f"a script does not compute {config.best_metric}",
                where="--metric-for-best-model",
                fix=f"choose one of {', '.join(computed)}",
            )
        )
    if is_lora_folder(Path(pretrained)):
        problems.append(
            UserError(
                "a model of low-rank adapters is not ejected",
                where=f"--model {config.model}",
                fix="save it with --merge-lora, and give that folder",
            )
        )
    if problems:
        raise UserError.together(problems)


def check_targets(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Check that the files replace no existing file, or are meant to.

    Args:
        paths: the script, then its data files.
        overwrite: whether existing files may be replaced.

    Raises:
        UserError: a file exists and may not be replaced, or a path is a folder.
    """
    there = [path for path in paths if path.exists()]
    if there and (not overwrite or any(path.is_dir() for path in there)):
        raise UserError(
            f"{', '.join(map(str, there))} already exists",
            where=f"--script {paths[0]}",
            fix="choose another name, or --overwrite",
        )
