"""Sequences of like length as one rectangle, so that attention computes them at once.

A sequence at a time needs no padding, but on a CPU the calls cost as much as the numbers where
sequences are short. So those of nearly one length are padded to the longest of them: as many as cost
less than the calls that they spare.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from plainloop.model.unpadded.packing import Packed

MOST_PADDING = 150_000
"""Multiplications of a product that a sequence's padding may take to share the calls of a group.

Measured forward and backward with MiniLM-L6's heads on 2 cores, batches of 8 and of 32 rows of CoLA, STS-B
and MRPC: at 100,000 0.73 to 0.92 of the time of one sequence after the other, about as much at 200,000,
more from 400,000 on.
"""

QUERIES, KEYS = 1, 2
"""Where the shape of a group's weights has the number of its queries, and of its keys."""


@dataclass(frozen=True)
class Layout:
    """The groups of a batch: whence their rows come and whither they go.

    A row is what one head has of one token. Packed they lie by token and head, grouped by group,
    sequence, head and token.

    Attributes:
        num_heads: attention heads.
        shapes: of each group's weights, (sequences * heads, queries, keys) of the longest; from the
            longest sequences to the shortest.
        masks: of each group what is added to the products of every head, float32
            (sequences, queries or 1, keys): -inf where a query does not see a key. None: it sees all.
        query_rows, key_rows: int64, of each grouped row the packed one; padding has any.
        query_places, key_places: int64, of each packed row the grouped one.
        query_padding: int64, which grouped rows of queries are none.
    """

    num_heads: int
    shapes: list[tuple[int, int, int]]
    masks: list[torch.Tensor | None]
    query_rows: torch.Tensor
    key_rows: torch.Tensor
    query_places: torch.Tensor
    key_places: torch.Tensor
    query_padding: torch.Tensor

    @property
    def num_weights(self) -> int:
        """Weights of all groups."""
        return sum(map(math.prod, self.shapes))

    def split(self, rows: torch.Tensor, side: int) -> list[torch.Tensor]:
        """Grouped rows (rows, size) -> of each group a view (sequences * heads, tokens, size).

        Args:
            rows: of the queries, or of the keys.
            side: QUERIES or KEYS.
        """
        parts = rows.split([shape[0] * shape[side] for shape in self.shapes])
        return [
            part.view(shape[0], shape[side], -1)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def split_weights(self, weights: torch.Tensor) -> list[torch.Tensor]:
        """The weights of all groups, (all,) -> of each a view of its shape."""
        parts = weights.split([math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


def group_sequences(
    packed: Packed, *, num_heads: int, size: int, num_queries: int | None, window: int | None
) -> Layout:
    """The layout of a batch, made once for all layers that attend alike.

    Args:
        packed: where the sequences lie.
        num_heads: attention heads.
        size: of a head.
        num_queries: queries of each sequence, as of its first tokens; None: one of each token.
        window: a query sees keys at most so many tokens away; None: all.
    """
    key = (num_heads, size, num_queries, window)
    if key not in packed.layouts:
        packed.layouts[key] = _make_layout(packed, *key)
    layout: Layout = packed.layouts[key]
    return layout


def _make_layout(
    packed: Packed, num_heads: int, size: int, num_queries: int | None, window: int | None
) -> Layout:
    lengths = packed.lengths
    asking = lengths if num_queries is None else (num_queries,) * len(lengths)
    groups = choose_groups(lengths, asking, MOST_PADDING // (num_heads * size))
    keys = [_tokens_of(numbers, lengths) for numbers in groups]
    queries = keys if num_queries is None else [_tokens_of(numbers, asking) for numbers in groups]
    shapes, masks = [], []
    for of_queries, of_keys in zip(queries, keys, strict=True):
        shapes.append((len(of_keys) * num_heads, of_queries.shape[1], of_keys.shape[1]))
        masks.append(_mask_of(of_queries, of_keys, window))
    key_rows, key_places, padding = _rows_of(keys, num_heads)
    query_rows, query_places = key_rows, key_places
    if num_queries is not None:
        query_rows, query_places, padding = _rows_of(queries, num_heads)
    device = packed.first.device
    return Layout(
        num_heads,
        shapes,
        [None if mask is None else mask.to(device) for mask in masks],
        *(rows.to(device) for rows in (query_rows, key_rows, query_places, key_places, padding)),
    )


def choose_groups(
    lengths: Sequence[int], queries: Sequence[int], most_padding: int
) -> list[list[int]]:
    """Which sequences are computed at once: their numbers, the longest first.

    Args:
        lengths, queries: keys and queries of each sequence.
        most_padding: weights that a sequence may have too many.
    """
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        longest = groups[-1][0] if groups else number
        padded = lengths[longest] * queries[longest]
        if groups and padded - lengths[number] * queries[number] <= most_padding:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _tokens_of(numbers: list[int], counts: Sequence[int]) -> torch.Tensor:
    """Where the tokens of some sequences lie: int64 (sequences, tokens of the longest), else -1."""
    ends = torch.tensor(counts).cumsum(0)[numbers].unsqueeze(1)
    own = torch.tensor(counts)[numbers].unsqueeze(1)
    places = torch.arange(int(own.max()))
    return torch.where(places < own, ends - own + places, -1)


def _mask_of(queries: torch.Tensor, keys: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """The mask of a group, of the tokens that `_tokens_of` finds."""
    hidden = (keys < 0).unsqueeze(1)
    if window is not None:
        of_queries, of_keys = torch.arange(queries.shape[1]), torch.arange(keys.shape[1])
        far = (of_queries.unsqueeze(1) - of_keys).abs() > window
        # Padding asks, too: with nothing to see it would have weights that are not numbers.
        hidden = (hidden | far) & (queries >= 0).unsqueeze(2)
    if not hidden.any():
        return None
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)


def _rows_of(
    tokens: list[torch.Tensor], num_heads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each grouped row the packed one, of each packed row the grouped one, and the padding."""
    heads = torch.arange(num_heads).unsqueeze(1)
    rows = torch.cat([(of.unsqueeze(1) * num_heads + heads).flatten() for of in tokens])
    real, padding = (part.nonzero().squeeze(1) for part in (rows >= 0, rows < 0))
    places = torch.empty_like(real)
    places[rows[real]] = real
    return rows.clamp_(min=0), places, padding
