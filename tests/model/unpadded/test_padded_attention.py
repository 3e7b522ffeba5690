"""Encoders with an attention of their own give on a packed row what their padded batches give."""

import copy

import pytest
import torch
from classifiers import (
    SIZES,
    checkpointing_keeps_the_gradients,
    create_batch,
    train_100_steps,
)
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    DebertaConfig,
    DebertaV2Config,
    MPNetConfig,
)

from plainloop.model.unpadded.forwards import run_unpadded, why_padded
from plainloop.model.unpadded.padded_attention import PADDED_ATTENTION

LENGTHS = [7, 50, 3, 1, 20, 33]
ALBERT = {"embedding_size": 16, "classifier_dropout_prob": 0.0}
DISTANCES = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
CONFIGS = {
    "albert": (AlbertConfig, ALBERT | {"num_hidden_groups": 1}),
    "albert of two groups": (AlbertConfig, ALBERT | {"num_hidden_groups": 2}),
    "deberta": (DebertaConfig, DISTANCES | {"max_relative_positions": 64}),
    # As in the checkpoints of DeBERTa-v3.
    "deberta-v2": (
        DebertaV2Config,
        DISTANCES | {"position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
        | {"max_relative_positions": -1, "position_biased_input": False},
    ),
    "mpnet": (MPNetConfig, {}),
}  # fmt: skip
NAMES = list(CONFIGS)


def pair(name, dropout=0.0):
    """The same classifier twice: padded, unpadded."""
    config_class, more = CONFIGS[name]
    dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    torch.manual_seed(0)
    padded = AutoModelForSequenceClassification.from_config(
        config_class(**SIZES | dict.fromkeys(dropouts, dropout) | more)
    ).train()
    unpadded = copy.deepcopy(padded)
    run_unpadded(unpadded)
    return padded, unpadded


def test_each_family_is_tested():
    assert {config_class.model_type for config_class, _ in CONFIGS.values()} == {*PADDED_ATTENTION}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [LENGTHS, [5], [9, 9], [2, 1]], ids=str)
def test_logits_and_gradients_are_equal(name, lengths):
    padded, unpadded = (model.double() for model in pair(name))
    batch = create_batch(lengths)
    expected, found = padded(**batch), unpadded(**batch)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-9, atol=1e-9)
    expected.loss.backward()
    found.loss.backward()
    for (key, parameter), other in zip(
        padded.named_parameters(), unpadded.parameters(), strict=True
    ):
        assert (parameter.grad is None) == (other.grad is None), key
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_feed_forward_sees_the_real_tokens_alone(name):
    _, unpadded = pair(name)
    widened = []
    for module in unpadded.base_model.modules():
        if isinstance(module, nn.Linear) and module.out_features == SIZES["intermediate_size"]:
            module.register_forward_hook(lambda _, args, out: widened.append(args[0].shape[:-1]))
    unpadded(**create_batch(LENGTHS))
    assert widened == [(1, sum(LENGTHS))] * SIZES["num_hidden_layers"]


@pytest.mark.parametrize("name", ["deberta", "deberta-v2"])  # the others do not support it
def test_gradient_checkpointing_gives_the_same_gradients_with_dropout(name):
    _, model = pair(name, dropout=0.2)
    assert checkpointing_keeps_the_gradients(model, LENGTHS)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_padding_or_asks_for_hidden_states_has_the_padded_bits(name):
    padded, unpadded = (model.eval() for model in pair(name))
    for batch in (create_batch([9, 9]), create_batch(LENGTHS) | {"output_hidden_states": True}):
        expected, found = padded(**batch), unpadded(**batch)
        assert torch.equal(found.logits, expected.logits)
        for ours, theirs in zip(
            found.hidden_states or (), expected.hidden_states or (), strict=True
        ):
            assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_100_steps_give_the_same_losses(name):
    padded, unpadded = (
        train_100_steps(model.double(), torch.optim.AdamW(model.parameters(), lr=1e-3))
        for model in pair(name)
    )
    assert ((unpadded - padded).abs() / padded).max() < 1e-5


def test_a_convolution_over_tokens_runs_padded():
    config = DebertaV2Config(**SIZES | DISTANCES, conv_kernel_size=3, conv_act="gelu")
    model = AutoModelForSequenceClassification.from_config(config)
    assert why_padded(model) == "it has a convolution over neighbouring tokens"
