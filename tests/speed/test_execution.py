"""Which way a model computes, and what is said of it."""

from types import SimpleNamespace

import pytest
from accelerate import DistributedType
from accelerate.utils import DynamoBackend
from architectures import create_classifier
from datasets import Dataset
from transformers import AlbertConfig, AlbertForSequenceClassification

from plainloop.config import TrainConfig
from plainloop.errors import UserError
from plainloop.speed.embedding import CompactEmbedding
from plainloop.speed.execution import choose_execution

ROWS = Dataset.from_dict({"input_ids": [list(range(4, 40))]})


def choose(model, execution="auto", distributed=DistributedType.NO, backend=DynamoBackend.NO):
    state = SimpleNamespace(dynamo_plugin=SimpleNamespace(backend=backend))
    accelerator = SimpleNamespace(distributed_type=distributed, state=state)
    config = TrainConfig(task="demo", execution=execution)
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


def test_a_model_that_cannot_is_padded_or_refused():
    sizes = {"embedding_size": 8, "hidden_size": 8, "num_attention_heads": 2}
    model = AlbertForSequenceClassification(
        AlbertConfig(vocab_size=20, num_hidden_layers=1, intermediate_size=8, **sizes)
    )
    assert choose(model) == ["padded: AlbertForSequenceClassification runs padded alone"]
    with pytest.raises(UserError, match="--execution unpadded: it runs padded"):
        choose(model, "unpadded")
