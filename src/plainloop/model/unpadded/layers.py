"""Forward passes of encoder layers on a packed row, with the model's modules: the supported architectures."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from plainloop.model.unpadded.attention import attend
from plainloop.model.unpadded.dropout import apply_dropout
from plainloop.model.unpadded.grouping import UNBOUNDED
from plainloop.model.unpadded.packing import Packed


def bert_layer(
    layer: Any, hidden: torch.Tensor, packed: Packed, positions: torch.Tensor | None
) -> torch.Tensor:
    """Run a layer of BERT, RoBERTa, XLM-RoBERTa, CamemBERT or ELECTRA (post-norm, GELU).

    Args:
        layer: the Transformers module.
        hidden: hidden states, (real tokens, hidden size).
        packed: where the sequences lie.
        positions: int64, the first token of each sequence, if the output is needed only there; all
            tokens are still attended to. None: all tokens.

    Returns:
        (real tokens or positions, hidden size)
    """
    queries = hidden if positions is None else hidden[positions]
    attention, projection, output = layer.attention.self, layer.attention.output, layer.output
    context = attend_projected(
        attention.query(queries),
        attention.key,
        attention.value,
        hidden,
        packed,
        num_heads=attention.num_attention_heads,
        dropout_p=attention.dropout.p if attention.training else 0.0,
        first_token_only=positions is not None,
    )
    projected = apply_dropout(projection.dropout, projection.dense(context), queries)
    attended = projection.LayerNorm(projected)
    ffn_hidden = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(attended))
    ffn_output = apply_dropout(output.dropout, output.dense(ffn_hidden), attended)
    result: torch.Tensor = output.LayerNorm(ffn_output)
    return result


def distilbert_layer(
    layer: Any, hidden: torch.Tensor, packed: Packed, positions: torch.Tensor | None
) -> torch.Tensor:
    """Run a layer of DistilBERT; arguments and result as of `bert_layer`."""
    queries = hidden if positions is None else hidden[positions]
    attention, ffn = layer.attention, layer.ffn
    context = attend_projected(
        attention.q_lin(queries),
        attention.k_lin,
        attention.v_lin,
        hidden,
        packed,
        num_heads=attention.n_heads,
        dropout_p=attention.dropout.p if attention.training else 0.0,
        first_token_only=positions is not None,
    )
    attended = layer.sa_layer_norm(attention.out_lin(context) + queries)
    ffn_output = ffn.lin2(ffn.activation(ffn.lin1(attended)))
    result: torch.Tensor = layer.output_layer_norm(apply_dropout(ffn.dropout, ffn_output, attended))
    return result


def modernbert_layer(
    layer: Any,
    hidden: torch.Tensor,
    packed: Packed,
    positions: torch.Tensor | None,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Run a layer of ModernBERT (pre-norm, GeGLU, RoPE); other arguments and result as of `bert_layer`.

    Args:
        position_embeddings: RoPE's cosines and sines, each (1, real tokens, head size).
    """
    attention, mlp = layer.attn, layer.mlp
    normed = layer.attn_norm(hidden)
    query, key, value = (
        attention.Wqkv(normed).view(len(normed), 3, -1, attention.head_dim).unbind(1)
    )
    cosines, sines = (part[0].unsqueeze(1) for part in position_embeddings)
    query, key = (apply_rope(part, cosines, sines).flatten(1) for part in (query, key))
    reach = attention.sliding_window
    context = attend(
        query if positions is None else query[positions],
        key,
        value.flatten(1),
        packed,
        num_heads=attention.config.num_attention_heads,
        dropout_p=attention.attention_dropout if attention.training else 0.0,
        # Transformers stores the distance plus 1, as its flash attention subtracts 1 again.
        window=UNBOUNDED if reach is None else (reach - 1, reach - 1),
        num_queries=None if positions is None else 1,
    )
    queries = hidden if positions is None else hidden[positions]
    # Called, not `apply_dropout`: it is an nn.Identity if the configuration has no dropout.
    attended = queries + attention.out_drop(attention.Wo(context))
    ffn_hidden, gate = mlp.Wi(layer.mlp_norm(attended)).chunk(2, dim=-1)
    result: torch.Tensor = attended + mlp.Wo(apply_dropout(mlp.drop, mlp.act(ffn_hidden) * gate))
    return result


LAYERS: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {
    "bert": ("encoder.layer", bert_layer),
    "roberta": ("encoder.layer", bert_layer),
    "xlm-roberta": ("encoder.layer", bert_layer),
    "camembert": ("encoder.layer", bert_layer),
    "electra": ("encoder.layer", bert_layer),
    "ernie": ("encoder.layer", bert_layer),
    "data2vec-text": ("encoder.layer", bert_layer),
    "layoutlm": ("encoder.layer", bert_layer),
    "roc_bert": ("encoder.layer", bert_layer),
    "distilbert": ("transformer.layer", distilbert_layer),
    "modernbert": ("layers", modernbert_layer),
}
"""Model type of a configuration -> path of the layers in the base model, packed forward of a layer."""


def attend_projected(
    query: torch.Tensor,
    key_projection: Any,
    value_projection: Any,
    hidden: torch.Tensor,
    packed: Packed,
    *,
    num_heads: int,
    dropout_p: float,
    first_token_only: bool,
) -> torch.Tensor:
    """Run `attend` with the key and value projections of the hidden states.

    With one query per sequence, keys and values need not be computed: q . (W h + b) equals
    (W^T q) . h + q . b, and sum(p (W h + b)) equals W sum(p h) + b sum(p). The projections are then
    applied once per head and sequence instead of once per token.

    Args:
        query: (real tokens, heads * head size); with first_token_only (sequences, heads * head size).
        key_projection, value_projection: linear maps of the hidden states. Anything but a plain
            `nn.Linear` without hooks is called, as the model would.
        hidden: hidden states, (real tokens, hidden size).
        packed: where the sequences lie.
        num_heads, dropout_p: as of `attend`.
        first_token_only: whether there is a query only at the first token of each sequence.

    Returns:
        The context, with the shape of the query.
    """
    is_plain = all(
        type(module) is nn.Linear and module.bias is not None and not has_hooks(module)
        for module in (key_projection, value_projection)
    )
    if not first_token_only or hidden.is_cuda or not is_plain:
        return attend(
            query,
            key_projection(hidden),
            value_projection(hidden),
            packed,
            num_heads=num_heads,
            dropout_p=dropout_p,
            num_queries=1 if first_token_only else None,
        )
    # With a column of ones appended to the hidden states, the bias is a column of the matrix.
    states = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], dim=1).to(query.dtype)
    key_matrix, value_matrix = (
        torch.cat([module.weight, module.bias.unsqueeze(1)], dim=1).unflatten(0, (num_heads, -1))
        for module in (key_projection, value_projection)
    )  # (heads, head size, hidden size + 1)
    by_head = query.unflatten(1, (num_heads, -1)).transpose(0, 1)  # (heads, sequences, head size)
    # The heads of a sequence become queries of one head that is as large as the hidden states.
    mapped = torch.bmm(by_head, key_matrix).transpose(0, 1).flatten(0, 1)
    mean_states = attend(
        mapped,
        states,
        states,
        packed,
        num_heads=1,
        dropout_p=dropout_p,
        num_queries=num_heads,
        scale=by_head.shape[-1] ** -0.5,
    )
    context = torch.bmm(
        mean_states.unflatten(0, (-1, num_heads)).transpose(0, 1), value_matrix.transpose(1, 2)
    )
    return context.transpose(0, 1).flatten(1)


def has_hooks(module: nn.Module) -> bool:
    """Whether forward or backward hooks are registered on a module."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def apply_rope(part: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotate queries or keys (tokens, heads, head size) by RoPE, in float32 as ModernBERT does."""
    first, second = part.float().chunk(2, dim=-1)
    rotated = part.float() * cosines + torch.cat((-second, first), dim=-1) * sines
    return rotated.to(part.dtype)
