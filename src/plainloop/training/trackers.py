"""TensorBoard, MLflow, W&B, trackio: Accelerate's trackers, told what history.jsonl is told."""

from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from plainloop.config.settings import TrainConfig
from plainloop.run.folder import LOGS_FOLDER

PROJECT = "plainloop"


def start_trackers(accelerator: Accelerator, config: TrainConfig) -> None:
    """Open what `config.report_to` names, and give it the settings; `accelerator.log` writes to it.

    TensorBoard writes into the run's folder, the others where their own settings say:
    MLFLOW_TRACKING_URI, WANDB_MODE=offline and the like. To be called before the seed is set for
    the training, since a tracker may draw random numbers when it starts.

    Args:
        accelerator: of the run.
        config: the settings; its folder is there.
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
        init_kwargs={
            kind: settings
            for kind, settings in {
                "mlflow": {"run_name": name},
                "wandb": {"name": name},
                "trackio": {"name": name},
            }.items()
            if kind in config.report_to
        },
    )


def finish_trackers(accelerator: Accelerator) -> None:
    """Write what trackers hold back; `Accelerator.end_training` would end the processes' group, too."""
    for tracker in accelerator.trackers:
        tracker.finish()
