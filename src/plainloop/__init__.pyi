"""The public names, and the modules that they are imported from when first used."""

from .cli.exits import run_script as run_script
from .config.settings import TrainConfig as TrainConfig
from .config.tasks import Task as Task, get_task as get_task
from .data.batches.loaders import (
    create_dataloaders as create_dataloaders,
    model_inputs_of as model_inputs_of,
    peek as peek,
)
from .data.batches.token_cache import token_cache_dir as token_cache_dir
from .data.batches.tokenize import (
    keep_model_inputs as keep_model_inputs,
    tokenize_splits as tokenize_splits,
)
from .data.glue import read_splits as read_splits
from .errors import (
    CheckpointError as CheckpointError,
    DivergedError as DivergedError,
    MachineError as MachineError,
    PlainloopError as PlainloopError,
    StoppedError as StoppedError,
    UserError as UserError,
)
from .metrics.task_metric import TaskMetric as TaskMetric
from .model.load import (
    create_model as create_model,
    first_forward as first_forward,
    load_model as load_model,
)
from .model.lora import merge_lora as merge_lora
from .model.pretrained import resolve_model as resolve_model
from .model.readable_rows import check_rows as check_rows
from .model.tokenizer import load_tokenizer as load_tokenizer
from .model.unpadded.execution import choose_execution as choose_execution
from .predict.loaded_run import Run as Run, load_run as load_run
from .run.accelerator import create_accelerator as create_accelerator
from .run.folder import summarize as summarize
from .run.resume import OpenRun as OpenRun, open_run as open_run
from .run.signals import StopRequest as StopRequest
from .run.state import TrainState as TrainState
from .training.announce import describe_run as describe_run
from .training.evaluation import evaluate as evaluate
from .training.final_evaluation import evaluate_saved as evaluate_saved
from .training.fine_tune import fine_tune as fine_tune
from .training.loop import train as train
from .training.loss import create_loss as create_loss
from .training.optim import (
    count_training_steps as count_training_steps,
    create_optimizer as create_optimizer,
    create_scheduler as create_scheduler,
)
from .training.prepare import load_inputs as load_inputs
from .training.trackers import finish_trackers as finish_trackers, start_trackers as start_trackers

__version__: str
