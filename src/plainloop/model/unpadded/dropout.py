"""Dropout with cheap random numbers: 16 bits each, and a mask of one byte."""

import math
from typing import Any

import torch
from torch import nn

LEVELS = 2**16


def dropped_share(p: float) -> float:
    """The probability that 16 bits can give: within 2**-17 of p."""
    return round(p * LEVELS) / LEVELS


def draw_keep_mask(num_elements: int, p: float, device: torch.device) -> torch.Tensor:
    """Which elements are kept: int8 (num_elements,), 1 with probability 1 - dropped_share(p), else 0.

    Four elements come from each 64-bit draw of the device's global generator, which is what
    gradient checkpointing puts back before it computes a layer again.
    """
    draws = torch.empty(math.ceil(num_elements / 4), dtype=torch.int64, device=device)
    draws.random_(-(2**63), None)  # the whole range
    bits = draws.view(torch.int16)[:num_elements]
    # In place, and no bool: on a CPU a comparison of 16 bits makes bools four times as slowly.
    return bits.ge_(round(p * LEVELS) - LEVELS // 2).to(torch.int8)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, residual: torch.Tensor | None, p: float) -> torch.Tensor:
        """Drop elements with probability `dropped_share(p)`, scale up the others, add the residual."""
        keep = draw_keep_mask(x.numel(), p, x.device).view(x.shape)
        ctx.save_for_backward(keep)
        ctx.scale, ctx.dtype = 1 / (1 - dropped_share(p)), x.dtype
        if residual is None:
            return keep.to(x.dtype).mul_(ctx.scale).mul_(x)
        dtype = torch.promote_types(x.dtype, residual.dtype)
        return torch.addcmul(residual.to(dtype), x.to(dtype), keep.to(dtype), value=ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """The gradient of x: that of the elements that were kept, scaled up as they were."""
        (keep,) = ctx.saved_tensors
        for_x = keep.to(gradient.dtype).mul_(ctx.scale).mul_(gradient).to(ctx.dtype)
        return for_x, gradient if ctx.needs_input_grad[1] else None, None


def drop(
    dropout: nn.Dropout, x: torch.Tensor, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """What `dropout(x)` computes, by other random numbers; fit for its forward, too.

    Args:
        dropout: its probability, and whether it is training.
        x: of any shape.
        residual: of the same shape, added to the result in the same pass.
    """
    if not dropout.training or dropout.p == 0:
        return x if residual is None else x + residual
    if dropout.p >= 1:
        return torch.zeros_like(x) if residual is None else residual
    dropped: torch.Tensor = _Dropout.apply(x, residual, dropout.p)  # type: ignore[no-untyped-call]
    return dropped
