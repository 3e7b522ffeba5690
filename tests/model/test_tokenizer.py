"""A tokenizer gives what its model takes: so many tokens, these inputs, and a token to pad with."""

import pytest
import torch
from tiny_checkpoints import SMALL, WORDS, save_classifier, save_decoder, save_tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task
from plainloop.errors import UserError
from plainloop.model.load import create_model, load_model
from plainloop.model.tokenizer import load_tokenizer

TASK = get_task("cola")


@pytest.fixture
def decoder(tmp_path):
    """A random GPT-2 without any padding token."""
    save_decoder(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "limit"),
    [
        ("bert", 20),
        ("roberta", 19),
        ("xlm-roberta", 19),
        ("camembert", 19),
        ("mpnet", 18),  # whose padding id is always 1
        ("longformer", 19),
        ("esm", 19),
        ("data2vec-text", 19),
        ("lilt", 19),
        ("luke", 19),
        ("markuplm", 19),
        ("ibert", 19),
        ("electra", 20),
    ],
)
def test_rows_are_as_long_as_the_model_has_positions_behind_the_padding_id(
    tmp_path, model_type, limit
):
    settings = {"max_position_embeddings": 20}
    if model_type == "longformer":
        settings["attention_window"] = [4]
    if model_type == "luke":
        settings["entity_vocab_size"] = 4
    AutoConfig.for_model(model_type, **SMALL, **settings).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pad_token="<pad>")
    assert load_tokenizer(str(tmp_path)).model_max_length == limit


def test_a_model_of_any_length_sets_no_limit(tmp_path):
    config = AutoConfig.for_model("xlnet", vocab_size=len(WORDS), d_model=8, n_layer=1, n_head=2)
    config.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pad_token="<pad>", model_max_length=77)
    assert load_tokenizer(str(tmp_path)).model_max_length == 77


@pytest.mark.parametrize(
    ("model_type", "settings", "has_types"),
    [
        ("bert", {}, True),
        ("roberta", {"type_vocab_size": 1}, False),
        ("modernbert", {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2}, False),
    ],
)
def test_a_tokenizer_gives_the_inputs_that_its_model_takes(
    tmp_path, model_type, settings, has_types
):
    save_classifier(tmp_path, model_type, sep_token_id=3, **settings)
    save_tokenizer(tmp_path, pad_token="<pad>")
    tokenizer = load_tokenizer(str(tmp_path))
    encoded = tokenizer(["a b"], ["c"], return_tensors="pt")
    assert ("token_type_ids" in encoded) is has_types
    model, _ = load_model(str(tmp_path), TASK)
    assert model(**encoded).logits.shape == (1, 2)
    tokenizer.save_pretrained(tmp_path)
    assert ("token_type_ids" in load_tokenizer(str(tmp_path)).model_input_names) is has_types


def test_without_a_padding_token_the_end_of_text_token_pads_and_a_warning_says_so(decoder, caplog):
    tokenizer = load_tokenizer(decoder)
    assert tokenizer.pad_token_id == 3
    assert "has no padding token: rows are padded with its end-of-text token </s>" in caplog.text
    model, _ = create_model(decoder, TASK, TrainConfig(), tokenizer)
    assert model.config.pad_token_id == 3
    batch = tokenizer(["a b c", "d"], padding=True, return_tensors="pt")
    assert model(**batch).logits.shape == (2, 2)


def test_the_tokenizers_padding_token_beats_the_models(tmp_path):
    save_classifier(tmp_path, "bert")
    save_tokenizer(tmp_path, pad_token="h")
    tokenizer = load_tokenizer(str(tmp_path))
    model, _ = create_model(str(tmp_path), TASK, TrainConfig(), tokenizer)
    assert model.config.pad_token_id == tokenizer.pad_token_id == WORDS.index("h")


def test_a_padding_id_that_positions_start_behind_stays(tmp_path):
    save_classifier(tmp_path, "roberta")
    save_tokenizer(tmp_path, pad_token="h")
    model, _ = create_model(str(tmp_path), TASK, TrainConfig(), load_tokenizer(str(tmp_path)))
    assert model.config.pad_token_id == 0


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_mask_decides_which_token_a_decoder_reads(decoder, side):
    tokenizer = load_tokenizer(decoder)
    tokenizer.padding_side = side
    model, _ = create_model(decoder, TASK, TrainConfig(), tokenizer)
    # Without padding the model reads the last token, whatever it is.
    plain = AutoModelForSequenceClassification.from_pretrained(decoder)
    plain.load_state_dict(model.state_dict())
    plain.config.pad_token_id = None
    texts = ["a b c d e", "a b </s>", "c </s> d", "</s> </s>", "e"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    found = model(**batch, position_ids=positions).logits
    for text, logits in zip(texts, found, strict=True):
        alone = plain(**tokenizer([text], return_tensors="pt")).logits[0]
        assert torch.allclose(logits, alone, atol=1e-6), text


def test_where_mask_and_padding_id_agree_logits_and_gradients_keep_their_bits(decoder):
    tokenizer = load_tokenizer(decoder)
    model, _ = create_model(decoder, TASK, TrainConfig(), tokenizer)
    plain = AutoModelForSequenceClassification.from_pretrained(decoder, pad_token_id=3)
    plain.load_state_dict(model.state_dict())
    batch = tokenizer(["a b c d e", "a b", "c </s> d"], padding=True, return_tensors="pt")
    outputs = [each.eval()(**batch, labels=torch.tensor([0, 1, 1])) for each in (model, plain)]
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    for output in outputs:
        output.loss.backward()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name


def test_a_folder_without_a_vocabulary_is_refused(decoder, tmp_path):
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="its files are missing or another model's"):
        load_tokenizer(decoder)


def test_a_tokenizer_far_smaller_than_the_models_table_is_refused(tmp_path):
    save_classifier(tmp_path, "bert", vocab_size=500)
    save_tokenizer(tmp_path, pad_token="<pad>")
    with pytest.raises(UserError, match="the tokenizer knows 12 tokens, the model 500"):
        load_tokenizer(str(tmp_path))


def test_loading_leaves_the_random_numbers_of_the_process_alone(decoder):
    before = torch.get_rng_state()
    load_tokenizer(decoder)
    assert torch.equal(torch.get_rng_state(), before)
