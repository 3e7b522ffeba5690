"""The needed FLOPs are those that torch counts."""

import pytest
import torch
from speed.flops import TRAINING, Sizes, head_flops, layer_flops, needed_flops
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, DistilBertConfig

CONFIG = BertConfig(
    vocab_size=50,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_labels=5,
    attn_implementation="eager",
)
SIZES = Sizes.of(CONFIG, labels=5)
ROWS, LENGTH = 4, 11
LENGTHS = [LENGTH] * ROWS


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return BertForSequenceClassification(CONFIG)


@pytest.fixture
def batch():
    return {
        "input_ids": torch.randint(0, 50, (ROWS, LENGTH)),
        "attention_mask": torch.ones(ROWS, LENGTH, dtype=torch.int64),
        "labels": torch.arange(ROWS),
    }


def test_a_model_without_padding_that_computes_every_token_has_the_layers_and_the_head(
    model, batch
):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**batch)
    every_token = 3 * layer_flops(SIZES, LENGTHS, LENGTHS) + head_flops(SIZES, ROWS)
    assert counter.get_total_flops() == every_token


def test_a_training_step_has_three_times_the_products_of_its_forward_pass(model, batch):
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    every_token = 3 * layer_flops(SIZES, LENGTHS, LENGTHS) + head_flops(SIZES, ROWS)
    assert counter.get_total_flops() == TRAINING * every_token


def test_the_last_layer_needs_its_keys_and_values_and_the_first_tokens_rest(model):
    layer = model.bert.encoder.layer[-1]
    attention = layer.attention.self
    lengths = [3, 11, 6]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for length in lengths:
            states = torch.randn(length, 24)
            query = attention.query(states[:1]).view(1, 2, 12).transpose(0, 1)
            key = attention.key(states).view(length, 2, 12).transpose(0, 1)
            value = attention.value(states).view(length, 2, 12).transpose(0, 1)
            context = functional.softmax(query @ key.mT, dim=-1) @ value
            attended = layer.attention.output(context.transpose(0, 1).reshape(1, 24), states[:1])
            layer.output(layer.intermediate(attended), attended)
    assert counter.get_total_flops() == layer_flops(SIZES, lengths, [1, 1, 1])


def test_needed_are_all_layers_but_the_last_one_whole():
    lengths = [3, 11, 6]
    assert needed_flops(SIZES, lengths) == (
        2 * layer_flops(SIZES, lengths, lengths)
        + layer_flops(SIZES, lengths, [1, 1, 1])
        + head_flops(SIZES, 3)
    )


def test_rows_are_counted_each_by_itself_as_padding_is_not_needed():
    apart = needed_flops(SIZES, [3]) + needed_flops(SIZES, [11])
    assert needed_flops(SIZES, [3, 11]) == apart


def test_another_architecture_is_refused():
    with pytest.raises(ValueError, match="distilbert"):
        Sizes.of(DistilBertConfig(), labels=2)
