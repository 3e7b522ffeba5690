"""Choice between unpadded execution, which is faster, and padded, which gives the Trainer's bits."""

from typing import TYPE_CHECKING

from accelerate import Accelerator, DistributedType
from accelerate.utils import DynamoBackend
from transformers import PreTrainedModel

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.model.load import copy_to_aligned_memory
from plainloop.model.padding import DEPEND_ON_PADDING
from plainloop.model.unpadded.embedding import compact_embedding
from plainloop.model.unpadded.forwards import run_unpadded, why_padded

if TYPE_CHECKING:
    from datasets import Dataset

SHARDING_ENGINES = (DistributedType.FSDP, DistributedType.DEEPSPEED)


def choose_execution(
    model: PreTrainedModel, rows: "Dataset", config: TrainConfig, accelerator: Accelerator
) -> list[str]:
    """Enable unpadded execution and the compact embedding, as far as model and settings allow.

    Args:
        model: before it is prepared or has an optimizer; changed in place.
        rows: the training split, with input_ids.
        config: its `execution`, `train_sampling_strategy`, `optim` and `weight_decay`.
        accelerator: of the run.

    Returns:
        Lines for the user that say what was chosen.

    Raises:
        UserError: as `choose_padding`.
    """
    if config.train_sampling_strategy == "group_by_length":
        reason = why_padded(model) or "without group_by_length no padding would be computed"
        return [f"padded: {reason}"]
    padding = choose_padding(model, config, accelerator)
    lines = [padding]
    if padding != "unpadded" and model.config.model_type in DEPEND_ON_PADDING:
        lines.append(
            "evaluations and predictions without padding: this model's logits depend on it"
        )
    is_compiled = accelerator.state.dynamo_plugin.backend != DynamoBackend.NO
    on_other_device = accelerator.device.type != "cpu"
    if config.execution == "padded" or (padding != "unpadded" and (is_compiled or on_other_device)):
        return lines
    copy_to_aligned_memory(model)
    # A sharding engine flattens the parameters. Adafactor's moments and clipping are of an entire
    # table; and SGD has no state in which the decay of the unused rows could be saved.
    if accelerator.distributed_type in SHARDING_ENGINES or not config.optim.startswith("adamw"):
        return lines
    return [*lines, *compact_embedding(model, rows, has_decay=config.weight_decay > 0)]


def choose_padding(model: PreTrainedModel, config: TrainConfig, accelerator: Accelerator) -> str:
    """Enable unpadded execution, if the settings want it and the model supports it.

    Args:
        model: before it is prepared; changed in place.
        config: its `execution`: unpadded, padded or auto.
        accelerator: its device, and whether torch.compile is on.

    Returns:
        "unpadded"; or "padded", with the reason if the settings do not ask for it.

    Raises:
        UserError: the settings insist on unpadded, and the model cannot.
    """
    if config.execution == "padded":
        return "padded"
    reason = why_padded(model)
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        reason = "torch.compile would recompile for each number of tokens"
    if reason and config.execution == "unpadded":
        raise UserError(
            f"it runs padded: {reason}",
            where="--execution unpadded",
            fix="leave it out, or choose another model",
        )
    device = accelerator.device.type
    if not reason and config.execution == "auto" and device != "cpu":
        reason = f"unpadded was not measured on {device}; --execution unpadded tries it"
    if reason:
        return f"padded: {reason}"
    run_unpadded(model)
    return "unpadded"
