"""Varlen attention: softmax attention within each sequence of a packed row, forward and backward."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.attention.varlen import varlen_attn

from plainloop.model.unpadded.dropout import draw_keep_mask, quantize_p
from plainloop.model.unpadded.grouping import (
    KEYS,
    QUERIES,
    UNBOUNDED,
    Layout,
    Window,
    group_sequences,
)
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
    window: Window = UNBOUNDED,
    num_queries: int | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Compute dropout(softmax(scale * query @ key^T)) @ value within each sequence.

    Args:
        query: (real tokens, heads * head size), or (sequences * num_queries, heads * head size).
        key, value: (real tokens, heads * head size), in the dtype of the query.
        packed: where the sequences lie.
        num_heads: attention heads.
        dropout_p: probability of dropping an attention probability; 0 outside of training.
        window: which tokens a query attends to: some before and after it (ModernBERT's local
            attention), or none after it (a decoder).
        num_queries: queries of each sequence, at its first tokens; None: a query at each token.
        scale: factor of the scores; None: 1 / sqrt(head size).

    Returns:
        The context, with the shape and dtype of the query.
    """
    head_size = key.shape[-1] // num_heads
    # torch's kernel has no dropout. With fewer queries than keys it aligns a local window to the
    # last tokens (FlashAttention's bottom-right rule); the queries here are those of the first ones.
    has_kernel = query.is_cuda and query.dtype in FLASH_DTYPES and not dropout_p
    if has_kernel and (window == UNBOUNDED or num_queries is None):
        return flash_attend(
            query, key, value, packed, num_heads, window=window, num_queries=num_queries
        )
    layout = group_sequences(packed, num_heads, head_size, num_queries, window)
    scale = head_size**-0.5 if scale is None else scale
    context: torch.Tensor = _Attention.apply(query, key, value, layout, dropout_p, scale)  # type: ignore[no-untyped-call]
    return context


def flash_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: Packed,
    num_heads: int,
    *,
    window: Window,
    num_queries: int | None,
) -> torch.Tensor:
    """Run `attend` by torch's varlen_attn: on CUDA, in 16 bits, without dropout, default scale."""
    key_ends = torch.nn.functional.pad(packed.starts, (0, 1), value=len(key)).int()
    indices = torch.arange(len(key_ends), device=key_ends.device, dtype=key_ends.dtype)
    longest = max(packed.lengths)
    context: Any = varlen_attn(
        query.view(len(query), num_heads, -1),
        key.view(len(key), num_heads, -1),
        value.view(len(value), num_heads, -1),
        key_ends if num_queries is None else indices * num_queries,
        key_ends,
        num_queries or longest,
        longest,
        window_size=window,
    )
    return torch.flatten(context, 1)


class _Attention(torch.autograd.Function):
    # The backward pass is written by hand for speed on a CPU, where short sequences make the overhead
    # of a call as expensive as its arithmetic: only the matrix products and softmax run group by
    # group. Everything elementwise runs once, over the flat tensor that holds all groups.

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
        """Compute `attend`; save the probabilities before dropout and the int8 keep mask."""
        query_rows = gather(query, layout.query_gather, layout.num_heads).mul_(scale)
        key_rows = gather(key, layout.key_gather, layout.num_heads)
        value_rows = gather(value, layout.key_gather, layout.num_heads)
        exact = torch.promote_types(
            query.dtype, torch.float32
        )  # softmax sums are not done in 16 bits
        probs = query.new_empty(layout.num_scores, dtype=exact)
        queries, keys = layout.split(query_rows, QUERIES), layout.split(key_rows, KEYS)
        for q, k, mask, out in zip(
            queries, keys, layout.masks, layout.split_scores(probs), strict=True
        ):
            scores = torch.bmm(q, k.transpose(1, 2))
            if mask is not None:
                scores.unflatten(0, (len(mask), -1)).add_(mask.unsqueeze(1))
            torch.softmax(scores, dim=-1, dtype=exact, out=out)
        probs = probs.to(query.dtype)

        # One draw for all groups, padding included: the grouping thus decides which random number a
        # probability gets, and with it the bits of a training run.
        keep = draw_keep_mask(probs.numel(), dropout_p, query.device) if dropout_p else None
        kept = probs if keep is None else keep.to(probs.dtype).mul_(probs)
        context_rows = torch.empty_like(query_rows)
        values = layout.split(value_rows, KEYS)
        for part, v, out in zip(
            layout.split_scores(kept), values, layout.split(context_rows, QUERIES), strict=True
        ):
            torch.bmm(part, v, out=out)
        # The 1 / (1 - p) of dropout is applied once to the context, not to each probability.
        ctx.layout, ctx.scale, ctx.keep_scale = layout, scale, 1 / (1 - quantize_p(dropout_p))
        ctx.save_for_backward(query_rows, key_rows, value_rows, keep, probs, context_rows)
        return scatter(context_rows, layout.query_scatter, layout.num_heads).mul_(ctx.keep_scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """The gradients of query, key and value, each with the shape of its tensor."""
        query_rows, key_rows, value_rows, keep, probs, context_rows = ctx.saved_tensors
        layout: Layout = ctx.layout
        grad_rows = gather(grad, layout.query_gather, layout.num_heads).mul_(ctx.keep_scale)
        # `gather` reads some real row for padding; its gradient must not reach the keys and values.
        grad_rows.index_fill_(0, layout.query_padding, 0)
        # The softmax derivative needs sum(probs * grad_probs) over each row of scores. It equals
        # sum(context * grad), which is cheaper (FlashAttention, Dao et al. 2022, appendix B.4).
        row_sums = layout.split((grad_rows * context_rows).sum(dim=-1, keepdim=True), QUERIES)
        queries, grads = layout.split(query_rows, QUERIES), layout.split(grad_rows, QUERIES)
        keys, values = layout.split(key_rows, KEYS), layout.split(value_rows, KEYS)

        mask = None if keep is None else keep.to(probs.dtype)
        kept = probs if mask is None else probs * mask
        grad_value = torch.empty_like(value_rows)
        for part, g, out in zip(
            layout.split_scores(kept), grads, layout.split(grad_value, KEYS), strict=True
        ):
            torch.bmm(part.transpose(1, 2), g, out=out)
        # Holds the gradient of the probabilities first, then in place that of the scores.
        grad_scores = torch.empty_like(probs)
        parts = layout.split_scores(grad_scores)
        for part, g, v in zip(parts, grads, values, strict=True):
            torch.bmm(g, v.transpose(1, 2), out=part)
        if mask is not None:
            grad_scores.mul_(mask)
        for part, row_sum in zip(parts, row_sums, strict=True):
            part.sub_(row_sum)
        grad_scores.mul_(probs)

        grad_query, grad_key = torch.empty_like(query_rows), torch.empty_like(key_rows)
        for part, k, out in zip(parts, keys, layout.split(grad_query, QUERIES), strict=True):
            torch.bmm(part, k, out=out)
        for part, q, out in zip(parts, queries, layout.split(grad_key, KEYS), strict=True):
            torch.bmm(part.transpose(1, 2), q, out=out)  # q holds the scale already
        return (
            scatter(grad_query.mul_(ctx.scale), layout.query_scatter, layout.num_heads),
            scatter(grad_key, layout.key_scatter, layout.num_heads),
            scatter(grad_value, layout.key_scatter, layout.num_heads),
            *[None] * 3,  # layout, dropout_p, scale
        )


def gather(packed: torch.Tensor, index: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Copy packed tokens (tokens, heads * size) into grouped rows (rows, size)."""
    return packed.reshape(len(packed) * num_heads, -1).index_select(0, index)


def scatter(grouped: torch.Tensor, index: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Copy grouped rows (rows, size) back into packed tokens (tokens, heads * size), dropping padding."""
    return grouped.index_select(0, index).view(len(index) // num_heads, -1)
