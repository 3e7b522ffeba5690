"""The public names, and the modules that they are imported from when first used."""

from .checkpoint import resolve_model as resolve_model
from .cli.exits import run_script as run_script
from .config import TrainConfig as TrainConfig
from .config import check_config as check_config
from .data.batches import (
    EpochOrder as EpochOrder,
)
from .data.batches import (
    create_dataloaders as create_dataloaders,
)
from .data.batches import (
    peek as peek,
)
from .data.read import read_splits as read_splits
from .data.tokenize import (
    keep_model_inputs as keep_model_inputs,
)
from .data.tokenize import (
    tokenize_splits as tokenize_splits,
)
from .distributed import create_accelerator as create_accelerator
from .errors import (
    DivergedError as DivergedError,
)
from .errors import (
    MachineError as MachineError,
)
from .errors import (
    PlainloopError as PlainloopError,
)
from .errors import (
    UserError as UserError,
)
from .evaluation import evaluate as evaluate
from .fine_tuning import fine_tune as fine_tune
from .inputs import load_inputs as load_inputs
from .loop import train as train
from .loss import CrossEntropy as CrossEntropy
from .loss import create_loss as create_loss
from .memory import explained_out_of_memory as explained_out_of_memory
from .metrics import ClassificationMetric as ClassificationMetric
from .model import (
    first_forward as first_forward,
)
from .model import (
    freeze as freeze,
)
from .model import (
    load_model as load_model,
)
from .model import (
    load_tokenizer as load_tokenizer,
)
from .optim import (
    count_training_steps as count_training_steps,
)
from .optim import (
    create_optimizer as create_optimizer,
)
from .optim import (
    create_scheduler as create_scheduler,
)
from .run_folder import RunFolder as RunFolder
from .run_folder import summarize as summarize
from .state import TrainState as TrainState
from .tasks import TASKS as TASKS
from .tasks import Task as Task
from .tasks import get_task as get_task

__version__: str
