"""Which way a model computes: in less time, or padded as the Trainer does."""

from typing import TYPE_CHECKING

from accelerate import Accelerator, DistributedType
from accelerate.utils import DynamoBackend
from transformers import PreTrainedModel

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.model.load import move_into_own_memory
from plainloop.model.unpadded.embedding import compact_embedding
from plainloop.model.unpadded.forwards import run_unpadded, why_padded

if TYPE_CHECKING:
    from datasets import Dataset

OWNERS_OF_PARAMETERS = (DistributedType.FSDP, DistributedType.DEEPSPEED)


def choose_execution(
    model: PreTrainedModel, rows: "Dataset", config: TrainConfig, accelerator: Accelerator
) -> list[str]:
    """Let a model compute no padding and train no unused embeddings, where it can.

    Args:
        model: not yet prepared, without an optimizer.
        rows: the training split, with input_ids.
        config: `execution` and `weight_decay`.
        accelerator: of the run.

    Returns:
        What was chosen, a line each, to be shown.

    Raises:
        UserError: as `choose_padding`.
    """
    padding = choose_padding(model, config, accelerator)
    if padding != "unpadded":
        return [padding]
    move_into_own_memory(model)
    if accelerator.distributed_type in OWNERS_OF_PARAMETERS:
        return [padding]
    return [padding, *compact_embedding(model, rows, decays=config.weight_decay > 0)]


def choose_padding(model: PreTrainedModel, config: TrainConfig, accelerator: Accelerator) -> str:
    """Let a model compute no padding, where that is wanted and it can.

    Args:
        model: not yet prepared.
        config: `execution`.
        accelerator: its device, and whether it compiles.

    Returns:
        unpadded; or padded, and why where the settings do not say so.

    Raises:
        UserError: unpadded alone is wanted, and the model cannot.
    """
    if config.execution == "padded":
        return "padded"
    reason = why_padded(model)
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        reason = "torch.compile would compile anew for each number of tokens"
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
