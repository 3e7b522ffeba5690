"""Groups of sequences of similar length, each computed as one batched matrix product.

Attention of one sequence at a time needs no padding, but for short sequences on a CPU the overhead of
the calls exceeds the arithmetic. Therefore sequences of nearly the same length are padded to the longest of
their group, as long as the extra arithmetic costs less than the calls that it saves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from plainloop.model.unpadded.packing import Packed

MAX_PADDING_COST = 150_000
"""Multiplications in one matrix product that a sequence may waste on padding to join a group.

Measured forward and backward with MiniLM-L6's heads on 2 cores, batches of 8 and of 32 rows of CoLA, STS-B
and MRPC: at 100,000 0.73 to 0.92 of the time of one sequence after the other, about as much at 200,000,
more from 400,000 on.
"""

Window = tuple[int, int]
"""How many tokens before and after its own a query attends to; -1: all. FlashAttention's `window_size`."""
UNBOUNDED: Window = (-1, -1)

QUERIES, KEYS = 1, 2
"""Dimensions of a group's score matrix (sequences * heads, queries, keys)."""


@dataclass(frozen=True)
class Layout:
    """Index maps between a packed row and its groups, and the shapes and masks of the groups.

    A "row" here is the vector of one head at one token. Packed rows are ordered by token, then head;
    grouped rows by group, sequence, head, then token.

    Attributes:
        num_heads: attention heads.
        shapes: shape of each group's scores, (sequences * heads, queries, keys), where queries and
            keys are those of the longest sequence; groups of longer sequences come first.
        masks: for each group, the additive attention mask: float32 (sequences, queries or 1, keys),
            -inf where a query must not attend to a key; None if nothing is masked.
        query_gather, key_gather: int64, for each grouped row the index of its packed row; 0 at
            padding.
        query_scatter, key_scatter: int64, the inverse: for each packed row its grouped row.
        query_padding: int64, the grouped query rows that are padding.
    """

    num_heads: int
    shapes: list[tuple[int, int, int]]
    masks: list[torch.Tensor | None]
    query_gather: torch.Tensor
    query_scatter: torch.Tensor
    query_padding: torch.Tensor
    key_gather: torch.Tensor
    key_scatter: torch.Tensor

    @property
    def num_scores(self) -> int:
        """Attention scores of all groups together."""
        return sum(map(math.prod, self.shapes))

    def split(self, rows: torch.Tensor, side: int) -> list[torch.Tensor]:
        """View grouped rows (rows, size) by group: (sequences * heads, queries or keys, size).

        Args:
            rows: grouped rows of the queries or of the keys.
            side: QUERIES or KEYS.
        """
        parts = rows.split([shape[0] * shape[side] for shape in self.shapes])
        return [
            part.view(shape[0], shape[side], -1)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def split_scores(self, scores: torch.Tensor) -> list[torch.Tensor]:
        """View the flat scores of all groups, (num_scores,), by group: (sequences * heads, queries, keys)."""
        parts = scores.split([math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


def group_sequences(
    packed: Packed,
    num_heads: int,
    head_size: int,
    num_queries: int | None = None,
    window: Window = UNBOUNDED,
) -> Layout:
    """Lay out the groups of a batch, cached in `packed` for the layers with equal arguments.

    Args:
        packed: where the sequences lie.
        num_heads: attention heads.
        head_size: size of a head.
        num_queries: queries of each sequence, at its first tokens; None: a query at each token.
        window: which keys a query attends to.
    """
    arguments = (num_heads, head_size, num_queries, window)
    cached: Layout | None = packed.layouts.get(arguments)
    if cached:
        return cached
    lengths = packed.lengths
    query_counts = lengths if num_queries is None else (num_queries,) * len(lengths)
    # Indices are computed on the CPU, whatever the device: each operation is too small for a GPU.
    groups = choose_groups(lengths, query_counts, MAX_PADDING_COST // (num_heads * head_size))
    keys = [_token_indices(group, lengths) for group in groups]
    queries = keys
    if num_queries is not None:
        queries = [_token_indices(group, query_counts) for group in groups]
    sides = list(zip(queries, keys, strict=True))
    masks = [_attention_mask(query, key, window) for query, key in sides]
    for_keys = _row_indices(keys, num_heads)
    for_queries = for_keys if num_queries is None else _row_indices(queries, num_heads)
    device = packed.starts.device
    packed.layouts[arguments] = layout = Layout(
        num_heads,
        [(len(key) * num_heads, query.shape[1], key.shape[1]) for query, key in sides],
        [None if mask is None else mask.to(device, non_blocking=True) for mask in masks],
        *(index.to(device, non_blocking=True) for index in (*for_queries, *for_keys[:2])),
    )
    return layout


def choose_groups(
    lengths: Sequence[int], query_counts: Sequence[int], max_padding: int
) -> list[list[int]]:
    """Group sequences greedily from the longest to the shortest.

    Args:
        lengths: keys of each sequence.
        query_counts: queries of each sequence.
        max_padding: scores that a sequence may waste on padding.

    Returns:
        For each group the indices of its sequences, the longest first.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = groups[-1][0] if groups else index
        padded = lengths[longest] * query_counts[longest]
        if groups and padded - lengths[index] * query_counts[index] <= max_padding:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _token_indices(group: list[int], counts: Sequence[int]) -> torch.Tensor:
    """Indices in the packed row of a group's tokens: int64 (sequences, longest count), -1 at padding."""
    ends = torch.tensor(counts).cumsum(0)[group].unsqueeze(1)
    count = torch.tensor(counts)[group].unsqueeze(1)
    positions = torch.arange(int(count.max()))
    return torch.where(positions < count, ends - count + positions, -1)


def _attention_mask(
    queries: torch.Tensor, keys: torch.Tensor, window: Window
) -> torch.Tensor | None:
    """The additive mask of a group whose tokens `_token_indices` gave; None if nothing is masked."""
    hidden = (keys < 0).unsqueeze(1)
    if window != UNBOUNDED:
        most_before, most_after = (math.inf if most < 0 else most for most in window)
        after = torch.arange(keys.shape[1]) - torch.arange(queries.shape[1]).unsqueeze(1)
        is_far = (after > most_after) | (-after > most_before)
        # A padding query may attend to everything: a softmax over nothing but -inf would be NaN.
        hidden = (hidden | is_far) & (queries >= 0).unsqueeze(2)
    if not hidden.any():
        return None
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)


def _row_indices(
    tokens: list[torch.Tensor], num_heads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gather, scatter and padding indices of `Layout`, for the queries or for the keys."""
    heads = torch.arange(num_heads).unsqueeze(1)
    rows = torch.cat([(group.unsqueeze(1) * num_heads + heads).flatten() for group in tokens])
    # A padding token is -1, so all of its heads have negative rows.
    real, padding = (part.nonzero().squeeze(1) for part in (rows >= 0, rows < 0))
    scatter = torch.empty_like(real)
    scatter[rows[real]] = real
    return rows.clamp_(min=0), scatter, padding
