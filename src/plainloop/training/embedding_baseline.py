"""Baseline without fine-tuning: a linear model on the embeddings of the checkpoint as it was loaded."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.console import progress_bar
from plainloop.data.quality.baselines import predict_linearly, score_predictions
from plainloop.data.quality.findings import read_arrays
from plainloop.metrics.scorer import Scores
from plainloop.model.load import load_model
from plainloop.model.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from datasets import DatasetDict

FEWEST_ROWS = 50
MOST_ROWS = 2_000
MOST_FLOPS = 6e12
"""For all embeddings, about 30 s on 2 CPU cores. With a limit in seconds, scores would vary."""
MOST_PARAMETERS = 500e6
"""Largest checkpoint, because it is loaded a second time."""
BATCH_SIZE = 32
SEED = 0


@torch.inference_mode()
def score_embeddings(
    raw: "DatasetDict", task: Task, pretrained: str, config: TrainConfig
) -> dict[str, Scores]:
    """Fit a linear model to frozen embeddings of training rows, and score it on validation rows.

    The embedding of a text is the mean of its tokens in the last layer. The features of a pair are
    |u - v| and u * v of its two embeddings (InferSent; Conneau et al., 2017). At most 2,000 random rows
    of each split are used, fewer with a large checkpoint. It is computed on the CPU.

    Args:
        raw: the splits as read, of which train and validation have labels.
        task: its text columns and problem type.
        pretrained: the checkpoint, as `resolve_model` gives it.
        config: its max_length and new_head.

    Returns:
        Name of the baseline -> its scores. Empty if it would have fewer than 50 training rows, or all
        with one label; if the checkpoint has more than 500 million parameters, is an encoder-decoder,
        or takes no attention mask.
    """
    if len(raw["train"]) < FEWEST_ROWS:
        return {}
    tokenizer = load_tokenizer(pretrained)
    with torch.random.fork_rng(devices=[]):  # a head may be drawn, which is not used
        model: Any = load_model(pretrained, task, new_head=config.new_head)[0]
    encoder = model.base_model.eval()
    takes_mask = "attention_mask" in inspect.signature(encoder.forward).parameters
    is_large = model.num_parameters() > MOST_PARAMETERS
    if model.config.is_encoder_decoder or not takes_mask or is_large:
        return {}

    draw, token_ids, labels = np.random.default_rng(SEED), [], []
    for split in read_arrays(raw, task):
        if split.name in ("train", "validation"):
            rows = draw.permutation(len(split.idx))[:MOST_ROWS]
            texts = [column.take(rows).to_pylist() for column in split.texts]
            token_ids.append([_token_ids(of, tokenizer, config.max_length) for of in texts])
            labels.append(np.asarray(split.labels)[rows])
    weights = sum(
        parameter.numel()
        for module in encoder.modules()
        if not isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    )
    tokens = np.mean([sum(map(len, row)) for row in zip(*token_ids[0], strict=True)])
    affordable = int(MOST_FLOPS / (2 * weights * tokens))
    others = min(len(labels[1]), affordable // 2)
    counts = [min(len(labels[0]), affordable - others), others]
    seen = labels[0][: counts[0]]
    if counts[0] < FEWEST_ROWS or (seen == seen[0]).all():
        return {}
    total = sum(counts) * len(task.text_columns)
    with progress_bar(total=total, desc="Embedding baseline", unit="text", delay=1) as bar:
        features = [
            _features([_embed(ids[:count], tokenizer, encoder, bar) for ids in columns])
            for columns, count in zip(token_ids, counts, strict=True)
        ]
    predictions = predict_linearly(features[0], seen, features[1], task)
    name = "ridge" if task.problem_type == "regression" else "logistic regression"
    scores = score_predictions(labels[1][:others], predictions, task)
    return {f"frozen embeddings + {name}": scores}


def _token_ids(texts: list[str], tokenizer: Any, max_length: int | None) -> list[list[int]]:
    """Token ids of texts; at least one, as a decoder has none for an empty text."""
    found = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return [ids or [tokenizer.pad_token_id] for ids in found]


def _embed(token_ids: list[list[int]], tokenizer: Any, encoder: Any, bar: Any) -> NDArray[Any]:
    """The mean of each text's tokens in the last layer, float32 (texts, hidden size)."""
    order = np.argsort([len(ids) for ids in token_ids], kind="stable")
    found: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), BATCH_SIZE):
        part = order[start : start + BATCH_SIZE].tolist()
        batch = tokenizer.pad({"input_ids": [token_ids[at] for at in part]}, return_tensors="pt")
        mask = batch["attention_mask"].unsqueeze(-1)
        hidden = encoder(**batch).last_hidden_state
        found |= dict(zip(part, (hidden * mask).sum(1) / mask.sum(1), strict=True))
        bar.update(len(part))
    return torch.stack([found[at] for at in range(len(found))]).float().numpy()


def _features(embeddings: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if len(embeddings) == 1:
        return embeddings[0]
    first, second = embeddings
    return np.concatenate([abs(first - second), first * second], axis=1)
