"""A padded batch as one row of its real tokens."""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Packed:
    """Where the sequences of a batch lie in the row of its real tokens.

    Attributes:
        is_real: bool (sequences, tokens of the longest): which places of the padded batch are tokens.
        lengths: tokens of each sequence, at least 1.
        first: int64 (sequences,): the place in the row of each sequence's first token.
        layouts: how attention groups the sequences, kept by `grouping.group_sequences`.
    """

    is_real: torch.Tensor
    lengths: tuple[int, ...]
    first: torch.Tensor
    layouts: dict[Any, Any] = field(default_factory=dict)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Begin and end of each sequence in the row."""
        ends = list(accumulate(self.lengths))
        return list(zip([0, *ends], ends, strict=False))

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """The row of the tokens' values: (sequences, tokens, ...) -> (1, real tokens, ...)."""
        return padded[self.is_real].unsqueeze(0)

    def pad(self, row: torch.Tensor) -> torch.Tensor:
        """The inverse: (1, real tokens, size) -> (sequences, tokens, size), zeros where none is."""
        padded = row.new_zeros(*self.is_real.shape, row.shape[-1])
        return padded.masked_scatter(self.is_real.unsqueeze(-1), row)


def find_tokens(attention_mask: torch.Tensor) -> Packed | None:
    """Where the real tokens of a batch are.

    Args:
        attention_mask: (sequences, tokens), 1 for a real token. A mask that was already made for the
            attention, of more dimensions, is not understood.

    Returns:
        None where a sequence does not begin at the left, or has a gap.
    """
    if attention_mask.dim() != 2:  # noqa: PLR2004
        return None
    is_real = attention_mask.bool()
    counts = is_real.sum(dim=1)
    places = torch.arange(is_real.shape[1], device=is_real.device)
    if not torch.equal(is_real, places < counts.unsqueeze(1)) or not bool(counts.all()):
        return None
    return Packed(is_real, tuple(counts.tolist()), counts.cumsum(0) - counts)
