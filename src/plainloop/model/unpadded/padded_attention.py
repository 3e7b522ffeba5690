"""Unpadded execution of encoders with an attention of their own: only attention computes the padding.

DeBERTa and MPNet add scores that depend on the distance of two tokens, which varlen attention cannot.
Otherwise their layers treat each token by itself. A layer therefore gets the packed row, and its attention a
padded batch, with Transformers' own mask and distances; nothing of a family is written again.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from plainloop.model.unpadded.dropout import apply_dropout
from plainloop.model.unpadded.packing import Packed, pack_inputs

PADDED_ATTENTION = {
    "albert": ("encoder.albert_layer_groups.0", "attention"),
    "deberta": ("encoder.layer.0", "attention.self"),
    "deberta-v2": ("encoder.layer.0", "attention.self"),
    "mpnet": ("encoder.layer.0", "attention.attn"),
}
"""Model type of a configuration -> path of the first layer in the base model, path of attention in a layer."""


def run_with_padded_attention(model: PreTrainedModel) -> None:
    """Make the layers of a classifier of `PADDED_ATTENTION` compute one row, but for attention.

    Args:
        model: changed in place. Batches without padding run as before.
    """
    base: Any = model.base_model
    first_layer, attention_path = PADDED_ATTENTION[model.config.model_type]
    base.forward = partial(_forward_base, base)
    base.encoder.forward = partial(_forward_encoder, base.encoder)
    layer: Any = base.get_submodule(first_layer)
    layer.forward = partial(_forward_first_layer, layer)
    for name, module in base.encoder.named_modules():
        if name.endswith(f".{attention_path}"):
            module.forward = partial(_forward_attention, module)
        elif isinstance(module, nn.Dropout):
            module.forward = partial(apply_dropout, module)  # type: ignore[method-assign]


def _forward_base(
    base: Any,
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    token_type_ids: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    others = {} if token_type_ids is None else {"token_type_ids": token_type_ids}  # MPNet has none
    packed = pack_inputs(base.config, input_ids, attention_mask, kwargs)
    if packed is not None and min(packed.lengths) < packed.is_real.shape[1]:
        # A mask of four dimensions is passed on as it is, to each layer and its attention.
        attention_mask = packed.is_real[:, None, None, :]
        if not base.config.model_type.startswith("deberta"):  # what the scores add
            lowest = torch.finfo(base.dtype).min
            attention_mask = torch.zeros_like(attention_mask, dtype=base.dtype).masked_fill_(
                ~attention_mask, lowest
            )
        attention_mask.packed = packed  # type: ignore[attr-defined]
    return type(base).forward(base, input_ids, attention_mask=attention_mask, **others, **kwargs)


def _forward_encoder(
    encoder: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any
) -> Any:
    output = type(encoder).forward(encoder, hidden_states, attention_mask=attention_mask, **kwargs)
    packed = packed_of(attention_mask)
    if packed is not None:
        output.last_hidden_state = packed.pad(output.last_hidden_state)
        if output.hidden_states:  # DeBERTa reads the last of these
            output.hidden_states = (*output.hidden_states[:-1], output.last_hidden_state)
    return output


def _forward_first_layer(
    layer: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    packed = packed_of(attention_mask)
    if packed is not None and len(hidden_states) > 1:  # ALBERT runs its first layer many times
        hidden_states = packed.pack(hidden_states)
    return type(layer).forward(layer, hidden_states, attention_mask, *args, **kwargs)


def _forward_attention(
    attention: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    packed = packed_of(attention_mask)
    if packed is None:
        return type(attention).forward(attention, hidden_states, attention_mask, *args, **kwargs)
    padded = packed.pad(hidden_states)
    context, *others = type(attention).forward(attention, padded, attention_mask, *args, **kwargs)
    return packed.pack(context), *others


def packed_of(attention_mask: torch.Tensor | None) -> Packed | None:
    """Where the sequences lie, if the base model runs packed: an attribute of the mask.

    Layers of DeBERTa and MPNet take no further arguments; and a layer that gradient checkpointing runs
    again, in the backward pass, gets the same mask.
    """
    packed: Packed | None = getattr(attention_mask, "packed", None)
    return packed
