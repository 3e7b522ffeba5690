"""Which way a model computes: in less time, or padded as the Trainer does."""

from typing import TYPE_CHECKING

from accelerate import Accelerator, DistributedType
from accelerate.utils import DynamoBackend
from transformers import PreTrainedModel

from plainloop.config import TrainConfig
from plainloop.errors import UserError
from plainloop.speed.embedding import compact_embedding
from plainloop.speed.unpadded import run_unpadded, why_padded

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
        UserError: unpadded alone is wanted, and the model cannot.
    """
    if config.execution == "padded":
        return ["padded"]
    reason = why_padded(model)
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        reason = "torch.compile would compile anew for each number of tokens"
    if reason and config.execution == "unpadded":
        raise UserError(
            f"it runs padded: {reason}",
            where="--execution unpadded",
            fix="leave it out, or choose another model",
        )
    if reason:
        return [f"padded: {reason}"]
    run_unpadded(model)
    lines = ["unpadded"]
    if accelerator.distributed_type not in OWNERS_OF_PARAMETERS:
        lines += compact_embedding(model, rows, decays=config.weight_decay > 0)
    return lines
