"""Unpadded execution gives what padded execution gives, and falls back where it cannot."""

import copy

import pytest
import torch
from classifiers import (
    NAMES,
    checkpointing_keeps_the_gradients,
    create_batch,
    create_classifier,
    train_100_steps,
)
from torch import nn
from transformers import BertConfig, BertForTokenClassification

from plainloop.model.unpadded.forwards import run_unpadded, why_padded

LENGTHS = [7, 50, 3, 1, 20, 33]


def pair(name, dropout=0.0):
    """The same classifier twice: padded, unpadded."""
    padded = create_classifier(name, dropout)
    unpadded = copy.deepcopy(padded)
    run_unpadded(unpadded)
    return padded, unpadded


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [LENGTHS, [5], [1, 1], [9, 9], [2, 1]])
def test_logits_and_gradients_are_equal(name, lengths):
    padded, unpadded = (model.double() for model in pair(name))
    batch = create_batch(lengths)
    expected, found = padded(**batch), unpadded(**batch)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-11, atol=1e-11)
    expected.loss.backward()
    found.loss.backward()
    for (key, parameter), other in zip(
        padded.named_parameters(), unpadded.parameters(), strict=True
    ):
        if parameter.grad is None:
            assert other.grad is None, key
        else:
            torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_linear_layers_see_the_real_tokens_alone_and_the_last_layer_reads_the_first(name):
    _, unpadded = pair(name)
    rows = []
    for module in unpadded.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, args, out: rows.append(args[0].shape[-2]))
    unpadded(**create_batch(LENGTHS))
    assert set(rows) <= {sum(LENGTHS), len(LENGTHS)}
    in_head = 2
    in_last_layer = {"modernbert": 3, "modernbert, mean of the tokens": 0}.get(name, 4)
    assert rows.count(len(LENGTHS)) == in_head + in_last_layer


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_the_last_layer_makes_no_keys_and_values(name, monkeypatch):
    _, unpadded = pair(name)
    called, forward = [], nn.Linear.forward
    monkeypatch.setattr(
        nn.Linear,
        "forward",
        lambda module, x: called.append(tuple(x.shape)) or forward(module, x),
    )
    unpadded(**create_batch(LENGTHS))
    in_layer = 6  # query, key, value, the projection of the context, and two of the feed-forward
    num_layers = unpadded.config.num_hidden_layers
    of_all_tokens = [shape for shape in called if shape[-2] == sum(LENGTHS)]
    assert len(of_all_tokens) == in_layer * (num_layers - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_100_steps_give_the_same_losses_and_gradient_norms(name):
    padded, unpadded = (
        train_100_steps(model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True))
        for model in pair(name)
    )
    assert padded.shape == (100, 2)
    assert ((unpadded - padded).abs() / padded).max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_gives_the_same_gradients_with_dropout(name):
    model = create_classifier(name, dropout=0.2)
    run_unpadded(model)
    assert checkpointing_keeps_the_gradients(model, LENGTHS)


def test_the_state_dict_and_its_names_stay(tmp_path):
    padded, unpadded = pair("bert")
    assert list(unpadded.state_dict()) == list(padded.state_dict())
    unpadded.save_pretrained(tmp_path)
    again = type(padded).from_pretrained(tmp_path)
    batch = create_batch(LENGTHS)
    with torch.no_grad():
        assert torch.equal(again.eval()(**batch).logits, padded.eval()(**batch).logits)


def test_a_copy_runs_by_itself():
    _, model = pair("bert")
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    batch = create_batch(LENGTHS)
    assert model(**batch).logits.abs().max() == 0
    assert other(**batch).logits.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_asks_for_hidden_states_gets_the_padded_ones(name):
    padded, unpadded = pair(name)
    batch = create_batch(LENGTHS)
    expected = padded(**batch, output_hidden_states=True).hidden_states
    found = unpadded(**batch, output_hidden_states=True).hidden_states
    assert len(found) == len(expected) > 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("side", ["left", "gap"])
def test_other_padding_runs_padded(side):
    padded, unpadded = pair("bert")
    batch = create_batch(LENGTHS)
    if side == "left":
        batch = {name: value.flip(-1) for name, value in batch.items() if name != "labels"}
    else:
        batch["attention_mask"][1, 3] = 0
    assert torch.equal(unpadded(**batch).logits, padded(**batch).logits)


def test_hooks_on_parts_that_are_not_called_make_it_run_padded_and_still_fire():
    _, model = pair("bert")
    shapes = []
    attention = model.bert.encoder.layer[1].attention
    handle = attention.register_forward_hook(lambda _, args, out: shapes.append(args[0].shape))
    model(**create_batch(LENGTHS))
    assert shapes == [(len(LENGTHS), max(LENGTHS), 32)]
    handle.remove()
    model(**create_batch(LENGTHS))
    assert len(shapes) == 1


def test_a_hook_on_the_last_layer_sees_every_token():
    padded, model = pair("bert")
    shapes = []
    model.bert.encoder.layer[-1].register_forward_hook(
        lambda _, args, out: shapes.append(tuple(out.shape))
    )
    batch = create_batch(LENGTHS)
    torch.testing.assert_close(model(**batch).logits, padded(**batch).logits)
    assert shapes == [(1, sum(LENGTHS), 32)]


def test_under_bf16_autocast_it_stays_near_the_padded():
    padded, unpadded = pair("bert")
    batch = create_batch(LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = padded(**batch), unpadded(**batch)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0.05, atol=0.02)
    found.loss.backward()


def test_without_a_mask_all_tokens_are_real():
    padded, unpadded = pair("roberta")
    batch = create_batch([6, 6])
    del batch["attention_mask"]
    torch.testing.assert_close(unpadded(**batch).logits, padded(**batch).logits)


@pytest.mark.nightly
@pytest.mark.slow
def test_with_dropout_the_losses_are_of_the_same_distribution():
    # 5 pairs of seeds; the difference of the mean loss of a run, and its standard error.
    differences = []
    for seed in range(5):
        means = []
        for unpad in (False, True):
            model = create_classifier("bert", dropout=0.1, seed=seed)
            if unpad:
                run_unpadded(model)
            torch.manual_seed(100 + 2 * seed + unpad)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
            losses = []
            for step in range(150):
                loss = model(**create_batch([5, 30, 12, 3, 21, 17, 9, 26], seed=step % 10)).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
            means.append(sum(losses) / len(losses))
        differences.append(means[1] - means[0])
    differences = torch.tensor(differences)
    error = differences.std() / len(differences) ** 0.5
    assert error < 0.01
    assert differences.mean().abs() < 3 * error


def test_what_cannot_run_unpadded_is_named():
    model = BertForTokenClassification(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    assert why_padded(model) == "BertForTokenClassification is not Transformers' own class"
    with pytest.raises(ValueError, match="BertForTokenClassification"):
        run_unpadded(model)
