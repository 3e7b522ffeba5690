"""Sequence packing: a padded batch as one row of its real tokens, the layout of varlen attention."""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Packed:
    """Where the sequences of a padded batch lie in the packed row of its real tokens.

    Attributes:
        is_real: bool (sequences, longest length): True at real tokens, False at padding.
        lengths: real tokens of each sequence, at least 1.
        starts: int64 (sequences,): index in the row of each sequence's first token; with the total
            appended it is the `cu_seqlens` of FlashAttention.
        layouts: cache of `grouping.group_sequences`, shared by all layers of a forward pass.
    """

    is_real: torch.Tensor
    lengths: tuple[int, ...]
    starts: torch.Tensor
    layouts: dict[Any, Any] = field(default_factory=dict)

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Drop the padding: (sequences, tokens, ...) -> (1, real tokens, ...)."""
        return padded[self.is_real].unsqueeze(0)

    def pad(self, row: torch.Tensor) -> torch.Tensor:
        """Inverse of `pack`, zeros at padding: (1, real tokens, size) -> (sequences, tokens, size)."""
        padded = row.new_zeros(*self.is_real.shape, row.shape[-1])
        return padded.masked_scatter(self.is_real.unsqueeze(-1), row)


def find_sequences(attention_mask: torch.Tensor) -> Packed | None:
    """Locate the sequences of a right-padded batch.

    Args:
        attention_mask: (sequences, tokens), 1 at real tokens. A 4-D mask, as attention layers take
            it, is not understood.

    Returns:
        None if a sequence is empty, is padded on the left, or has a gap.
    """
    if attention_mask.dim() != 2:  # noqa: PLR2004
        return None
    is_real = attention_mask.bool()
    counts = is_real.sum(dim=1)
    positions = torch.arange(is_real.shape[1], device=is_real.device)
    if not torch.equal(is_real, positions < counts.unsqueeze(1)) or not bool(counts.all()):
        return None
    return Packed(is_real, tuple(counts.tolist()), counts.cumsum(0) - counts)
