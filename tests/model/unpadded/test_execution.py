"""Which way a model computes, and what is said of it."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType
from accelerate.utils import DynamoBackend
from classifiers import create_classifier
from datasets import Dataset
from tiny import largest_difference
from transformers import RemBertConfig, RemBertForSequenceClassification

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.model.unpadded.embedding import CompactEmbedding
from plainloop.model.unpadded.execution import choose_execution

ROWS = Dataset.from_dict({"input_ids": [list(range(4, 40))]})


def choose(
    model,
    execution="auto",
    distributed=DistributedType.NO,
    backend=DynamoBackend.NO,
    device="cpu",
    **settings,
):
    state = SimpleNamespace(dynamo_plugin=SimpleNamespace(backend=backend))
    accelerator = SimpleNamespace(
        distributed_type=distributed, state=state, device=torch.device(device)
    )
    config = TrainConfig(task="demo", execution=execution, **settings)
    return choose_execution(model, ROWS, config, accelerator)


def test_auto_runs_unpadded_and_trains_the_tokens_in_use():
    model = create_classifier("bert")
    said = ["unpadded", "trains 37 of 100 token embeddings: no text has the others"]
    assert choose(model) == said
    assert isinstance(model.get_input_embeddings(), CompactEmbedding)


def test_padded_leaves_the_model_as_it_is():
    model = create_classifier("bert")
    assert choose(model, "padded") == ["padded"]
    assert "forward" not in vars(model.base_model)


def test_where_parameters_are_another_engines_the_table_stays_whole():
    assert choose(create_classifier("bert"), distributed=DistributedType.FSDP) == ["unpadded"]


def test_a_compiled_model_runs_padded_and_says_why():
    model = create_classifier("bert")
    [said] = choose(model, backend=DynamoBackend.INDUCTOR)
    assert said.startswith("padded: torch.compile")
    assert "forward" not in vars(model.base_model)


def test_rows_grouped_by_length_run_padded_and_it_says_why():
    grouped = {"train_sampling_strategy": "group_by_length"}
    model = create_classifier("bert")
    said = ["padded: without group_by_length no padding would be computed"]
    assert choose(model, **grouped) == said
    assert "forward" not in vars(model.base_model)


@pytest.mark.parametrize("optim", ["sgd", "adafactor"])
def test_only_adamw_trains_a_part_of_the_table(optim):
    model = create_classifier("bert")
    assert choose(model, optim=optim) == ["unpadded"]
    assert not isinstance(model.get_input_embeddings(), CompactEmbedding)


@pytest.mark.slow
def test_in_bfloat16_a_run_without_padding_stays_near_the_padded_one(run):
    """The tolerance that docs/how-to/precision.md states."""
    settings = {"dropout": 0.0, "learning_rate": 1e-3, "bf16": True, "num_train_epochs": 2}
    padded, auto = run(execution="padded", **settings), run(**settings)
    differences = [
        abs(ours - theirs)
        for ours, theirs in zip(auto.series("loss"), padded.series("loss"), strict=True)
    ]
    print(f"losses differ by at most {max(differences):.4f}")
    assert 0 < max(differences) < 0.02
    assert {tensor.dtype for tensor in auto.weights.values()} == {torch.float32}


def test_on_a_gpu_auto_pads_and_only_a_wish_runs_unpadded():
    [said] = choose(create_classifier("bert"), device="cuda")
    assert said.startswith("padded: unpadded was not measured on cuda")
    assert choose(create_classifier("bert"), "unpadded", device="cuda")[0] == "unpadded"


def test_a_run_without_padding_gives_the_losses_and_scores_of_the_padded_one(run):
    settings = {"dropout": 0.0, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    settings |= {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "weight_decay": 0.01}
    padded, auto = run(execution="padded", **settings), run(**settings)
    assert len(auto.history) == len(padded.history) == 6
    for name in ("loss", "grad_norm"):
        assert auto.series(name) == pytest.approx(padded.series(name), rel=1e-5)
    assert auto.series("loss") != padded.series("loss")  # up to rounding, since it is another way
    for ours, theirs in zip(
        auto.metrics["evaluations"], padded.metrics["evaluations"], strict=True
    ):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("execution", ["padded", "unpadded"])
@pytest.mark.parametrize("more", [{}, {"lora_rank": 2}], ids=["weights", "adapters"])
def test_gradient_checkpointing_gives_the_same_bits_with_dropout(run, execution, more):
    kept = run(execution=execution, max_steps=6, **more)
    again = run(execution=execution, max_steps=6, gradient_checkpointing=True, **more)
    assert again.history[-1]["loss"] != again.history[0]["loss"]
    for name in ("loss", "grad_norm"):
        assert again.series(name) == kept.series(name)
    assert largest_difference(again.weights, kept.weights) == 0


def test_adapters_train_unpadded_to_the_same_weights(run):
    settings = {"dropout": 0.0, "lora_rank": 2, "learning_rate": 1e-2, "max_steps": 6}
    padded, auto = (
        run(merge_lora=True, execution=execution, **settings)
        for execution in ("padded", "unpadded")
    )
    assert auto.series("loss") == pytest.approx(padded.series("loss"), rel=1e-5)
    assert 0 < largest_difference(auto.weights, padded.weights) < 1e-5


def test_a_model_that_cannot_is_padded_or_refused():
    sizes = {"input_embedding_size": 8, "hidden_size": 8, "num_attention_heads": 2}
    model = RemBertForSequenceClassification(
        RemBertConfig(vocab_size=20, num_hidden_layers=1, intermediate_size=8, **sizes)
    )
    assert choose(model) == ["padded: RemBertForSequenceClassification runs padded alone"]
    with pytest.raises(UserError, match="--execution unpadded: it runs padded"):
        choose(model, "unpadded")
