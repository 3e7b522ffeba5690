"""Rows of similar length in a batch, in the Trainer's order."""

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import TASKS
from plainloop.data.batches.loaders import LengthGroupedOrder, create_dataloaders

ROWS = 500


@pytest.fixture(scope="module")
def rows():
    lengths = torch.randint(1, 60, (ROWS,), generator=torch.Generator().manual_seed(1)).tolist()
    tokens = [[7] * length for length in lengths]
    return Dataset.from_dict({"input_ids": tokens, "labels": [0] * ROWS}).shuffle(seed=3)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_two_epochs_have_the_trainers_order(rows, tmp_path, accumulation):
    settings = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": accumulation,
        "train_sampling_strategy": "group_by_length",
    }
    loader = create_dataloaders(
        {"train": rows}, None, TrainConfig(task="demo", **settings), TASKS["demo"]
    )["train"]
    trainer = object.__new__(Trainer)
    trainer.train_dataset, trainer.processing_class = rows, None
    trainer.args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, **settings)
    orders = []
    for sampler in (loader.sampler, trainer._get_train_sampler()):
        torch.manual_seed(42)
        epochs = []
        for _ in range(2):
            epochs.append(list(sampler))
            torch.rand(100)  # dropout draws from the same generator
        orders.append(epochs)
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
    assert all(sorted(order) == list(range(ROWS)) for order in orders[0])
    lengths = [len(row) for row in rows["input_ids"]]
    grouped = [lengths[number] for number in orders[0][0]]
    padding = sum(max(grouped[at : at + 4]) * 4 for at in range(0, ROWS, 4)) / sum(grouped)
    assert padding < 1.1


def test_ranks_take_the_order_of_rank_0(monkeypatch):
    """Which the broadcast of the order shows; tests/distributed trains with two."""
    from plainloop.data.batches import loaders

    sampler = LengthGroupedOrder(4, lengths=[5, 3, 9, 1])
    monkeypatch.setattr(loaders, "broadcast", lambda order: torch.tensor([3, 2, 1, 0]))
    assert list(sampler) == [3, 2, 1, 0]
