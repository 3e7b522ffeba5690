"""Padding in the model: its token's id, which token of a padded row a head reads, and who depends on it."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

DEPEND_ON_PADDING = frozenset(
    {
        *("big_bird", "bigbird_pegasus", "canine", "convbert", "fnet"),
        *("nystromformer", "t5gemma", "t5gemma2", "yoso"),
    }
)
"""Model types whose logits of a row change with its padding: FNet's Fourier transform mixes all positions,
and the others' landmarks, blocks or convolutions reach into the padding. docs/architectures.md measures all.
"""


def set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tell a model the id of its tokenizer's padding token, which its config may lack or have wrong.

    A model whose positions start behind the padding id (RoBERTa and similar) keeps its own.
    """
    config = model.config.get_text_config()
    if tokenizer.pad_token_id is not None and padded_positions(model) is None:
        config.pad_token_id = tokenizer.pad_token_id


def read_last_token_by_mask(model: PreTrainedModel) -> None:
    """Let a decoder's logits be those of the last token that the attention mask has.

    Transformers takes the last token that is not the padding token's id, which is the wrong one where a
    text ends with that token: the end-of-text token often pads. Where the two agree, the bits of
    logits and gradients are the same.

    Args:
        model: changed by hooks, if its head computes logits (rows, tokens, labels).
    """
    # EuroBERT's head gives logits (rows, tokens, labels), too, and takes their mean.
    is_decoder = model.config.model_type == "modernbert-decoder"
    head = getattr(model, "classifier" if is_decoder else "score", None)
    if not isinstance(head, nn.Linear):
        return
    call = threading.local()  # predictions may run on several threads

    def note_mask(_model: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        call.mask = inputs.get("attention_mask")

    def repeat_last(_head: nn.Module, _args: Any, logits: torch.Tensor) -> torch.Tensor:
        mask = getattr(call, "mask", None)
        if mask is None or logits.shape[:-1] != mask.shape:
            return logits
        numbers = torch.arange(mask.shape[-1], device=mask.device)
        last = (numbers * mask).argmax(-1)[:, None, None].expand(-1, 1, logits.shape[-1])
        return logits.gather(1, last).expand_as(logits)  # whichever token is read: the last

    model.register_forward_pre_hook(note_mask, with_kwargs=True)
    head.register_forward_hook(repeat_last)


def padded_positions(model: nn.Module) -> tuple[int, int] | None:
    """Rows and padding id of a table of positions that start behind the padding id, as RoBERTa's."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings":
            padding = getattr(module, "padding_idx", None)
            return None if padding is None else (len(module.weight), padding)
    return None


def ignore_neighbours(model: PreTrainedModel) -> None:
    """Let a model of `DEPEND_ON_PADDING` compute each row without padding, in evaluation mode.

    A row's logits then do not depend on the other rows of its batch. Training stays as it is.

    Args:
        model: its `forward` is changed; weights and what `save_pretrained` writes stay.
    """
    if model.config.model_type in DEPEND_ON_PADDING:
        # A method, which copy.deepcopy and accelerate's mixed precision bind to the right object.
        model.forward = MethodType(_forward_rows, model)


def _forward_rows(self: Any, *args: Any, **inputs: Any) -> Any:
    forward, input_ids = type(self).forward, inputs.get("input_ids")
    if self.training or input_ids is None:
        return forward(self, *args, **inputs)
    # FNet takes no mask.
    mask = inputs.get("attention_mask", input_ids != self.config.pad_token_id)
    with keep_attention_type(self, self.config):
        if mask.all():
            return forward(self, *args, **inputs)
        rows = [
            self(
                **{
                    name: value[row : row + 1, tokens]
                    if value.shape == mask.shape
                    else value[row : row + 1]
                    for name, value in inputs.items()
                    if isinstance(value, torch.Tensor)
                }
            )
            for row, tokens in enumerate(mask.bool())
        ]
    losses = [row.loss for row in rows if row.loss is not None]
    return SequenceClassifierOutput(
        loss=torch.stack(losses).mean() if losses else None,
        logits=torch.cat([row.logits for row in rows]),
    )


@contextmanager
def keep_attention_type(model: nn.Module, start: Any = None) -> Iterator[None]:
    """Undo within a block that BigBird turns from sparse to full attention for good, at a short batch.

    Args:
        model: any other is left alone.
        start: has the `attention_type` to begin with; None: the present one.
    """
    sparse = sparse_encoder(model)
    if sparse is None:
        yield
        return
    before, logger = sparse.attention_type, logging.getLogger(type(sparse).__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of each short batch
    with torch.random.fork_rng(devices=[]):  # another attention draws weights, which are replaced
        if start is not None:
            sparse.set_attention_type(start.attention_type)
        try:
            yield
        finally:
            sparse.set_attention_type(before)
            logger.setLevel(level)


def sparse_encoder(model: nn.Module) -> Any:
    """BigBird's module that may turn from sparse to full attention; None in any other model."""
    return next(
        (module for module in model.modules() if hasattr(module, "set_attention_type")), None
    )


def attention_states(model: nn.Module) -> dict[str, "AttentionState"]:
    """What checkpoints must hold of a model besides its weights: BigBird's attention."""
    sparse = sparse_encoder(model)
    return {} if sparse is None else {"attention": AttentionState(sparse)}


class AttentionState:
    """The attention that BigBird has come to in training.

    Args:
        sparse: from `sparse_encoder`.
    """

    def __init__(self, sparse: Any) -> None:
        self.sparse = sparse

    def state_dict(self) -> dict[str, str]:
        """The present type."""
        return {"attention_type": self.sparse.attention_type}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Turn to the saved type."""
        self.sparse.set_attention_type(state["attention_type"])
