"""Model inputs -> batches: the order of the rows, the loaders, padding."""

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from torch.utils.data import DataLoader, Sampler
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from plainloop.config import TrainConfig

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Batch = dict[str, torch.Tensor]


class EpochOrder(Sampler[int]):
    """The order of the rows in each epoch, a function of the seed and the epoch alone.

    It is the order of `transformers.Trainer`, which has it from accelerate's
    `SeedableRandomSampler`: `torch.randperm` under `manual_seed(seed + epoch)`. A generator of its
    own keeps it apart from dropout's random numbers, so that any epoch's order can be had at once.

    Attributes:
        num_rows: rows in an epoch.
        seed: of the run.
        epoch: whose order the next iteration gives; `set_epoch` moves it.
    """

    def __init__(self, num_rows: int, seed: int) -> None:
        self.num_rows, self.seed, self.epoch = num_rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; accelerate's prepared loader passes its own on to here."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(torch.randperm(self.num_rows, generator=generator).tolist())

    def __len__(self) -> int:
        return self.num_rows


def create_dataloaders(
    inputs: "DatasetDict", tokenizer: PreTrainedTokenizerBase, config: TrainConfig
) -> dict[str, DataLoader[Batch]]:
    """A loader for each split: train shuffled by `EpochOrder`, the others in the file's order.

    A batch holds input_ids, attention_mask, ... (int64, rows x tokens of its longest row) and
    labels (int64, rows).
    """
    return {
        split: _create_dataloader(split, rows, tokenizer, config) for split, rows in inputs.items()
    }


def _create_dataloader(
    split: str, rows: "Dataset", tokenizer: PreTrainedTokenizerBase, config: TrainConfig
) -> DataLoader[Batch]:
    train = split == "train"
    return DataLoader(
        rows,
        batch_size=config.per_device_train_batch_size
        if train
        else config.per_device_eval_batch_size,
        sampler=EpochOrder(len(rows), config.seed) if train else None,
        collate_fn=DataCollatorWithPadding(tokenizer),
        num_workers=config.dataloader_num_workers,
        worker_init_fn=outlive_the_step,
    )


def outlive_the_step(_worker: int) -> None:
    """Let a worker that has the process group's signal serve the step in hand, 10 s at most."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(10))  # an alarm ends the process


def peek(dataloader: DataLoader[Batch]) -> Batch:
    """The first batch of an unprepared loader, without moving the generators of the training."""
    with torch.random.fork_rng(devices=[]):  # a loader draws from the CPU's
        batch: Any = next(iter(dataloader))
    return dict(batch)


def rows_of_batches(dataloader: DataLoader[Batch], epoch: int, start: int, stop: int) -> list[int]:
    """The numbers of the rows in some batches of an epoch, over all processes, from the order alone.

    Args:
        dataloader: prepared or not; one without an `EpochOrder` gives no rows.
        start, stop: batches of each process, from 0.
    """
    num_processes = PartialState().num_processes
    sampler: Any = dataloader
    while getattr(sampler, "batch_sampler", None) is not None:
        sampler = sampler.batch_sampler
    rows_in_batch = getattr(sampler, "batch_size", 0) * num_processes
    order = getattr(sampler, "sampler", None)
    if not isinstance(order, EpochOrder):
        return []
    order.set_epoch(epoch)
    return list(order)[start * rows_in_batch : stop * rows_in_batch]
