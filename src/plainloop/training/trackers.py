"""Experiment trackers through Accelerate: TensorBoard, MLflow, W&B, trackio."""

import hashlib
import posixpath
import re
from collections.abc import Mapping

from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from plainloop.config.settings import TrainConfig
from plainloop.run.folder import LOGS_FOLDER

PROJECT = "plainloop"
MLFLOW_LONGEST_NAME = 250
MLFLOW_LARGEST_BATCH = 500  # metrics; MLflow takes 1000, and a million bytes


def start_trackers(accelerator: Accelerator, config: TrainConfig) -> None:
    """Start the trackers of `config.report_to` and log the settings to them.

    `accelerator.log` then writes what history.jsonl holds. TensorBoard writes into the run's folder,
    the others where their environment variables say (MLFLOW_TRACKING_URI, WANDB_MODE=offline). Call it
    before the training's `set_seed`, since a tracker may draw random numbers when it starts.

    Args:
        accelerator: of the run; changed.
        config: the settings; the run's folder must exist.
    """
    if not config.report_to:
        return
    name, logs = config.run_path.name, str(config.run_path / LOGS_FOLDER)
    accelerator.project_configuration.logging_dir = logs
    accelerator.log_with = filter_trackers(list(config.report_to), logs)
    plain = {key: value for key, value in config.to_dict().items() if value not in (None, [], {})}
    accelerator.init_trackers(
        PROJECT,
        config={
            key: value if isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in plain.items()
        },
        # Those of trackers that are not in use are ignored.
        init_kwargs={
            "mlflow": {"run_name": name},
            "wandb": {"name": name},
            "trackio": {"name": name},
        },
    )


def track(accelerator: Accelerator, values: Mapping[str, float], step: int) -> None:
    """Log the values of a step to the trackers, to MLflow under names that it takes.

    Args:
        accelerator: after `start_trackers`.
        values: name, such as eval/f1/LABEL -> value.
        step: optimizer steps so far.
    """
    for tracker in accelerator.trackers:
        if tracker.name != "mlflow":
            tracker.log(values, step=step)
            continue
        named = [(mlflow_name(name), value) for name, value in values.items()]
        for start in range(0, len(named), MLFLOW_LARGEST_BATCH):
            tracker.log(dict(named[start : start + MLFLOW_LARGEST_BATCH]), step=step)


def mlflow_name(name: str) -> str:
    """A metric's name in MLflow: the same, except for what MLflow refuses, as in f1/c++.

    A character that it does not take becomes its number, as in f1/c_2b__2b_; so do / and . where
    the name would be no path (f1/..). A name that is too long ends in a hash.
    """

    def number(found: re.Match[str]) -> str:
        return f"_{ord(found[0]):x}_"

    shown = re.sub(r"[^/\w.\- :]", number, name)
    if posixpath.normpath(shown) != shown:
        kind, metric_and_label = shown.split("/", 1)
        shown = f"{kind}/" + re.sub("[/.]", number, metric_and_label)
    if len(shown) <= MLFLOW_LONGEST_NAME:
        return shown
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{shown[: MLFLOW_LONGEST_NAME - 17]}-{digest}"


def finish_trackers(accelerator: Accelerator) -> None:
    """Flush and close the trackers."""
    # Not Accelerator.end_training, which would destroy the process group, too.
    for tracker in accelerator.trackers:
        tracker.finish()
