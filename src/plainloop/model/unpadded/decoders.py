"""Unpadded execution of decoders: Transformers' own layers on the packed row, with causal varlen attention.

A decoder's layers treat each token by itself, but for attention, which Transformers calls by a name in
the configuration and which gets the keyword arguments of the model's forward. Nothing of a family is
written again: the name is that of `attend_within_sequences`, and the sequences are an argument. The last
layer's feed-forward, most of its work, is computed for the token that the classifier reads.
"""

from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from plainloop.model.unpadded.attention import attend
from plainloop.model.unpadded.layers import has_hooks
from plainloop.model.unpadded.packing import Packed, pack_inputs

# fmt: off
DECODERS = frozenset((
    "arcee", "diffllama", "exaone4", "gemma", "gemma3_text", "glm", "glm4", "helium",
    "hunyuan_v1_dense", "llama", "ministral", "ministral3", "mistral", "olmo", "olmo2",
    "olmo3", "persimmon", "phi", "phi3", "qwen2", "qwen3", "seed_oss", "smollm3", "starcoder2",
))
# fmt: on
"""Model types with `GenericForSequenceClassification` whose layers pass the sequences on to attention.

Not: its mixtures of experts, which no CPU computes in float64 to be compared; those whose keys and values
differ in size (DeepSeek's); with eager attention (Gemma 2, gpt-oss); with recurrent layers (Qwen 3.5, Jamba).
"""
ATTENTION = "plainloop_varlen"
_READ: ContextVar[torch.Tensor | None] = ContextVar("_READ", default=None)
"""From a layer's attention, which gets arguments, to its feed-forward: the tokens that are read of the last layer."""


def run_decoder_unpadded(model: PreTrainedModel) -> None:
    """Make a decoder's base model compute padded batches as one row of their real tokens.

    Args:
        model: a classifier of `DECODERS` with torch's attention ("sdpa"); changed in place.
    """
    AttentionInterface.register(ATTENTION, attend_within_sequences)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)
    base: Any = model.base_model
    base.forward = partial(_forward_base, base)
    mlp: Any = base.layers[-1].mlp
    mlp.forward = partial(_forward_last_mlp, mlp)


def _forward_base(
    base: Any,
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    # RoPE knows only distances, so it does not matter on which side a tokenizer pads.
    packed = pack_inputs(base.config, input_ids, attention_mask, kwargs, at_right=True)
    if packed is None or input_ids is None:
        return type(base).forward(base, input_ids, attention_mask=attention_mask, **kwargs)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    row = packed.pack(input_ids)
    ends = nn.functional.pad(packed.starts[1:], (0, 1), value=row.shape[1]) - 1
    # Transformers' own classifier reads the last token that is not the padding token's id: the same, but
    # in a text that ends with it. On a GPU, to look would be to wait.
    padding = base.config.pad_token_id
    reads_ends = not row.is_cuda and (padding is None or bool((row[0, ends] != padding).all()))
    read = ends if reads_ends and not has_hooks(base.layers[-1]) else None
    output = type(base).forward(
        base,
        row,
        # A mask of four dimensions is passed on as it is: none is made, real tokens squared.
        attention_mask=input_ids.new_empty(1, 1, 0, 0),
        position_ids=packed.pack(positions),
        use_cache=False,
        packed=packed,
        read=read,
    )
    output.last_hidden_state = packed.pad(output.last_hidden_state)
    return output


def _forward_last_mlp(mlp: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    read = _READ.get()
    if read is None:
        computed: torch.Tensor = type(mlp).forward(mlp, hidden_states)
        return computed
    computed = type(mlp).forward(mlp, hidden_states[:, read])
    others = computed.new_zeros(*hidden_states.shape[:-1], computed.shape[-1])
    return others.index_copy(1, read, computed)


def attend_within_sequences(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: Packed | None = None,
    read: torch.Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention as an attention function of Transformers; without `packed`, by torch's own.

    Args:
        module: the attention layer.
        query: (1, heads, real tokens, head size).
        key, value: (1, key heads, real tokens, head size); each serves as many heads as there are more.
        attention_mask: not read.
        packed: where the sequences lie.
        read: int64 (sequences,): which tokens are read of the last layer, for its feed-forward; None: all.
        dropout: probability of dropping an attention probability.
        scaling: factor of the scores; None: 1 / sqrt(head size).
        sliding_window: attend to this many tokens, the query's own among them; None: to all before.

    Returns:
        The context, (1, real tokens, heads, head size), and no probabilities.
    """
    _READ.set(read)
    if packed is None:
        more = {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window, **kwargs}
        context, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **more)
        return context, None
    num_heads = query.shape[1]
    # Under autocast RoPE leaves queries and keys in float32.
    query_row, key_row, value_row = (
        part[0]
        .to(value.dtype)
        .repeat_interleave(num_heads // part.shape[1], 0)
        .transpose(0, 1)
        .flatten(1)
        for part in (query, key, value)
    )
    context = attend(
        query_row,
        key_row,
        value_row,
        packed,
        num_heads=num_heads,
        dropout_p=dropout,
        window=(-1 if sliding_window is None else sliding_window - 1, 0),
        scale=scaling,
    )
    return context.unflatten(1, (num_heads, -1)).unsqueeze(0), None
