"""LoRA: what is trained, what is saved, and that merging changes nothing."""

import json
import sys

import pytest
import torch
from architectures.tiny import save_checkpoint
from safetensors.torch import load_file, load_model as load_weights, save_model
from tiny import run_tiny
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.batches.sliding_windows import WindowCollator, pool_windows, tokenize_windows
from plainloop.errors import UserError
from plainloop.model.load import load_model
from plainloop.model.lora import add_lora, check_lora_folder, is_lora_folder, merge_lora, save_lora
from plainloop.predict.loaded_run import load_run
from plainloop.training.optim import create_optimizer

LABELS = ("bad", "fair", "good")
TASK = Task("ratings", ("text",), LABELS, ("accuracy",))
TEXTS = ["the cat sees a car", "a dog likes the tree and the house", "not a song"]


@pytest.fixture
def batch(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    return {**inputs, "labels": torch.tensor([0, 1, 2])}


def make(tiny_model, rank=4, **settings):
    torch.manual_seed(0)
    model, new = load_model(str(tiny_model), TASK, dropout=0.0)
    return add_lora(model, rank, new_parameters=new, **settings)


def train(model, batch, steps=3):
    optimizer = create_optimizer(model, TrainConfig(task="demo", learning_rate=0.05))
    for _ in range(steps):
        model.train()(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def logits_of(model, batch):
    with torch.no_grad():
        return model.eval()(**batch).logits


def small_model(architecture):
    small = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    if architecture == "distilbert":
        small = {"n_layers": 1, "dim": 8, "n_heads": 2, "hidden_dim": 16}
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=40, pad_token_id=0, intermediate_size=16, num_labels=3, **small
    )
    return AutoModelForSequenceClassification.from_config(config)


def test_a_new_adapter_leaves_the_logits_bit_for_bit(tiny_model, batch):
    torch.manual_seed(0)
    plain, _ = load_model(str(tiny_model), TASK, dropout=0.0)
    assert torch.equal(logits_of(make(tiny_model), batch), logits_of(plain, batch))


def test_the_optimizer_takes_the_adapter_and_the_head_and_nothing_else(tiny_model, batch):
    model = make(tiny_model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = create_optimizer(model, TrainConfig(task="demo", weight_decay=0.1))
    rows = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    # 2 layers x (query, value) x (A, B) of rank 4 on width 32, and 3 labels.
    assert rows == 2 * 2 * 2 * 4 * 32 + 3 * 32 + 3
    assert [len(group["params"]) for group in optimizer.param_groups] == [9, 1]
    train(model, batch)
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {name for name, p in model.named_parameters() if p.requires_grad}


def test_the_adapter_adds_alpha_over_rank_times_b_a(tiny_model, batch):
    model = train(make(tiny_model, rank=2, alpha=5.0), batch)
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    hidden = torch.randn(3, 32)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    weight = layer.base_layer.weight + 5.0 / 2 * b @ a
    expected = functional.linear(hidden, weight, layer.base_layer.bias)
    assert b.abs().max() > 0
    torch.testing.assert_close(layer(hidden), expected)
    assert make(tiny_model, rank=2).peft_config["default"].lora_alpha == 4


def test_a_saved_adapter_is_loaded_bit_for_bit_with_its_labels(tiny_model, batch, tmp_path):
    model = train(make(tiny_model), batch)
    save_lora(model, tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if "token" not in path.name) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "model.safetensors",
    ]
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits_of(loaded, batch), logits_of(model, batch))
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert loaded.config.problem_type == "single_label_classification"
    best = LABELS[int(logits_of(model, batch)[0].argmax())]
    assert pipeline("text-classification", model=str(tmp_path))(TEXTS[0])[0]["label"] == best
    ours, new = load_model(str(tmp_path), TASK)
    assert new == []
    # Merged, since it is loaded to be trained on: the sum is then rounded once more.
    torch.testing.assert_close(
        logits_of(ours, batch), logits_of(model, batch), rtol=1e-5, atol=1e-5
    )


def test_the_base_model_is_saved_as_it_was_and_named_as_given(tiny_model, batch, tmp_path):
    torch.manual_seed(0)
    plain, _ = load_model(str(tiny_model), TASK, dropout=0.0)
    save_lora(train(make(tiny_model), batch), tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == plain.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in plain.state_dict().items())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model)
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "SEQ_CLS")
    assert config["inference_mode"] is True


def test_peft_loads_the_adapter_onto_the_base_model(tiny_model, batch, tmp_path):
    from peft import PeftModel

    model = train(make(tiny_model), batch)
    save_lora(model, tmp_path)
    base, _ = load_model(str(tiny_model), TASK, dropout=0.0)
    assert torch.equal(
        logits_of(PeftModel.from_pretrained(base, tmp_path), batch), logits_of(model, batch)
    )


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_merged_model_is_a_plain_one_with_the_same_logits(tiny_model, batch, tmp_path, reloaded):
    model = train(make(tiny_model), batch)
    expected = logits_of(model, batch)
    if reloaded:
        save_lora(model, tmp_path / "adapter")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    merged = merge_lora(model)
    plain, _ = load_model(str(tiny_model), TASK, dropout=0.0)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert all(parameter.requires_grad for parameter in merged.parameters())
    torch.testing.assert_close(logits_of(merged, batch), expected, rtol=1e-5, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    assert not is_lora_folder(tmp_path / "merged")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert torch.equal(logits_of(loaded, batch), logits_of(merged, batch))
    assert loaded.config.id2label == dict(enumerate(LABELS))
    again = add_lora(merged, 2)  # and LoRA can be added anew
    assert torch.equal(logits_of(again, batch), logits_of(loaded, batch))


def test_a_checkpoint_of_safetensors_restores_the_whole_model(tiny_model, batch, tmp_path):
    model = train(make(tiny_model), batch)
    save_model(model, str(tmp_path / "model.safetensors"))
    other = make(tiny_model)
    assert not torch.equal(logits_of(other, batch), logits_of(model, batch))
    load_weights(other, tmp_path / "model.safetensors")
    assert torch.equal(logits_of(other, batch), logits_of(model, batch))


@pytest.mark.parametrize(
    ("architecture", "layers", "head"),
    [
        ("roberta", {"query", "value"}, {"classifier"}),
        ("distilbert", {"q_lin", "v_lin"}, {"pre_classifier", "classifier"}),
        ("albert", {"query", "value"}, {"classifier"}),
        ("mpnet", {"q", "v"}, {"classifier"}),
        ("modernbert", {"Wqkv"}, {"head", "classifier"}),
        ("deberta-v2", {"query_proj", "value_proj"}, {"pooler", "classifier"}),
    ],
)
def test_other_architectures_train_their_attention_and_their_whole_head(
    architecture, layers, head, tmp_path
):
    model = small_model(architecture)
    outside = {name for name, _ in model.named_parameters() if name.split(".")[0] in head}
    wrapped = add_lora(model, 2)
    trained = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name in trained if ".lora_" in name}
    assert adapted == layers
    in_full = {name for name in trained if ".lora_" not in name}
    assert {
        name.removeprefix("base_model.model.").replace("modules_to_save.default.", "")
        for name in in_full
    } == outside
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_B" in name:
                parameter.fill_(0.1)
    expected = logits_of(wrapped, {"input_ids": ids})
    save_lora(wrapped, tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    # Not bit for bit: weights read from a file lie elsewhere in memory than new ones, and so narrow
    # a matrix is then added up in another order, with LoRA or without.
    torch.testing.assert_close(logits_of(loaded, {"input_ids": ids}), expected)
    merged = logits_of(merge_lora(wrapped), {"input_ids": ids})
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def test_new_parameters_within_the_encoder_are_trained_in_full(tiny_model):
    torch.manual_seed(0)
    model, _ = load_model(str(tiny_model), TASK)
    new = ["bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.weight"]
    trained = {
        n for n, p in add_lora(model, 2, new_parameters=new).named_parameters() if p.requires_grad
    }
    assert {name for name in trained if "lora_" not in name} == {
        f"base_model.model.{module}.modules_to_save.default.{kind}"
        for module in ("bert.pooler.dense", "classifier")
        for kind in ("bias", "weight")
    }


def test_windows_of_a_model_with_an_adapter_are_pooled(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    texts = {"text": ["the cat sees a car and the dog not " * 5, "a tree"]}
    columns = tokenize_windows(texts, tokenizer, ("text",), 16, 4)
    rows = [
        {**dict(zip(columns, row, strict=True)), "labels": label}
        for label, row in enumerate(zip(*columns.values(), strict=True))
    ]
    batch = WindowCollator(tokenizer)(rows)
    outputs = pool_windows(make(tiny_model))(**batch)
    inputs = {name: batch[name] for name in tokenizer.model_input_names}
    logits = make(tiny_model)(**inputs).logits
    expected = torch.stack([logits[:-1].mean(dim=0), logits[-1]])
    torch.testing.assert_close(outputs.logits, expected)
    torch.testing.assert_close(outputs.loss, functional.cross_entropy(expected, batch["labels"]))


def test_a_model_without_such_layers_is_refused():
    model = small_model("fnet")  # Fourier transforms instead of attention
    with pytest.raises(UserError, match="--lora-rank: FNetForSequenceClassification has no query"):
        add_lora(model, 4)


def test_layers_that_share_a_weight_are_refused(tmp_path):
    save_checkpoint("zamba", tmp_path)  # merged into one weight, the adapters of two would add up
    model, _ = load_model(str(tmp_path), TASK)
    with pytest.raises(
        UserError, match="--lora-rank: ZambaForSequenceClassification has one weight"
    ):
        add_lora(model, 4)


def test_a_missing_peft_is_one_line(tiny_model, monkeypatch, tmp_path):
    model, _ = load_model(str(tiny_model), TASK)
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("plainloop.model.lora.find_spec", lambda name: None)
    message = r"LoRA needs peft, which is not installed; pip install peft"
    with pytest.raises(UserError, match="--lora-rank: " + message):
        add_lora(model, 4)
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(UserError, match=f"--model {tmp_path}: {message}"):
        check_lora_folder(tmp_path)


def test_an_adapter_of_pickle_is_refused(tiny_model, batch, tmp_path):
    save_lora(make(tiny_model), tmp_path)
    check_lora_folder(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match=r"an adapter without adapter_model\.safetensors"):
        check_lora_folder(tmp_path)


@pytest.mark.parametrize("more", [{}, {"bf16": True}], ids=["alone", "with --bf16"])
def test_frozen_weights_in_bfloat16_train_float32_adapters(tmp_path, tiny_model, tiny_data, more):
    settings = {"model": str(tiny_model), "data_dir": tiny_data, "lora_rank": 4, "dropout": 0.0}
    settings |= {"learning_rate": 1e-2, "num_train_epochs": 1}
    half = run_tiny(tmp_path / "half", dtype="bfloat16", **settings, **more)
    full = run_tiny(tmp_path / "full", **settings)
    assert half.series("loss") == pytest.approx(full.series("loss"), abs=0.02)
    assert half.series("loss") != full.series("loss")
    adapter = load_file(tmp_path / "half" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    assert any("lora_B" in name and tensor.any() for name, tensor in adapter.items())
    assert {tensor.dtype for tensor in half.weights.values()} == {torch.bfloat16}
    [predicted] = load_run(half.folder).predict([("the cat", "a dog")])
    assert predicted["label"] in ("different", "paraphrase")
    classify = pipeline("text-classification", model=str(half.folder))
    assert 0 < classify({"text": "the cat", "text_pair": "a dog"})["score"] < 1
