"""The order of the rows, the loaders, and looking at a batch without consequences."""

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given, strategies as st

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task
from plainloop.data.batches.loaders import EpochRandomSampler, create_dataloaders, peek
from plainloop.data.batches.tokenize import keep_model_inputs, tokenize_splits
from plainloop.data.glue import read_splits
from plainloop.model.tokenizer import load_tokenizer


@given(num_rows=st.integers(1, 200), seed=st.integers(0, 2**31), epoch=st.integers(0, 50))
def test_order_is_a_permutation_that_the_trainer_has_too(num_rows, seed, epoch):
    ours = EpochRandomSampler(num_rows, seed)
    ours.set_epoch(epoch)
    theirs = SeedableRandomSampler(range(num_rows), generator=torch.Generator(), data_seed=seed)
    theirs.set_epoch(epoch)
    order = list(ours)
    assert sorted(order) == list(range(num_rows))
    assert order == list(theirs)
    assert order == list(ours), "the same epoch again gives the same order"


def test_epochs_differ_in_their_order():
    order = EpochRandomSampler(50, seed=1)
    first = list(order)
    order.set_epoch(1)
    assert list(order) != first


def loaders(tiny_model, tiny_data, **settings):
    task = get_task("demo")
    tokenizer = load_tokenizer(str(tiny_model))
    tokenized = tokenize_splits(read_splits(task, tiny_data), tokenizer, task.text_columns)
    config = TrainConfig(task="demo", **settings)
    return create_dataloaders(keep_model_inputs(tokenized, tokenizer), tokenizer, config, task)


def test_each_batch_is_padded_to_its_own_longest_row(tiny_model, tiny_data):
    train = loaders(tiny_model, tiny_data)["train"]
    widths = set()
    for batch in train:
        lengths = batch["attention_mask"].sum(dim=1)
        assert batch["input_ids"].shape == (len(batch["labels"]), int(lengths.max()))
        assert batch["labels"].dtype == torch.int64
        widths.add(int(lengths.max()))
    assert len(widths) > 1, "batches of different widths, so padding is dynamic"
    assert len(train) == 6


def test_regression_has_no_classes_to_sample_by(tiny_model, tiny_data):
    tokenizer = load_tokenizer(str(tiny_model))
    raw = tokenize_splits(read_splits(get_task("demo"), tiny_data), tokenizer, ["sentence1"])
    config = TrainConfig(task="stsb", train_sampling_strategy="weighted")
    inputs = keep_model_inputs(raw, tokenizer)
    with pytest.raises(ValueError, match="no classes"):
        create_dataloaders(inputs, tokenizer, config, get_task("stsb"))


def test_validation_rows_come_in_the_files_order(tiny_model, tiny_data):
    by_three = loaders(tiny_model, tiny_data, per_device_eval_batch_size=3)["validation"]
    labels = torch.cat([batch["labels"] for batch in by_three])
    assert labels.tolist() == [row % 2 for row in range(21)]


def test_worker_processes_give_the_same_batches(tiny_model, tiny_data):
    alone = list(loaders(tiny_model, tiny_data)["train"])
    helped = list(loaders(tiny_model, tiny_data, dataloader_num_workers=2)["train"])
    assert len(alone) == len(helped) == 6
    for ours, theirs in zip(alone, helped, strict=True):
        torch.testing.assert_close(dict(ours), dict(theirs), rtol=0, atol=0)


def test_peeking_moves_no_generator(tiny_model, tiny_data):
    train = loaders(tiny_model, tiny_data)["train"]
    before = torch.get_rng_state()
    batch = peek(train)
    assert torch.equal(torch.get_rng_state(), before)
    assert batch["labels"].shape == (8,)
    next(iter(train))
    assert not torch.equal(torch.get_rng_state(), before), "a plain look would have moved it"
