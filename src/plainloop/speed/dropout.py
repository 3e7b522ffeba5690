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
    """Which elements are kept: bool (num_elements,), each with probability 1 - dropped_share(p).

    Four elements come from each 64-bit draw of the device's global generator, which is what
    gradient checkpointing puts back before it computes a layer again.
    """
    draws = torch.empty(math.ceil(num_elements / 4), dtype=torch.int64, device=device)
    draws.random_(-(2**63), None)  # the whole range
    bits = draws.view(torch.int16)[:num_elements]
    return bits >= round(p * LEVELS) - LEVELS // 2


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        """Drop elements with probability `dropped_share(p)`, and scale up the others."""
        keep = draw_keep_mask(x.numel(), p, x.device).view(x.shape)
        ctx.save_for_backward(keep)
        ctx.scale = 1 / (1 - dropped_share(p))
        factors: torch.Tensor = keep * ctx.scale
        return x * factors.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """The gradient of x: that of the elements that were kept, scaled up as they were."""
        (keep,) = ctx.saved_tensors
        return gradient * (keep * ctx.scale).to(gradient.dtype), None


def drop(dropout: nn.Dropout, x: torch.Tensor) -> torch.Tensor:
    """What `dropout(x)` computes, by other random numbers; fit for its forward, too."""
    if not dropout.training or dropout.p == 0:
        return x
    if dropout.p >= 1:
        return torch.zeros_like(x)
    dropped: torch.Tensor = _Dropout.apply(x, dropout.p)  # type: ignore[no-untyped-call]
    return dropped
