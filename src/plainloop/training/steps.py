"""The batches of an epoch grouped by optimizer step."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.data_loader import skip_first_batches
from torch.utils.data import DataLoader

from plainloop.config.settings import TrainConfig
from plainloop.data.batches.loaders import (
    ROW_NUMBERS,
    Batch,
    drop_duplicate_rows,
    model_inputs_of,
    rows_in,
)
from plainloop.run.rng import RngState
from plainloop.run.state import TrainState


class MicroBatch(NamedTuple):
    """The batch of one forward pass on this process.

    Attributes:
        inputs: keyword arguments of the model, labels among them.
        labels: of the rows that count; see `drop_duplicate_rows` for the others.
        row_numbers: int (rows,), each row's number in its file, if the loader gives them.
    """

    inputs: Batch
    labels: torch.Tensor
    row_numbers: torch.Tensor | None


def optimizer_steps(
    dataloader: DataLoader[Batch], state: TrainState, config: TrainConfig, rng_state: RngState
) -> Iterator[list[MicroBatch]]:
    """Yield the micro-batches of each optimizer step that is left of the epoch.

    The last step of an epoch may have fewer of them.

    Args:
        dataloader: batches of a full epoch; the first `state.batches_done` are skipped.
        state: how far a resumed run has come.
        config: its `gradient_accumulation_steps` are the micro-batches of a step.
        rng_state: the generators of a resumed run at its checkpoint.
    """
    start = state.batches_done
    # An order like that of `LengthGroupedOrder` is drawn from the generator with the first batch.
    if start and state.epoch_rng:  # plainloop 0.1.0 did not save it
        torch.set_rng_state(torch.tensor(list(bytes.fromhex(state.epoch_rng)), dtype=torch.uint8))
    elif not start:
        state.epoch_rng = torch.get_rng_state().numpy().tobytes().hex()
    # Creating the iterator draws from torch's generator: in a resumed epoch once too often.
    batches = skip_first_batches(dataloader, start) if start else dataloader
    micro_batches = (
        create_micro_batch(batch, dataloader, number) for number, batch in enumerate(batches, start)
    )
    is_resumed = start > 0
    while step := list(islice(micro_batches, config.gradient_accumulation_steps)):
        if is_resumed:
            rng_state.restore()
            is_resumed = False
        yield step


def create_micro_batch(batch: Batch, dataloader: DataLoader[Batch], number: int) -> MicroBatch:
    """Split a batch into what the model takes and what the loop counts; number: within its epoch."""
    batch, num_rows = drop_duplicate_rows(batch, dataloader, number)
    row_numbers = batch[ROW_NUMBERS][:num_rows] if ROW_NUMBERS in batch else None
    return MicroBatch(model_inputs_of(batch), batch["labels"][:num_rows], row_numbers)


def count_rows(dataloader: DataLoader[Batch], batches_done: int, num_batches: int) -> int:
    """Rows of the next so many batches of an epoch, over all processes."""
    return rows_in(dataloader, batches_done + num_batches) - rows_in(dataloader, batches_done)


def all_reduce_sum(value: float | torch.Tensor, accelerator: Accelerator) -> float | torch.Tensor:
    """Sum a number over all processes; without others it stays the number itself."""
    if accelerator.num_processes == 1:
        return value
    total: torch.Tensor = accelerator.reduce(
        torch.as_tensor(value, dtype=torch.float32, device=accelerator.device), "sum"
    )
    return total


def gather_row_numbers(micro_batches: Sequence[MicroBatch], accelerator: Accelerator) -> list[int]:
    """The row numbers of an optimizer step, over all processes; none if the loader has none."""
    known = [batch.row_numbers for batch in micro_batches if batch.row_numbers is not None]
    if not known:
        return []
    same_length = accelerator.pad_across_processes(torch.cat(known), pad_index=-1)
    return [number for number in accelerator.gather(same_length).tolist() if number >= 0]
