"""Attention within each sequence of a packed row."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.attention.varlen import varlen_attn

from plainloop.speed.dropout import draw_keep_mask, dropped_share
from plainloop.speed.packing import Packed

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
    lengths = list(packed.lengths)
    query_lengths = lengths if num_queries is None else [num_queries] * len(lengths)
    arguments = (query, key, value, lengths, query_lengths, num_heads, dropout_p, window, scale)
    context: torch.Tensor = _Attention.apply(*arguments)  # type: ignore[no-untyped-call]
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
    # Sequence after sequence: their slices need no padding. What is computed element by element is
    # computed for all of them at once: on a CPU the calls cost as much as the numbers.

    @staticmethod
    def forward(  # noqa: PLR0917 - apply takes no keywords
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: list[int],
        query_lengths: list[int],
        num_heads: int,
        dropout_p: float,
        window: int | None,
        scale: float,
    ) -> torch.Tensor:
        """As `attend`; keeps the weights of all sequences, and which of them were dropped."""
        ctx.lengths, ctx.query_lengths, ctx.num_heads = lengths, query_lengths, num_heads
        ctx.shapes = [(num_heads, n, m) for n, m in zip(query_lengths, lengths, strict=True)]
        ctx.query_scale = scale

        exact = torch.promote_types(query.dtype, torch.float32)  # halves are too coarse for a sum
        weights = query.new_empty(sum(map(math.prod, ctx.shapes)), dtype=exact)
        queries = by_head(query * ctx.query_scale, query_lengths, num_heads)
        keys = by_head(key, lengths, num_heads)
        for q, k, weights_of in zip(queries, keys, by_sequence(weights, ctx.shapes), strict=True):
            scores = torch.bmm(q, k.transpose(1, 2))
            if window is not None and k.shape[1] > window + 1:
                scores.masked_fill_(is_outside(q, k, window), -torch.inf)
            torch.softmax(scores, dim=-1, dtype=exact, out=weights_of)
        weights = weights.to(query.dtype)

        keep = draw_keep_mask(weights.numel(), dropout_p, query.device) if dropout_p else None
        ctx.keep_scale = 1 / (1 - dropped_share(dropout_p))
        kept = weights if keep is None else keep.to(weights.dtype).mul_(weights)
        values = by_head(value, lengths, num_heads)
        context = join_heads(map(torch.bmm, by_sequence(kept, ctx.shapes), values))
        context.mul_(ctx.keep_scale)
        ctx.save_for_backward(query, key, value, keep, weights, context)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """The gradients of query, key and value, each of its shape."""
        query, key, value, keep, weights, context = ctx.saved_tensors
        queries = by_head(query * ctx.query_scale, ctx.query_lengths, ctx.num_heads)
        gradients = by_head(gradient * ctx.keep_scale, ctx.query_lengths, ctx.num_heads)
        keys, values = (by_head(row, ctx.lengths, ctx.num_heads) for row in (key, value))
        # The sum that a softmax's derivative takes of each row of weights times their gradients is
        # the context times its gradient (FlashAttention, Dao et al. 2022, appendix B.4).
        totals = by_head(gradient * context, ctx.query_lengths, ctx.num_heads)

        mask = None if keep is None else keep.to(weights.dtype)
        kept = weights if mask is None else weights * mask
        by_value = [
            torch.bmm(weights_of.transpose(1, 2), g)
            for weights_of, g in zip(by_sequence(kept, ctx.shapes), gradients, strict=True)
        ]
        for_weights = torch.empty_like(weights)
        parts = by_sequence(for_weights, ctx.shapes)
        for part, g, v in zip(parts, gradients, values, strict=True):
            torch.bmm(g, v.transpose(1, 2), out=part)
        if mask is not None:
            for_weights.mul_(mask)
        for part, total in zip(parts, totals, strict=True):
            part.sub_(total.sum(dim=-1, keepdim=True))
        for_weights.mul_(weights)

        for_query = join_heads(map(torch.bmm, parts, keys)).mul_(ctx.query_scale)
        for_key = join_heads(
            torch.bmm(part.transpose(1, 2), q) for part, q in zip(parts, queries, strict=True)
        )
        return for_query, for_key, join_heads(by_value), *[None] * 6


def by_head(row: torch.Tensor, lengths: list[int], num_heads: int) -> Sequence[torch.Tensor]:
    """(tokens, heads * head size) -> of each sequence a view (heads, its tokens, head size)."""
    return torch.split(row.view(len(row), num_heads, -1).transpose(0, 1), lengths, dim=1)


def join_heads(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The inverse of `by_head`, in new memory."""
    return torch.cat([part.transpose(0, 1) for part in parts]).flatten(1)


def by_sequence(flat: torch.Tensor, shapes: list[tuple[int, int, int]]) -> list[torch.Tensor]:
    """The weights of all sequences -> of each a view (heads, queries, keys)."""
    parts = flat.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def is_outside(query: torch.Tensor, key: torch.Tensor, window: int) -> torch.Tensor:
    """Which keys are further than `window` tokens from a query: bool (queries, keys)."""
    queries = torch.arange(query.shape[1], device=query.device)
    keys = torch.arange(key.shape[1], device=key.device)
    return (queries.unsqueeze(1) - keys).abs() > window
