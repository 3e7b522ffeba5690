"""Training the used rows of an embedding table gives what training the whole table gives."""

import copy

import pytest
import torch
from classifiers import DROPOUT, PADDING, SIZES, create_batch, create_classifier
from datasets import Dataset
from safetensors.torch import load_model, save_model
from torch import nn

from plainloop.config.settings import TrainConfig
from plainloop.model.unpadded.embedding import (
    CompactEmbedding,
    compact_embedding,
    find_used_token_ids,
)
from plainloop.training.optim import create_optimizer

# Of 100 tokens the training texts use these and the padding.
USED = range(4, 40)


def training_batch(seed):
    batch = create_batch([9, 4, 7], seed)
    batch["input_ids"] = torch.where(
        batch["attention_mask"].bool(), batch["input_ids"] % len(USED) + 4, 1
    )
    return batch


ROWS = Dataset.from_dict({"input_ids": [list(USED)]})


def pair(weight_decay=0.0):
    """The same classifier and optimizer twice: whole table, used rows."""
    config = TrainConfig(task="demo", learning_rate=1e-2, weight_decay=weight_decay)
    whole = create_classifier("bert")
    compact = copy.deepcopy(whole)
    said = compact_embedding(compact, ROWS, has_decay=weight_decay > 0)
    assert said == ["trains 37 of 100 token embeddings: no text has the others"]
    return [(model, create_optimizer(model, config)) for model in (whole, compact)]


def train(model, optimizer, steps):
    norms = []
    for step in steps:
        batch = training_batch(step)
        if model.config.model_type == "t5":
            batch["input_ids"][:, 0] = model.config.eos_token_id  # whose state its head reads
        model.train()(**batch).loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        optimizer.zero_grad()
    return norms


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_weights_are_those_of_the_whole_table(weight_decay):
    (whole, optimizer), (compact, its_optimizer) = pair(weight_decay)
    initial = state_of(whole)
    norms = train(whole, optimizer, range(30))
    assert train(compact, its_optimizer, range(30)) == pytest.approx(norms, rel=1e-6)
    expected, found = state_of(whole), state_of(compact)
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    table = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(found[table][4], initial[table][4])
    # A row in no text stands still, or decays alone.
    factor = (1 - 1e-2 * weight_decay) ** 30
    torch.testing.assert_close(found[table][50], initial[table][50] * factor, rtol=1e-5, atol=0)


def test_an_evaluation_sees_every_token_and_the_newest_weights():
    (whole, optimizer), (compact, its_optimizer) = pair()
    batch = create_batch([8, 5], seed=3)
    assert int(batch["input_ids"].max()) >= 50
    for steps in (range(2), range(2, 5)):
        train(whole, optimizer, steps)
        train(compact, its_optimizer, steps)
        with torch.no_grad():
            expected, found = (m.eval()(**batch).logits for m in (whole, compact))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_checkpoint_brings_everything_back_bit_for_bit(tmp_path, weight_decay):
    _, (straight, its_optimizer) = pair(weight_decay)
    train(straight, its_optimizer, range(5))
    save_model(straight, str(tmp_path / "model.safetensors"))
    moments = copy.deepcopy(its_optimizer.state_dict())
    train(straight, its_optimizer, range(5, 10))

    _, (resumed, optimizer) = pair(weight_decay)
    load_model(resumed, tmp_path / "model.safetensors")
    optimizer.load_state_dict(moments)
    train(resumed, optimizer, range(5, 10))
    for (name, expected), found in zip(
        straight.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_checkpoint_is_that_of_the_whole_table_and_goes_both_ways(weight_decay):
    (whole, optimizer), (compact, its_optimizer) = pair(weight_decay)
    train(whole, optimizer, range(4))
    train(compact, its_optimizer, range(4))
    theirs, ours = optimizer.state_dict()["state"], its_optimizer.state_dict()["state"]
    assert theirs.keys() == ours.keys()
    for number, values in theirs.items():
        for name, value in values.items():
            torch.testing.assert_close(ours[number][name], value, rtol=1e-4, atol=1e-9)
    for source, steps in ((whole, optimizer), (compact, its_optimizer)):
        for target, other in pair(weight_decay):
            target.load_state_dict(state_of(source))
            other.load_state_dict(copy.deepcopy(steps.state_dict()))
            train(target, other, range(4, 6))
            continued = copy.deepcopy(source)
            its = create_optimizer(
                continued, TrainConfig(task="demo", learning_rate=1e-2, weight_decay=weight_decay)
            )
            its.load_state_dict(copy.deepcopy(steps.state_dict()))
            train(continued, its, range(4, 6))
            for name, value in state_of(continued).items():
                torch.testing.assert_close(state_of(target)[name], value, rtol=1e-5, atol=1e-6)


OTHERS = {
    "albert": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 4},
    "mpnet": {},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    | {"decoder_start_token_id": 0, "eos_token_id": 3},
    "xlnet": {"d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 64},
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_run_padded_train_the_same_weights_and_save_them_whole(name, tmp_path):
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    sizes = {} if name in {"gpt2", "t5", "xlnet"} else SIZES | dict.fromkeys(DROPOUT, 0.0)
    settings = {"vocab_size": 100, "pad_token_id": PADDING, "num_labels": 3} | sizes | OTHERS[name]
    torch.manual_seed(0)
    config = CONFIG_MAPPING[name](**settings)
    for key in vars(config):
        if "dropout" in key or "pdrop" in key:
            setattr(config, key, 0.0)
    whole = AutoModelForSequenceClassification.from_config(config)
    compact = copy.deepcopy(whole)
    assert len(compact_embedding(compact, ROWS, has_decay=False)) == 1
    trained = TrainConfig(task="demo", learning_rate=1e-2)
    for model in (whole, compact):
        assert train(model, create_optimizer(model, trained), range(3))[0] > 0
    assert state_of(compact).keys() == state_of(whole).keys()
    for key, value in state_of(whole).items():
        torch.testing.assert_close(state_of(compact)[key], value, rtol=1e-4, atol=1e-5)
    compact.eval().save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(again[key], value) for key, value in state_of(compact).items())


def test_a_token_that_no_training_text_has_is_an_error_in_training():
    _, (compact, _) = pair()
    with pytest.raises(IndexError):
        compact.train()(**create_batch([30], seed=1))


def test_the_optimizer_holds_only_the_used_rows():
    _, (compact, optimizer) = pair()
    train(compact, optimizer, range(1))
    table = compact.get_input_embeddings()
    assert isinstance(table, CompactEmbedding)
    held = optimizer.state[table.used_weight]["exp_avg"]
    assert held.shape == table.used_weight.shape == (38, 32)  # one row for the decay
    assert table.weight not in optimizer.state


def test_the_used_tokens_are_found_in_rows_and_in_windows():
    assert find_used_token_ids(Dataset.from_dict({"input_ids": [[7, 3], [3, 9]]})).tolist() == [
        3,
        7,
        9,
    ]
    windows = Dataset.from_dict({"input_ids": [[[7, 3], [1]], [[3, 9]]]})
    assert find_used_token_ids(windows).tolist() == [1, 3, 7, 9]


def test_frozen_hooked_and_well_used_tables_are_left_alone():
    frozen = create_classifier("bert")
    frozen.get_input_embeddings().weight.requires_grad_(False)
    hooked = create_classifier("bert")
    hooked.get_input_embeddings().register_forward_hook(lambda *_: None)
    for model in (frozen, hooked):
        assert compact_embedding(model, ROWS, has_decay=False) == []
        assert type(model.get_input_embeddings()) is nn.Embedding
    well_used = create_classifier("bert")
    all_tokens = Dataset.from_dict({"input_ids": [list(range(90))]})
    assert compact_embedding(well_used, all_tokens, has_decay=False) == []


def table_and_places():
    full = nn.Embedding(100, 16, padding_idx=1)
    table = CompactEmbedding(copy.deepcopy(full), torch.tensor([1, *USED]), has_decay=False).train()
    tokens = torch.tensor([[5, 6, 5, 1], [39, 5, 4, 1]])
    return full, table, tokens


def expected_gradient(full, gradient):
    """Of the used rows, and of the row of ones."""
    return torch.cat([gradient[[1, *USED]], gradient.new_zeros(1, full.embedding_dim)])


def test_the_gradient_is_that_of_a_plain_table_and_adds_up_over_batches():
    full, table, tokens = table_and_places()
    for _ in range(2):  # the second one adds to the first
        factors = torch.randn(*tokens.shape, 16)
        for module in (full, table):
            (module(tokens) * factors).sum().backward()
        assert torch.equal(table.used_weight.grad, expected_gradient(full, full.weight.grad))


def test_the_gradients_of_one_step_after_another_have_the_same_memory_and_no_old_numbers():
    full, table, tokens = table_and_places()
    table(torch.tensor([10, 11])).sum().backward()
    memory = table.used_weight.grad.data_ptr()
    table.used_weight.grad.fill_(float("nan"))  # what clipping makes of a norm that is not finite
    table.zero_grad()
    for module in (full, table):
        module(tokens).sum().backward()
    assert table.used_weight.grad.data_ptr() == memory
    assert torch.equal(table.used_weight.grad, expected_gradient(full, full.weight.grad))
