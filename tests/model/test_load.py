"""Checkpoints, heads, dropout, freezing, and the first forward pass."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from architectures.tiny import save_checkpoint
from tiny_checkpoints import save_classifier, save_small, save_tokenizer
from transformers import pipeline

from plainloop.config.tasks import get_task
from plainloop.errors import DivergedError, UserError
from plainloop.model.load import first_forward, freeze, load_model
from plainloop.model.tokenizer import load_tokenizer

TASK = get_task("demo")


def test_a_checkpoint_without_a_head_gets_a_new_one_with_the_label_names(tiny_model):
    torch.manual_seed(5)
    model, new = load_model(str(tiny_model), TASK)
    assert new == ["classifier.bias", "classifier.weight"]
    assert model.config.id2label == {0: "different", 1: "paraphrase"}
    assert model.config.label2id == {"different": 0, "paraphrase": 1}
    torch.manual_seed(5)
    again, _ = load_model(str(tiny_model), TASK)
    assert torch.equal(model.classifier.weight, again.classifier.weight)


def test_a_finished_run_keeps_its_head_and_answers_with_its_labels(run):
    finished = run(max_steps=2)
    _, new = load_model(str(finished.folder), TASK)
    assert new == []
    answer = pipeline("text-classification", model=str(finished.folder))(
        {"text": "the cat sees a car", "text_pair": "the dog sees a car"}
    )
    assert answer["label"] in TASK.label_names


def test_a_head_for_other_labels_is_refused_with_both_named(run):
    finished = run(max_steps=1)
    with pytest.raises(UserError, match=r"2 labels \(different, paraphrase\).*has 3 \(a, b, c\)"):
        load_model(str(finished.folder), replace(TASK, label_names=("a", "b", "c")))


FAMILIES = (
    "albert bart bert convbert deberta-v2 distilbert electra gpt2 gpt_neox mpnet roberta t5 xlnet"
)


@pytest.mark.parametrize("family", FAMILIES.split())
def test_dropout_sets_every_dropout_of_the_model(family, tmp_path, caplog):
    save_small(tmp_path, family)
    model, _ = load_model(str(tmp_path), TASK, dropout=0.25, new_head=True)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}
    assert "--dropout" not in caplog.text


def test_a_dropout_that_is_not_in_the_config_is_named(tmp_path, caplog):
    save_small(tmp_path, "mpt")  # its attention's is within another object of its config
    load_model(str(tmp_path), TASK, dropout=0.25, new_head=True)
    [record] = caplog.records
    assert record.getMessage().startswith(
        "--dropout: dropouts of 0 in MptForSequenceClassification"
    )


@pytest.mark.parametrize("family", ["bart", "bert", "deberta-v2", "gpt2", "llama", "t5", "xlnet"])
def test_freezing_finds_the_layers(family, tmp_path):
    save_small(tmp_path, family)
    model, _ = load_model(str(tmp_path), TASK, new_head=True)
    freeze(model, embeddings=False, layers=1)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    number = re.compile(r"(?:er\.layer|layers|h|block)\.(\d)\.")  # T5's blocks have layers, too
    assert {found[1] for found in map(number.search, frozen) if found} == {"0"}
    assert not any(re.search("score|classifier|summary", name) for name in frozen)


def test_freezing_shared_layers_is_refused(tmp_path):
    save_small(tmp_path, "albert")
    model, _ = load_model(str(tmp_path), TASK, new_head=True)
    with pytest.raises(UserError, match=r"--freeze-layers: .* no list of layers to freeze"):
        freeze(model, embeddings=False, layers=1)


def test_freezing_more_layers_than_there_are_is_refused(tiny_model):
    model, _ = load_model(str(tiny_model), TASK)
    with pytest.raises(UserError, match="--freeze-layers: 3 layers are more than the model's 2"):
        freeze(model, embeddings=False, layers=3)


def test_damaged_weights_are_one_line(tiny_model, tmp_path):
    copy = tmp_path / "cut"
    shutil.copytree(tiny_model, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"--model: .*cut cannot be loaded: .*header") as caught:
        load_model(str(copy), TASK)
    assert "\n" not in str(caught.value)


def test_code_in_a_checkpoint_is_not_run(tiny_model, tmp_path):
    copy = tmp_path / "hostile"
    shutil.copytree(tiny_model, copy)
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(
        config.replace(
            '"model_type": "bert"', '"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}'
        )
    )
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(copy), TASK)
    assert not (tmp_path / "ran").exists()


def batch_for(tiny_model):
    tokenizer = load_tokenizer(str(tiny_model))
    batch = tokenizer(["the cat", "a dog"], ["the cat", "a car"], return_tensors="pt")
    return {**batch, "labels": torch.tensor([1, 0])}


def test_the_first_forward_pass_moves_no_generator_and_no_weight(tiny_model):
    model, _ = load_model(str(tiny_model), TASK)
    before = torch.get_rng_state()
    loss, shape = first_forward(model, batch_for(tiny_model))
    assert shape == (2, 2)
    assert 0 < loss < 5
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_first_loss_that_is_not_finite_is_an_error(tiny_model):
    model, _ = load_model(str(tiny_model), TASK)
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    with pytest.raises(
        DivergedError, match="first forward pass: the loss of the first batch is nan"
    ):
        first_forward(model, batch_for(tiny_model))


def test_a_new_head_replaces_the_old_one_for_other_or_the_same_labels(run):
    finished = run(max_steps=1)
    for names in (("a", "b", "c"), TASK.label_names):
        task = replace(TASK, label_names=names)
        model, new = load_model(str(finished.folder), task, new_head=True)
        assert {"classifier.bias", "classifier.weight"} <= set(new)
        assert model.classifier.weight.shape[0] == len(names)
        if names == TASK.label_names:
            kept = load_model(str(finished.folder), TASK)[0].classifier.weight
            assert not torch.equal(model.classifier.weight, kept)


def test_a_regression_has_one_logit_and_mean_squared_error(tiny_model):
    model, _ = load_model(str(tiny_model), replace(TASK, label_names=(), problem_type="regression"))
    outputs = model(input_ids=torch.tensor([[2, 5, 3]]), labels=torch.tensor([0.5]))
    assert outputs.logits.shape == (1, 1)
    assert float(outputs.loss.detach()) == pytest.approx(
        float((outputs.logits.detach() - 0.5) ** 2), rel=1e-6
    )


def config_of(folder, **changed):
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changed
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.Config"}},
            "it needs code from its own files, which is never run; choose a model of a type",
        ),
        (
            {"model_type": "qwen99"},
            r"has no model type 'qwen99'; pip install --upgrade transformers",
        ),
        (
            {"model_type": "vit"},
            "Transformers has no text classifier of the type ViT; choose a model",
        ),
        ({"model_type": "whisper"}, "no text classifier of the type Whisper"),
        ({"num_hidden_layers": "many"}, "expected int, got str.*its files are damaged"),
        ({"hidden_size": 16}, "its weights have other shapes than its config.json says"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "install that package"),
    ],
    ids=["code", "newer", "vision", "speech", "damaged", "shapes", "package"],
)
def test_an_error_says_what_is_wrong_with_the_files(tmp_path, changed, said):
    save_classifier(tmp_path, "bert")
    save_tokenizer(tmp_path, pad_token="<pad>")
    config_of(tmp_path, **changed)

    def load():
        load_tokenizer(str(tmp_path))
        load_model(str(tmp_path), TASK)

    with pytest.raises(UserError, match=said):
        load()


def test_reformer_which_trains_on_rows_of_one_length_is_refused(tmp_path):
    save_checkpoint("reformer", tmp_path)
    model, _ = load_model(str(tmp_path), TASK)
    batch = {"input_ids": torch.ones(1, 5, dtype=torch.long), "labels": torch.tensor([1])}
    with pytest.raises(UserError, match=r"trains on rows of one length alone.*another type"):
        first_forward(model, batch)


def test_the_first_forward_pass_moves_no_buffer(tmp_path):
    save_checkpoint("ibert", tmp_path)  # notes the range of its activations
    model, _ = load_model(str(tmp_path), TASK)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    first_forward(model, {"input_ids": torch.tensor([[5, 6]]), "labels": torch.tensor([1])})
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


def test_layoutlmv2_names_the_package_that_it_needs(tmp_path):
    save_checkpoint("layoutlmv2", tmp_path)
    with pytest.raises(UserError, match=r"requires the detectron2 library.*install that package"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("kind", ["canine", "perceiver"])
def test_embeddings_that_are_no_table_are_not_frozen(tmp_path, kind):
    save_checkpoint(kind, tmp_path)
    model, _ = load_model(str(tmp_path), TASK)
    with pytest.raises(
        UserError, match=r"--freeze-embeddings: .* has no table of token embeddings"
    ):
        freeze(model, embeddings=True, layers=0)
