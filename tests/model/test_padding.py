"""What depends on padding is computed without it in evaluations, and BigBird's attention is put back."""

from copy import deepcopy

import pytest
import torch
from architectures.tiny import save_checkpoint
from safetensors.torch import load_model as load_weights, save_model

from plainloop.config.tasks import get_task
from plainloop.data.batches.sliding_windows import pool_windows
from plainloop.model.load import first_forward, load_model
from plainloop.model.padding import (
    DEPEND_ON_PADDING,
    attention_states,
    keep_attention_type,
    sparse_encoder,
)

LENGTHS = (50, 5, 9)  # BigBird's attention is sparse in rows of more than 44 tokens


def load(kind, folder):
    save_checkpoint(kind, folder)
    torch.manual_seed(1)
    return load_model(str(folder), get_task("demo"))[0]


def padded_batch(model):
    """Rows of LENGTHS, with labels; FNet takes no mask."""
    torch.manual_seed(2)
    padding = model.config.get_text_config().pad_token_id
    input_ids = torch.randint(10, 30, (len(LENGTHS), max(LENGTHS)))
    mask = torch.zeros_like(input_ids)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
        if model.config.is_encoder_decoder:
            input_ids[row, length - 1] = (
                model.config.eos_token_id or 1
            )  # whose state the head reads
    inputs = {"input_ids": input_ids.where(mask > 0, padding), "labels": torch.tensor([0, 1, 1])}
    return inputs if model.config.model_type == "fnet" else {**inputs, "attention_mask": mask}


@torch.no_grad()
def logits_alone(model, batch):
    plain = type(model).forward
    rows = []
    for row, length in enumerate(LENGTHS):
        tokens = {
            name: value[row : row + 1, :length] for name, value in batch.items() if value.ndim == 2
        }
        rows.append(plain(deepcopy(model), **tokens).logits)
    return torch.cat(rows)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("fnet", "big_bird") else pytest.mark.slow)
        for kind in sorted(DEPEND_ON_PADDING)
    ],
)
def test_a_row_does_not_depend_on_its_neighbours_in_evaluation(kind, tmp_path):
    model = load(kind, tmp_path)
    batch = padded_batch(model)
    with torch.no_grad():
        outputs = model(**batch)
    alone = logits_alone(model, batch)
    torch.testing.assert_close(outputs.logits, alone)
    torch.testing.assert_close(
        outputs.loss, torch.nn.functional.cross_entropy(alone, batch["labels"])
    )
    plain = type(model).forward(deepcopy(model), **batch).logits
    assert (plain - alone).abs().max() > 1e-4, "it does not depend on padding"


def test_training_stays_as_transformers_has_it(tmp_path):
    model = load("fnet", tmp_path).train()
    batch = padded_batch(model)
    torch.manual_seed(3)
    ours = model(**batch).logits
    torch.manual_seed(3)
    assert torch.equal(ours, type(model).forward(model, **batch).logits)


def test_windows_do_not_depend_on_those_of_other_rows(tmp_path):
    model = pool_windows(load("fnet", tmp_path))
    batch = padded_batch(model)
    expected = logits_alone(model, batch)
    with torch.no_grad():
        outputs = model(**{**batch, "labels": torch.tensor([0, 1])}, windows=torch.tensor([2, 1]))
    torch.testing.assert_close(outputs.logits, torch.stack([expected[:2].mean(0), expected[2]]))


def test_bigbird_keeps_its_attention_and_the_generator_in_an_evaluation(tmp_path):
    model = load("big_bird", tmp_path)
    batch = padded_batch(model)
    short = {name: value[1:, :9] if value.ndim > 1 else value[1:] for name, value in batch.items()}
    before = torch.get_rng_state()
    first_forward(model, short)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.bert.attention_type == "block_sparse"
    model.train()(**short)
    assert model.bert.attention_type == "original_full"  # for good, as with the Trainer
    model.eval()
    expected = logits_alone(load("big_bird", tmp_path), batch)
    before = torch.get_rng_state()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.bert.attention_type == "original_full"


def test_a_checkpoint_holds_bigbirds_attention(tmp_path):
    model, other = load("big_bird", tmp_path), load("big_bird", tmp_path)
    sparse_encoder(model).set_attention_type("original_full")
    attention_states(other)["attention"].load_state_dict(
        attention_states(model)["attention"].state_dict()
    )
    assert other.bert.attention_type == "original_full"


def test_other_models_have_no_such_attention(tiny_model):
    model, _ = load_model(str(tiny_model), get_task("demo"))
    assert attention_states(model) == {}
    with keep_attention_type(model):
        pass


@pytest.mark.parametrize("kind", ["gte", "nomic_bert", "jina_embeddings_v3"])
def test_parameters_that_the_file_has_fused_can_be_saved(kind, tmp_path):
    model = load(kind, tmp_path)
    saved = tmp_path / "saved.safetensors"
    save_model(model, str(saved))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_weights(model, str(saved))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_head_that_takes_the_mean_of_all_tokens_keeps_it(tmp_path):
    model = load("eurobert", tmp_path)
    batch = padded_batch(model)
    with torch.no_grad():
        logits = model(**batch).logits
    model.classifier._forward_hooks.clear()
    torch.testing.assert_close(logits, logits_alone(model, batch))
