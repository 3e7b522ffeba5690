"""The layers of the architectures that run unpadded, on a packed row, with their own modules."""

from typing import Any

import torch

from plainloop.speed.attention import attend
from plainloop.speed.dropout import drop
from plainloop.speed.packing import Packed


def bert_layer(
    layer: Any, hidden: torch.Tensor, packed: Packed, read: torch.Tensor | None
) -> torch.Tensor:
    """A layer of BERT, RoBERTa, XLM-RoBERTa, CamemBERT or ELECTRA.

    Args:
        layer: the model's own.
        hidden: (real tokens, hidden size).
        packed: where the sequences lie.
        read: compute for these places alone; all of them still have a key and a value. None: all.

    Returns:
        (real tokens or places read, hidden size)
    """
    asking = hidden if read is None else hidden[read]
    attention, mixing, closing = layer.attention.self, layer.attention.output, layer.output
    context = attend(
        attention.query(asking),
        attention.key(hidden),
        attention.value(hidden),
        packed,
        num_heads=attention.num_attention_heads,
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    mixed = mixing.LayerNorm(drop(mixing.dropout, mixing.dense(context), asking))
    widened = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(mixed))
    output: torch.Tensor = closing.LayerNorm(drop(closing.dropout, closing.dense(widened), mixed))
    return output


def distilbert_layer(
    layer: Any, hidden: torch.Tensor, packed: Packed, read: torch.Tensor | None
) -> torch.Tensor:
    """A layer of DistilBERT; arguments and result as of `bert_layer`."""
    asking = hidden if read is None else hidden[read]
    attention, widening = layer.attention, layer.ffn
    context = attend(
        attention.q_lin(asking),
        attention.k_lin(hidden),
        attention.v_lin(hidden),
        packed,
        num_heads=attention.n_heads,
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    mixed = layer.sa_layer_norm(attention.out_lin(context) + asking)
    widened = widening.lin2(widening.activation(widening.lin1(mixed)))
    output: torch.Tensor = layer.output_layer_norm(drop(widening.dropout, widened, mixed))
    return output


def modernbert_layer(
    layer: Any,
    hidden: torch.Tensor,
    packed: Packed,
    read: torch.Tensor | None,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """A layer of ModernBERT; arguments and result as of `bert_layer`.

    Args:
        position_embeddings: cosines and sines of the rotations, each (1, real tokens, head size).
    """
    attention = layer.attn
    normed = layer.attn_norm(hidden)
    query, key, value = (
        attention.Wqkv(normed).view(len(normed), 3, -1, attention.head_dim).unbind(1)
    )
    cosines, sines = (part[0].unsqueeze(1) for part in position_embeddings)
    query, key = (rotate(part, cosines, sines).flatten(1) for part in (query, key))
    context = attend(
        query if read is None else query[read],
        key,
        value.flatten(1),
        packed,
        num_heads=attention.config.num_attention_heads,
        dropout_p=attention.attention_dropout if attention.training else 0.0,
        window=None if attention.sliding_window is None else attention.sliding_window - 1,
    )
    asking = hidden if read is None else hidden[read]
    mixed = asking + attention.out_drop(attention.Wo(context))
    widened, gate = layer.mlp.Wi(layer.mlp_norm(mixed)).chunk(2, dim=-1)
    output: torch.Tensor = mixed + layer.mlp.Wo(drop(layer.mlp.drop, layer.mlp.act(widened) * gate))
    return output


def rotate(part: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """The rotary position embedding of ModernBERT: (tokens, heads, head size), in float32."""
    first, second = part.float().chunk(2, dim=-1)
    turned = part.float() * cosines + torch.cat((-second, first), dim=-1) * sines
    return turned.to(part.dtype)
