"""Decoders on a packed row give what their padded batches give."""

import copy
import inspect

import pytest
import torch
from classifiers import (
    TABLES,
    checkpointing_keeps_the_gradients,
    create_batch,
    train_100_steps,
)
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

from plainloop.model.unpadded.decoders import DECODERS
from plainloop.model.unpadded.forwards import run_unpadded, why_padded

LENGTHS = [7, 50, 3, 1, 20, 33]
SIZES = TABLES | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "sliding_window": 16,
    "num_labels": 3,
    "bos_token_id": 2,
    "eos_token_id": 3,
    # JetMoE's
    "num_local_experts": 2,
    "kv_channels": 8,
}
FEW = ["gemma3_text", "llama", "phi", "qwen3"]
ALL = [
    pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in sorted(DECODERS)
]


def create(name, dropout=0.0):
    config_class = CONFIG_MAPPING[name]
    takes = inspect.signature(config_class.__init__).parameters
    settings = {key: value for key, value in SIZES.items() if key in takes or key == "num_labels"}
    settings |= {key: dropout for key in takes if "dropout" in key and "prob" not in key}
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config_class(**settings)).train()


def pair(name, dropout=0.0):
    padded = create(name, dropout)
    unpadded = copy.deepcopy(padded)
    run_unpadded(unpadded)
    return padded, unpadded


def assert_same(padded, unpadded, batch):
    expected, found = padded(**batch), unpadded(**batch)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-9, atol=1e-9)
    expected.loss.backward()
    found.loss.backward()
    for (key, parameter), other in zip(
        padded.named_parameters(), unpadded.parameters(), strict=True
    ):
        assert (parameter.grad is None) == (other.grad is None), key
        if parameter.grad is not None:
            largest = float(parameter.grad.abs().max())
            # Their norms round to float32 within: its last bit shows in a gradient.
            torch.testing.assert_close(other.grad, parameter.grad, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("name", ALL)
def test_logits_and_gradients_are_equal(name):
    padded, unpadded = (model.double() for model in pair(name))
    assert_same(padded, unpadded, create_batch(LENGTHS))


def test_texts_that_are_padded_on_the_left_are_packed_too():
    padded, unpadded = (model.double() for model in pair("llama"))
    batch = {name: value.flip(-1) for name, value in create_batch(LENGTHS).items()}
    rows = []
    unpadded.model.layers[0].register_forward_hook(lambda _, args, out: rows.append(args[0].shape))
    assert_same(padded, unpadded, batch)
    assert rows == [(1, sum(LENGTHS), 32)]


@pytest.mark.parametrize("name", FEW)
def test_linear_layers_see_the_real_tokens_alone_and_the_last_ones_read_the_last(name):
    _, unpadded = pair(name)
    rows = []
    for module in unpadded.model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, args, out: rows.append(args[0].shape[-2]))
    unpadded(**create_batch(LENGTHS))
    assert set(rows) == {sum(LENGTHS), len(LENGTHS)}
    mlp = [
        module for module in unpadded.model.layers[-1].mlp.modules() if type(module) is nn.Linear
    ]
    assert rows.count(len(LENGTHS)) == len(mlp)


def test_a_hook_on_the_last_layer_sees_every_token():
    padded, unpadded = (model.double() for model in pair("llama"))
    seen = {}
    for model in (padded, unpadded):
        model.model.layers[-1].register_forward_hook(
            lambda _, args, out, model=model: seen.update({model: out})
        )
    batch = create_batch(LENGTHS)
    assert_same(padded, unpadded, batch)
    is_real = batch["attention_mask"].bool()
    torch.testing.assert_close(seen[unpadded][0], seen[padded][is_real])


def test_texts_that_end_with_the_padding_token_are_read_as_transformers_reads_them():
    padded, unpadded = (model.double() for model in pair("llama"))
    batch = create_batch(LENGTHS)
    batch["input_ids"][1, 48:] = padded.config.pad_token_id
    assert_same(padded, unpadded, batch)


@pytest.mark.parametrize("name", FEW)
def test_gradient_checkpointing_gives_the_same_gradients_with_dropout(name):
    _, model = pair(name, dropout=0.2)
    assert checkpointing_keeps_the_gradients(model, LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_100_steps_give_the_same_losses(name):
    padded, unpadded = (
        train_100_steps(model.double(), torch.optim.AdamW(model.parameters(), lr=1e-3))
        for model in pair(name)
    )
    assert ((unpadded - padded).abs() / padded).max() < 1e-5


def test_calls_that_run_padded_have_the_bits_of_torchs_attention(tmp_path):
    padded, unpadded = (model.eval() for model in pair("llama"))
    batch = create_batch(LENGTHS)
    batch["attention_mask"][1, 3] = 0  # a gap
    assert torch.equal(unpadded(**batch).logits, padded(**batch).logits)
    unpadded.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"
    assert torch.equal(again.eval()(**batch).logits, padded(**batch).logits)


def test_another_attention_than_torchs_runs_padded():
    model = create("llama")
    model.set_attn_implementation("eager")
    assert why_padded(model) == "its attention is eager"
