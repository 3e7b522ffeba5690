"""Padding in the model: its token's id, and which token of a padded row a decoder's head reads."""

import threading
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tell a model the id of its tokenizer's padding token, which its config may lack or have wrong.

    A model whose positions start behind the padding id (RoBERTa's kin) keeps its own.
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
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
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
