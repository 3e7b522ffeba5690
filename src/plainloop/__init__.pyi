"""The public names, and the modules that they are imported from when first used."""

from .checkpoints import Checkpoints as Checkpoints
from .cli.exits import run_script as run_script
from .config import TrainConfig as TrainConfig
from .data.batches import (
    EpochOrder as EpochOrder,
    create_dataloaders as create_dataloaders,
    model_inputs_of as model_inputs_of,
    peek as peek,
)
from .data.read import read_splits as read_splits
from .data.token_cache import token_cache_dir as token_cache_dir
from .data.tokenize import (
    keep_model_inputs as keep_model_inputs,
    tokenize_splits as tokenize_splits,
)
from .distributed import create_accelerator as create_accelerator
from .eject.script import Script as Script, make_script as make_script
from .errors import (
    CheckpointError as CheckpointError,
    DivergedError as DivergedError,
    MachineError as MachineError,
    PlainloopError as PlainloopError,
    StoppedError as StoppedError,
    UserError as UserError,
)
from .evaluation import evaluate as evaluate
from .final_evaluation import evaluate_saved as evaluate_saved
from .fine_tuning import fine_tune as fine_tune
from .inputs import load_inputs as load_inputs
from .loop import train as train
from .lora import add_lora as add_lora, merge_lora as merge_lora
from .loss import (
    BinaryCrossEntropy as BinaryCrossEntropy,
    CrossEntropy as CrossEntropy,
    FocalLoss as FocalLoss,
    create_loss as create_loss,
)
from .memory import explained_machine_limits as explained_machine_limits
from .metrics import TaskMetric as TaskMetric
from .model import (
    create_model as create_model,
    first_forward as first_forward,
    freeze as freeze,
    load_model as load_model,
    load_tokenizer as load_tokenizer,
)
from .optim import (
    count_training_steps as count_training_steps,
    create_optimizer as create_optimizer,
    create_scheduler as create_scheduler,
)
from .predict import Run as Run, load_run as load_run
from .preflight import describe_run as describe_run
from .pretrained import resolve_model as resolve_model
from .ranges import check_config as check_config
from .resume import OpenRun as OpenRun, open_run as open_run
from .run_folder import RunFolder as RunFolder, summarize as summarize
from .speed.execution import choose_execution as choose_execution
from .state import TrainState as TrainState
from .stopping import StopRequest as StopRequest
from .tasks import TASKS as TASKS, Task as Task, get_task as get_task
from .trackers import finish_trackers as finish_trackers, start_trackers as start_trackers
from .windows import WindowCollator as WindowCollator, pool_windows as pool_windows

__version__: str
