"""Model inputs -> batches: the order of the rows, the loaders, padding."""

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import torch
from accelerate import PartialState
from accelerate.utils import broadcast
from torch.utils.data import DataLoader, Sampler
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.batches.sliding_windows import WindowCollator
from plainloop.data.batches.weighted_sampler import EpochWeightedSampler, row_weights

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Batch = dict[str, torch.Tensor]
ROW_NUMBERS = "idx"
"""What a batch calls the numbers of its rows."""


class EpochRandomSampler(Sampler[int]):
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
        return map(int, torch.randperm(self.num_rows, generator=generator).numpy())

    def __len__(self) -> int:
        return self.num_rows


class LengthGroupedOrder(LengthGroupedSampler):
    """The Trainer's order of `group_by_length`: shuffled, then sorted by length in 50 steps' rows.

    As in the Trainer it is drawn from torch's global generator when an epoch begins. That of rank 0
    counts: on CPUs the generators of the ranks part, since dropout draws from them for other
    lengths, and the Trainer's ranks then take other orders, in which some rows come twice and
    others never.
    """

    def __iter__(self) -> Iterator[int]:
        rows: list[int] = [*super().__iter__()]  # type: ignore[no-untyped-call]
        order = torch.tensor(rows, device=PartialState().device)
        return iter(broadcast(order).tolist())


def create_dataloaders(
    inputs: "DatasetDict", tokenizer: PreTrainedTokenizerBase, config: TrainConfig, task: Task
) -> dict[str, DataLoader[Batch]]:
    """A loader for each split: train in the order of `EpochRandomSampler`, the others in the file's.

    A batch holds input_ids, attention_mask, ... (int64, rows x tokens of its longest row; with
    `config.stride` see `WindowCollator`), labels (int64 (rows,); float32 (rows,) in a regression,
    (rows, labels) of several labels a row) and idx (int32, rows: each row's number in its file).
    With `train_sampling_strategy` weighted the order is a `EpochWeightedSampler`, with group_by_length
    a `LengthGroupedOrder`.
    """
    collate: Any = DataCollatorWithPadding(tokenizer)
    if config.stride is not None:
        collate = WindowCollator(tokenizer)
    return {
        split: DataLoader(
            rows,
            batch_size=config.per_device_train_batch_size
            if split == "train"
            else config.per_device_eval_batch_size,
            sampler=_training_order(rows, config, task) if split == "train" else None,
            collate_fn=collate,
            num_workers=config.dataloader_num_workers,
            worker_init_fn=outlive_the_step,
        )
        for split, rows in inputs.items()
    }


def _training_order(rows: "Dataset", config: TrainConfig, task: Task) -> Sampler[int]:
    if config.train_sampling_strategy == "weighted":
        if task.problem_type == "regression":
            raise ValueError("regression has no classes to sample by")
        labels = rows.with_format("numpy")["labels"][:]
        return EpochWeightedSampler(row_weights(labels), config.seed)
    if config.train_sampling_strategy == "group_by_length":
        return LengthGroupedOrder(
            config.per_device_train_batch_size * config.gradient_accumulation_steps,
            lengths=pc.list_value_length(rows.with_format("arrow")["input_ids"]).to_pylist(),
        )
    return EpochRandomSampler(len(rows), config.seed)


def outlive_the_step(_worker: int) -> None:
    """Let a worker that has the process group's signal serve the step in hand, 10 s at most."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP; nohup has it ignored
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.alarm(10))  # an alarm ends the process


def peek(dataloader: DataLoader[Batch]) -> Batch:
    """The first batch of an unprepared loader, without moving the generators of the training."""
    with torch.random.fork_rng(devices=[]):  # a loader draws from the CPU's
        batch: Any = next(iter(dataloader))
    return dict(batch)


def model_inputs_of(batch: Batch) -> Batch:
    """What a model takes of a batch: all but the rows' numbers."""
    return {name: value for name, value in batch.items() if name != ROW_NUMBERS}


def rows_in(dataloader: DataLoader[Batch], num_batches: int) -> int:
    """Count the rows in the first batches of an epoch, over all processes.

    Args:
        dataloader: of one process.
        num_batches: of each process.
    """
    sampler: Any = dataloader.batch_sampler
    num_rows: int = len(dataloader.dataset)  # type: ignore[arg-type]
    rows: int = num_batches * sampler.batch_size * PartialState().num_processes
    return min(num_rows, rows)


def drop_duplicate_rows(
    batch: Batch, dataloader: DataLoader[Batch], number: int
) -> tuple[Batch, int]:
    """Drop the rows that Accelerate has repeated to fill up the last batches of an epoch.

    It deals the batches of an order to the processes in turn, and fills the last ones up with rows
    of the beginning, so that all processes have as many batches of the same size.

    Args:
        batch: of this process.
        dataloader: that it is of.
        number: of the batch within its epoch, on this process.

    Returns:
        The batch, and how many of its rows count. A process that has only repeated rows keeps one,
        since all processes must compute something, and the number is 0.
    """
    state = PartialState()
    if state.num_processes == 1:
        return batch, len(batch["labels"])
    sampler: Any = dataloader.batch_sampler
    before: int = (number * state.num_processes + state.process_index) * sampler.batch_size
    num_rows: int = len(dataloader.dataset)  # type: ignore[arg-type]
    counted = max(0, min(num_rows - before, sampler.batch_size))
    kept = max(counted, 1)
    inputs_kept = int(batch["windows"][:kept].sum()) if "windows" in batch else kept
    one_each = ("labels", "windows", ROW_NUMBERS)  # the other columns have an entry a window
    return {
        name: value[: kept if name in one_each else inputs_kept] for name, value in batch.items()
    }, counted
