"""Experiment trackers through Accelerate: TensorBoard, MLflow, W&B, trackio."""

from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from plainloop.config.settings import TrainConfig
from plainloop.run.folder import LOGS_FOLDER

PROJECT = "plainloop"


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


def finish_trackers(accelerator: Accelerator) -> None:
    """Flush and close the trackers."""
    # Not Accelerator.end_training, which would destroy the process group, too.
    for tracker in accelerator.trackers:
        tracker.finish()
