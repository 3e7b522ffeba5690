"""Sequence packing: a padded batch as one row of its real tokens, the layout of varlen attention."""

from collections.abc import Mapping
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


def find_sequences(attention_mask: torch.Tensor, *, at_right: bool = False) -> Packed | None:
    """Locate the sequences of a padded batch.

    Args:
        attention_mask: (sequences, tokens), 1 at real tokens. A 4-D mask, as attention layers take
            it, is not understood.
        at_right: whether texts may also stand at the right, padded on the left: where no token is
            read by its place in the row.

    Returns:
        None if a sequence is empty, is padded on the left, or has a gap.
    """
    if attention_mask.dim() != 2:  # noqa: PLR2004
        return None
    is_real = attention_mask.bool()
    counts = is_real.sum(dim=1)
    positions = torch.arange(is_real.shape[1], device=is_real.device)
    if at_right and bool(is_real[:, -1].all()):
        positions = positions.flip(0)
    if not torch.equal(is_real, positions < counts.unsqueeze(1)) or not bool(counts.all()):
        return None
    return Packed(is_real, tuple(counts.tolist()), counts.cumsum(0) - counts)


def pack_inputs(
    config: Any,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    others: Mapping[str, Any],
    *,
    at_right: bool = False,
) -> Packed | None:
    """Locate the sequences of a call of a base model, if it asks for the last hidden states alone.

    Args:
        config: of the model.
        input_ids, attention_mask: (sequences, tokens); no mask: all tokens are real.
        others: further arguments of the call.
        at_right: see `find_sequences`.

    Returns:
        None if the call must run padded.
    """
    if (
        input_ids is None
        or not others.get("return_dict", True)
        or any(value is not None for name, value in others.items() if name != "return_dict")
        or config.output_hidden_states
        or config.output_attentions
    ):
        return None
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    return find_sequences(mask, at_right=at_right)
