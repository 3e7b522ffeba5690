"""Attention within each sequence of a packed row."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from plainloop.speed.dropout import draw_keep_mask, dropped_share
from plainloop.speed.packing import Packed


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: Packed,
    *,
    num_heads: int,
    dropout_p: float,
    window: int | None = None,
) -> torch.Tensor:
    """softmax(query key^T / sqrt(head size)) value, each token attending to its own sequence.

    Args:
        query: (real tokens, heads * head size), or (sequences, ...): of the first tokens alone.
        key, value: (real tokens, heads * head size).
        packed: where the sequences lie.
        num_heads: attention heads.
        dropout_p: probability that a weight of the attention is dropped; 0 outside of training.
        window: attend to tokens at most so far away; None: to all.

    Returns:
        As the query.
    """
    arguments = (query, key, value, packed, num_heads, dropout_p, window)
    context: torch.Tensor = _Attention.apply(*arguments)  # type: ignore[no-untyped-call]
    return context


class _Attention(torch.autograd.Function):
    # Sequence after sequence: their slices need no padding, and one function for all of them no
    # gradient of the size of the whole row for each slice, as autograd's own would.

    @staticmethod
    def forward(  # noqa: PLR0917 - apply takes no keywords
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        packed: Packed,
        num_heads: int,
        dropout_p: float,
        window: int | None,
    ) -> torch.Tensor:
        """As `attend`; keeps the weights of each sequence, and which of them were dropped."""
        size = key.shape[-1] // num_heads
        spans = packed.spans
        only_first = query.shape[0] != key.shape[0]
        query_spans = [(n, n + 1) for n in range(len(spans))] if only_first else spans
        context = torch.empty_like(query)
        keep = None
        if dropout_p:
            lengths = packed.lengths
            num_weights = num_heads * sum(n if only_first else n * n for n in lengths)
            keep = draw_keep_mask(num_weights, dropout_p, query.device)
        ctx.scale = 1 / (1 - dropped_share(dropout_p))
        factors = None if keep is None else (keep * ctx.scale).to(query.dtype)
        exact = torch.promote_types(query.dtype, torch.float32)  # halves are too coarse for a sum
        all_weights, taken = [], 0
        for (begin, end), (query_begin, query_end) in zip(spans, query_spans, strict=True):
            q = by_head(query, query_begin, query_end, size)
            k = by_head(key, begin, end, size)
            v = by_head(value, begin, end, size)
            scores = torch.bmm(q, k.transpose(1, 2)).mul_(size**-0.5)
            if window is not None and end - begin > window + 1:
                scores.masked_fill_(is_outside(q, k, window), -torch.inf)
            weights = torch.softmax(scores, dim=-1, dtype=exact).to(q.dtype)
            all_weights.append(weights)
            if factors is not None:
                weights = weights * factors[taken : taken + weights.numel()].view(weights.shape)
                taken += weights.numel()
            by_head(context, query_begin, query_end, size).copy_(torch.bmm(weights, v))
        ctx.save_for_backward(query, key, value, keep, *all_weights)
        ctx.spans, ctx.query_spans, ctx.size = spans, query_spans, size
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """The gradients of query, key and value, each of its shape."""
        query, key, value, keep, *all_weights = ctx.saved_tensors
        size = ctx.size
        factors = None if keep is None else (keep * ctx.scale).to(query.dtype)
        for_query, for_key, for_value = map(torch.empty_like, (query, key, value))
        taken = 0
        for (begin, end), (query_begin, query_end), weights in zip(
            ctx.spans, ctx.query_spans, all_weights, strict=True
        ):
            q = by_head(query, query_begin, query_end, size)
            k = by_head(key, begin, end, size)
            v = by_head(value, begin, end, size)
            g = by_head(gradient, query_begin, query_end, size)
            dropped, for_weights = weights, torch.bmm(g, v.transpose(1, 2))
            if factors is not None:
                kept = factors[taken : taken + weights.numel()].view(weights.shape)
                taken += weights.numel()
                dropped, for_weights = weights * kept, for_weights.mul_(kept)
            by_head(for_value, begin, end, size).copy_(torch.bmm(dropped.transpose(1, 2), g))
            # The derivative of a softmax, from its result.
            total = (for_weights * weights).sum(dim=-1, keepdim=True)
            scores = for_weights.sub_(total).mul_(weights).mul_(size**-0.5)
            by_head(for_query, query_begin, query_end, size).copy_(torch.bmm(scores, k))
            by_head(for_key, begin, end, size).copy_(torch.bmm(scores.transpose(1, 2), q))
        return for_query, for_key, for_value, None, None, None, None


def by_head(row: torch.Tensor, begin: int, end: int, size: int) -> torch.Tensor:
    """A sequence of the row as (heads, tokens, head size), a view."""
    return row[begin:end].view(end - begin, -1, size).transpose(0, 1)


def is_outside(query: torch.Tensor, key: torch.Tensor, window: int) -> torch.Tensor:
    """Which keys are further than `window` tokens from a query: bool (queries, keys)."""
    queries = torch.arange(query.shape[1], device=query.device)
    keys = torch.arange(key.shape[1], device=key.device)
    return (queries.unsqueeze(1) - keys).abs() > window
