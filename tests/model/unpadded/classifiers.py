"""Tiny random classifiers of each architecture that runs unpadded, and padded batches for them."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    Data2VecTextConfig,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    LayoutLMConfig,
    ModernBertConfig,
    PreTrainedModel,
    RobertaConfig,
    RoCBertConfig,
    XLMRobertaConfig,
)

VOCABULARY, PADDING = 100, 1
TABLES = {"vocab_size": VOCABULARY, "pad_token_id": PADDING, "max_position_embeddings": 80}
SIZES = {
    **TABLES,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 3,
}
DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")
MODERN = {**SIZES, "local_attention": 16, "bos_token_id": 2, "cls_token_id": 2}
MODERN |= {"eos_token_id": 3, "sep_token_id": 3, "num_hidden_layers": 4}
DISTIL = {**TABLES, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "num_labels": 3}


def configurations(dropout: float) -> dict[str, Any]:
    """A configuration of each architecture, by its name."""
    bert = SIZES | dict.fromkeys(DROPOUT, dropout)
    modern = MODERN | dict.fromkeys(
        ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"), dropout
    )
    distil = DISTIL | dict.fromkeys(
        ("dropout", "attention_dropout", "seq_classif_dropout"), dropout
    )
    return {
        "bert": BertConfig(**bert),
        "roberta": RobertaConfig(**bert),
        "xlm-roberta": XLMRobertaConfig(**bert),
        "camembert": CamembertConfig(**bert),
        "electra": ElectraConfig(**bert, embedding_size=16),
        "ernie": ErnieConfig(**bert),
        "data2vec-text": Data2VecTextConfig(**bert),
        "layoutlm": LayoutLMConfig(**bert),
        "roc_bert": RoCBertConfig(**bert),
        "distilbert": DistilBertConfig(**distil),
        "modernbert": ModernBertConfig(**modern, classifier_pooling="cls"),
        "modernbert, mean of the tokens": ModernBertConfig(**modern, classifier_pooling="mean"),
    }


SAME_LAYER = {"ernie", "data2vec-text", "layoutlm", "roc_bert"}  # BERT's, as four others have it
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in SAME_LAYER else ())
    for name in configurations(0.0)
]


def create_classifier(name: str, dropout: float = 0.0, seed: int = 0) -> PreTrainedModel:
    """A random classifier of three labels, in training mode."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        configurations(dropout)[name]
    )
    return model.train()


def create_batch(lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random sequences of these lengths, padded at the right, each with a random label."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    attention_mask = (torch.arange(shape[1]) < torch.tensor(lengths).unsqueeze(1)).long()
    input_ids = torch.randint(4, VOCABULARY, shape, generator=generator)
    return {
        "input_ids": input_ids.where(attention_mask.bool(), PADDING),
        "attention_mask": attention_mask,
        "labels": torch.randint(3, (len(lengths),), generator=generator),
    }


def train_100_steps(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """The loss and the clipped gradient's norm of 100 steps, float64 (100, 2)."""
    history = []
    for step in range(100):
        generator = torch.Generator().manual_seed(step)
        lengths = torch.randint(1, 40, (4,), generator=generator).tolist()
        loss = model(**create_batch(lengths, seed=step)).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        history.append((loss.item(), norm.item()))
    return torch.tensor(history, dtype=torch.float64)


def checkpointing_keeps_the_gradients(model: PreTrainedModel, lengths: list[int]) -> bool:
    """Whether gradient checkpointing gives the same bits, with the same draws of dropout."""
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        torch.manual_seed(7)
        model(**create_batch(lengths)).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) > 10
    return all(torch.equal(ours, other) for ours, other in zip(*gradients, strict=True))
