"""Dropout from 16-bit random numbers, fused with the residual addition."""

import math
from typing import Any

import torch
from torch import nn

LEVELS = 2**16


def quantize_p(p: float) -> float:
    """Round a dropout probability to a multiple of 2**-16, what 16 random bits can represent."""
    return round(p * LEVELS) / LEVELS


def draw_keep_mask(num_elements: int, p: float, device: torch.device) -> torch.Tensor:
    """Draw a keep mask: int8 (num_elements,), 1 with probability 1 - quantize_p(p), else 0.

    It uses the device's global generator, whose state gradient checkpointing restores before it
    recomputes a layer.
    """
    # torch's CPU generator is serial, so drawing costs more than the multiplication does: four
    # elements share a 64-bit draw. The number and order of these draws decide the training's bits.
    draws = torch.empty(math.ceil(num_elements / 4), dtype=torch.int64, device=device)
    draws.random_(-(2**63), None)  # with None as the end: all 64 bits
    bits = draws.view(torch.int16)[:num_elements]  # signed, so the threshold moves by half a range
    # In place, and not to bool: on a CPU, comparing int16 into a bool tensor takes four times as long.
    return bits.ge_(round(p * LEVELS) - LEVELS // 2).to(torch.int8)


class _Dropout(torch.autograd.Function):
    # Saves an int8 mask for the backward pass. On a CPU, autograd would save one in the dtype of x.

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, residual: torch.Tensor | None, p: float) -> torch.Tensor:
        """Compute residual + x * keep / (1 - p), p as rounded by `quantize_p`."""
        keep = draw_keep_mask(x.numel(), p, x.device).view(x.shape)
        ctx.save_for_backward(keep)
        # Scaled by the rounded p, so that the expectation is exact.
        ctx.scale, ctx.dtype = 1 / (1 - quantize_p(p)), x.dtype
        if residual is None:
            return keep.to(x.dtype).mul_(ctx.scale).mul_(x)
        # Under autocast x is bfloat16 and the residual float32: the sum is float32, as x + residual.
        dtype = torch.promote_types(x.dtype, residual.dtype)
        return torch.addcmul(residual.to(dtype), x.to(dtype), keep.to(dtype), value=ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Gradients of x, masked and scaled like it, and of the residual, unchanged."""
        (keep,) = ctx.saved_tensors
        grad_x = keep.to(grad.dtype).mul_(ctx.scale).mul_(grad).to(ctx.dtype)
        return grad_x, grad if ctx.needs_input_grad[1] else None, None


def apply_dropout(
    dropout: nn.Dropout, x: torch.Tensor, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply a dropout module with 16-bit random numbers; usable as the module's `forward`.

    Args:
        dropout: gives the probability and the mode, training or evaluation.
        x: floating point, of any shape.
        residual: of the same shape, added to the result in the same pass.
    """
    if not dropout.training or dropout.p == 0:
        return x if residual is None else x + residual
    if dropout.p >= 1:
        return torch.zeros_like(x) if residual is None else residual
    dropped: torch.Tensor = _Dropout.apply(x, residual, dropout.p)  # type: ignore[no-untyped-call]
    return dropped
