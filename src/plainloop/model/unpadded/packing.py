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
        places: int64 (real tokens,): index of each real token in the batch's tokens, row after row.
        layouts: cache of `grouping.group_sequences`, shared by all layers of a forward pass.
    """

    is_real: torch.Tensor
    lengths: tuple[int, ...]
    starts: torch.Tensor
    places: torch.Tensor
    layouts: dict[Any, Any] = field(default_factory=dict)

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Drop the padding: (sequences, tokens, ...) -> (1, real tokens, ...)."""
        # By index: with a mask, torch would count the real tokens again, and wait for a GPU to do it.
        return padded.flatten(0, 1).index_select(0, self.places).unsqueeze(0)

    def pad(self, row: torch.Tensor) -> torch.Tensor:
        """Inverse of `pack`, zeros at padding: (1, real tokens, size) -> (sequences, tokens, size)."""
        padded = row.new_zeros(self.is_real.numel(), row.shape[-1])
        return padded.index_copy(0, self.places, row[0]).view(*self.is_real.shape, -1)


def find_sequences(attention_mask: torch.Tensor, *, at_right: bool = False) -> Packed | None:
    """Locate the sequences of a padded batch.

    Args:
        attention_mask: (sequences, tokens), 1 at real tokens. A 4-D mask, as attention layers take
            it, is not understood.
        at_right: whether texts may also be at the right, padded on the left: where no token is
            read by its place in the row.

    Returns:
        None if a sequence is empty, is padded on the left, or has a gap.
    """
    if attention_mask.dim() != 2:  # noqa: PLR2004
        return None
    is_real = attention_mask.bool()
    counts = is_real.sum(dim=1)
    num_rows, width = is_real.shape
    from_left = torch.arange(width, device=is_real.device)
    orders = (from_left, from_left.flip(0)) if at_right else (from_left,)
    fit = [(is_real == (order < counts.unsqueeze(1))).all() for order in orders]
    # All that is read of the batch, at once: reading waits for a GPU.
    read = torch.cat([counts, torch.stack(fit)]).tolist()
    lengths, fits = read[:num_rows], read[num_rows:]
    if not any(fits) or not all(lengths):
        return None
    starts = counts.cumsum(0) - counts
    first_places = torch.arange(num_rows, device=is_real.device) * width
    if not fits[0]:
        first_places += width - counts
    total = sum(lengths)
    offsets = (first_places - starts).repeat_interleave(counts, output_size=total)
    places = offsets + torch.arange(total, device=is_real.device)
    return Packed(is_real, tuple(lengths), starts, places)


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
