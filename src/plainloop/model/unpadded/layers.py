"""The layers of the architectures that run unpadded, on a packed row, with their own modules."""

from typing import Any

import torch
from torch import nn

from plainloop.model.unpadded.attention import attend
from plainloop.model.unpadded.dropout import drop
from plainloop.model.unpadded.packing import Packed


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
    context = attend_by(
        attention.query(asking),
        attention.key,
        attention.value,
        hidden,
        packed,
        num_heads=attention.num_attention_heads,
        dropout_p=attention.dropout.p if attention.training else 0.0,
        only_first=read is not None,
    )
    mixed = mixing.LayerNorm(drop(mixing.dropout, mixing.dense(context), asking))
    widened = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(mixed))
    output: torch.Tensor = closing.LayerNorm(drop(closing.dropout, closing.dense(widened), mixed))
    return output


def attend_by(
    query: torch.Tensor,
    key: Any,
    value: Any,
    hidden: torch.Tensor,
    packed: Packed,
    *,
    num_heads: int,
    dropout_p: float,
    only_first: bool,
) -> torch.Tensor:
    """`attend` with the keys and values that two linear maps make of the states.

    Of a single query a sequence they need not be made: query . (W h + b) = (W^T query) . h +
    query . b, and the sum of w (W h + b) is W (sum of w h) + b (sum of w). So W is applied to a row
    for each head of the query, and not to each token.

    Args:
        query: (real tokens, heads * head size); with only_first (sequences, ...).
        key, value: maps of the states; they are called where they are not plain linear ones, or
            something waits for their call.
        hidden: the states, (real tokens, hidden size).
        packed: where the sequences lie.
        num_heads, dropout_p: as of `attend`.
        only_first: whether the queries are those of the first tokens alone.

    Returns:
        As the query.
    """
    if not only_first or hidden.is_cuda or not (is_plain(key) and is_plain(value)):
        return attend(
            query,
            key(hidden),
            value(hidden),
            packed,
            num_heads=num_heads,
            dropout_p=dropout_p,
            num_queries=1 if only_first else None,
        )
    # With a column of ones beside the states, the bias is a column of the weights.
    states = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], dim=1).to(query.dtype)
    by_key, by_value = (
        torch.cat([module.weight, module.bias.unsqueeze(1)], dim=1).unflatten(0, (num_heads, -1))
        for module in (key, value)
    )  # (heads, head size, hidden size + 1)
    queries = query.unflatten(1, (num_heads, -1)).transpose(0, 1)  # (heads, sequences, head size)
    asking = torch.bmm(queries, by_key).transpose(0, 1).flatten(0, 1)  # a row a head of a sequence
    mixed = attend(
        asking,
        states,
        states,
        packed,
        num_heads=1,
        dropout_p=dropout_p,
        num_queries=num_heads,
        scale=queries.shape[-1] ** -0.5,
    )
    context = torch.bmm(
        mixed.unflatten(0, (-1, num_heads)).transpose(0, 1), by_value.transpose(1, 2)
    )
    return context.transpose(0, 1).flatten(1)


def is_plain(module: nn.Module) -> bool:
    """Whether a call of a module is the product with its weight and its bias, and nothing else."""
    return type(module) is nn.Linear and module.bias is not None and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether anything waits for a call of a module."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def distilbert_layer(
    layer: Any, hidden: torch.Tensor, packed: Packed, read: torch.Tensor | None
) -> torch.Tensor:
    """A layer of DistilBERT; arguments and result as of `bert_layer`."""
    asking = hidden if read is None else hidden[read]
    attention, widening = layer.attention, layer.ffn
    context = attend_by(
        attention.q_lin(asking),
        attention.k_lin,
        attention.v_lin,
        hidden,
        packed,
        num_heads=attention.n_heads,
        dropout_p=attention.dropout.p if attention.training else 0.0,
        only_first=read is not None,
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
        num_queries=None if read is None else 1,
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
