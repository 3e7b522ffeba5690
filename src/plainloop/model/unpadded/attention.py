"""Attention within each sequence of a packed row."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.attention.varlen import varlen_attn

from plainloop.model.unpadded.dropout import draw_keep_mask, dropped_share
from plainloop.model.unpadded.grouping import KEYS, QUERIES, Layout, group_sequences
from plainloop.model.unpadded.packing import Packed

FLASH_DTYPES = (torch.float16, torch.bfloat16)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: Packed,
    *,
    num_heads: int,
    dropout_p: float,
    window: int | None = None,
    num_queries: int | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(scale query key^T) value, each query attending to the tokens of its own sequence.

    Args:
        query: (real tokens, heads * head size), or (sequences * num_queries, ...).
        key, value: (real tokens, heads * head size).
        packed: where the sequences lie.
        num_heads: attention heads.
        dropout_p: probability that a weight of the attention is dropped; 0 outside of training.
        window: attend to tokens at most so far away; None: to all.
        num_queries: queries of each sequence, as of its first tokens; None: one of each token.
        scale: of the products; None: 1 / sqrt(head size).

    Returns:
        As the query.
    """
    scale = (key.shape[-1] // num_heads) ** -0.5 if scale is None else scale
    # The kernel takes a single query for the last token's, whose window is another one.
    has_kernel = query.is_cuda and query.dtype in FLASH_DTYPES and not dropout_p
    if has_kernel and (window is None or num_queries is None):
        return flash_attend(
            query, key, value, packed, num_heads, window=window, num_queries=num_queries
        )
    layout = group_sequences(
        packed,
        num_heads=num_heads,
        size=key.shape[-1] // num_heads,
        num_queries=num_queries,
        window=window,
    )
    context: torch.Tensor = _Attention.apply(query, key, value, layout, dropout_p, scale)  # type: ignore[no-untyped-call]
    return context


def flash_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: Packed,
    num_heads: int,
    *,
    window: int | None,
    num_queries: int | None,
) -> torch.Tensor:
    """`attend` without dropout by torch's kernel for sequences of varying length: CUDA, halves."""
    ends = torch.nn.functional.pad(packed.first, (0, 1), value=len(key)).int()
    numbers = torch.arange(len(ends), device=ends.device, dtype=ends.dtype)
    longest = max(packed.lengths)
    context: Any = varlen_attn(
        query.view(len(query), num_heads, -1),
        key.view(len(key), num_heads, -1),
        value.view(len(value), num_heads, -1),
        ends if num_queries is None else numbers * num_queries,
        ends,
        num_queries or longest,
        longest,
        window_size=(-1, -1) if window is None else (window, window),
    )
    return torch.flatten(context, 1)


class _Attention(torch.autograd.Function):
    # A group of sequences after the other. What is computed element by element is computed for all
    # of them at once: on a CPU the calls cost as much as the numbers.

    @staticmethod
    def forward(  # noqa: PLR0917 - apply takes no keywords
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: Layout,
        dropout_p: float,
        scale: float,
    ) -> torch.Tensor:
        """As `attend`; keeps the weights of all sequences, and which of them were dropped."""
        query_rows, key_rows, value_rows = (
            gather(part, rows, layout.num_heads)
            for part, rows in (
                (query, layout.query_rows),
                (key, layout.key_rows),
                (value, layout.key_rows),
            )
        )
        query_rows.mul_(scale)
        exact = torch.promote_types(query.dtype, torch.float32)  # halves are too coarse for a sum
        weights = query.new_empty(layout.num_weights, dtype=exact)
        queries, keys = layout.split(query_rows, QUERIES), layout.split(key_rows, KEYS)
        for q, k, mask, part in zip(
            queries, keys, layout.masks, layout.split_weights(weights), strict=True
        ):
            products = torch.bmm(q, k.transpose(1, 2))
            if mask is not None:
                products.unflatten(0, (len(mask), -1)).add_(mask.unsqueeze(1))
            torch.softmax(products, dim=-1, dtype=exact, out=part)
        weights = weights.to(query.dtype)

        keep = draw_keep_mask(weights.numel(), dropout_p, query.device) if dropout_p else None
        kept = weights if keep is None else keep.to(weights.dtype).mul_(weights)
        context_rows = torch.empty_like(query_rows)
        values = layout.split(value_rows, KEYS)
        for part, v, context in zip(
            layout.split_weights(kept), values, layout.split(context_rows, QUERIES), strict=True
        ):
            torch.bmm(part, v, out=context)
        ctx.layout, ctx.scale, ctx.keep_scale = layout, scale, 1 / (1 - dropped_share(dropout_p))
        ctx.save_for_backward(query_rows, key_rows, value_rows, keep, weights, context_rows)
        return scatter(context_rows, layout.query_places, layout.num_heads).mul_(ctx.keep_scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """The gradients of query, key and value, each of its shape."""
        query_rows, key_rows, value_rows, keep, weights, context_rows = ctx.saved_tensors
        layout: Layout = ctx.layout
        gradient_rows = gather(gradient, layout.query_rows, layout.num_heads).mul_(ctx.keep_scale)
        gradient_rows.index_fill_(0, layout.query_padding, 0)
        # The sum that a softmax's derivative takes of each row of weights times their gradients is
        # the context times its gradient (FlashAttention, Dao et al. 2022, appendix B.4).
        totals = layout.split((gradient_rows * context_rows).sum(dim=-1, keepdim=True), QUERIES)
        queries = layout.split(query_rows, QUERIES)
        gradients = layout.split(gradient_rows, QUERIES)
        keys, values = layout.split(key_rows, KEYS), layout.split(value_rows, KEYS)

        mask = None if keep is None else keep.to(weights.dtype)
        kept = weights if mask is None else weights * mask
        for_value = torch.empty_like(value_rows)
        for part, g, result in zip(
            layout.split_weights(kept), gradients, layout.split(for_value, KEYS), strict=True
        ):
            torch.bmm(part.transpose(1, 2), g, out=result)
        for_weights = torch.empty_like(weights)
        parts = layout.split_weights(for_weights)
        for part, g, v in zip(parts, gradients, values, strict=True):
            torch.bmm(g, v.transpose(1, 2), out=part)
        if mask is not None:
            for_weights.mul_(mask)
        for part, total in zip(parts, totals, strict=True):
            part.sub_(total)
        for_weights.mul_(weights)

        for_query, for_key = torch.empty_like(query_rows), torch.empty_like(key_rows)
        for part, k, result in zip(parts, keys, layout.split(for_query, QUERIES), strict=True):
            torch.bmm(part, k, out=result)
        for part, q, result in zip(parts, queries, layout.split(for_key, KEYS), strict=True):
            torch.bmm(part.transpose(1, 2), q, out=result)
        return (
            scatter(for_query.mul_(ctx.scale), layout.query_places, layout.num_heads),
            scatter(for_key, layout.key_places, layout.num_heads),
            scatter(for_value, layout.key_places, layout.num_heads),
            *[None] * 3,
        )


def gather(packed: torch.Tensor, rows: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(tokens, heads * size) -> the grouped rows (rows, size), in new memory."""
    return packed.reshape(len(packed) * num_heads, -1).index_select(0, rows)


def scatter(grouped: torch.Tensor, places: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The inverse of `gather`: (rows, size) -> (tokens, heads * size), in new memory."""
    return grouped.index_select(0, places).view(len(places) // num_heads, -1)
