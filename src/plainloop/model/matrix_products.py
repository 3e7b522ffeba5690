"""Choose the fastest exact kernels for float32 matrix products on a CPU, and use them for a while.

torch multiplies float32 matrices with MKL. oneDNN has float32 kernels of its own, which are twice as
fast on some CPUs (AMD with AVX-512). torch takes them only if oneDNN may compute in bfloat16, and on a
CPU with instructions for that (AMX) oneDNN then does, with errors a thousand times as large. The name
of a CPU tells neither the speed nor the precision, so both are measured.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Literal, cast, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend
from torch import nn
from transformers.pytorch_utils import Conv1D

from plainloop.config.settings import TrainConfig

Products = Literal["default", "onednn"]
Operands = tuple[torch.Tensor, torch.Tensor]
Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

MOST_ERROR = 4.0
"""How many times the default's error a candidate's may be. bfloat16's is about 1,000 times as large."""
LEAST_GAIN = 1.2
"""How many times as fast a candidate must be, so that noise does not choose."""
REPEATS = 5
"""How often each product is timed; the fastest counts."""
FLOATING_POINT_OPERATIONS = 1e8  # of one product: about a millisecond on two cores
UNSET = "none"

_switch = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
_lock = threading.Lock()
_blocks = 0


def choose_products(
    model: nn.Module,
    config: TrainConfig,
    accelerator: Accelerator,
    saved: str | None = None,
) -> tuple[Products, str]:
    """Choose the kernels for a model's matrix products: as rank 0 measures, for all processes.

    Every process must call it. It takes about 50 ms the first time.

    Args:
        model: whose largest weight gives the shapes to measure.
        config: its `products` and `execution`.
        accelerator: of the run.
        saved: the choice of the run to resume, which is taken without comparing the speed.

    Returns:
        The choice, for `use_products`, and a line for the user that says why.
    """
    shape, reason = _largest_weight(model), _why_default(config, accelerator)
    if shape is None or reason:
        reason = reason or "the model has no linear layer in float32"
        return "default", f"torch's own matrix products: {reason}"
    exact, gain = _compare(shape)
    compared = torch.tensor([[exact, gain]], dtype=torch.float64)
    if accelerator.num_processes > 1:
        compared = accelerator.gather(compared)
    if not compared[:, 0].all():
        return "default", "torch's own matrix products: oneDNN's are not exact in float32 here"
    gain = compared[0, 1].item()
    choice: Products = "onednn" if gain >= LEAST_GAIN else "default"
    why = f"oneDNN's measured {gain:.2f} times as fast"
    if saved in get_args(Products):
        choice, why = cast(Products, saved), "as in the saved run"
    return choice, f"{'oneDNN' if choice == 'onednn' else 'torch'}'s own matrix products: {why}"


@contextmanager
def use_products(choice: Products) -> Iterator[None]:
    """Multiply with the chosen kernels inside the block, on all threads of the process.

    torch's switch is one for the process. It is put back when the last of several blocks ends, on
    whichever thread. It is left alone if the user has set it, before or inside the block.
    """
    global _blocks  # noqa: PLW0603 - torch's switch is global, and so is who uses it
    with _lock:
        takes_part = choice == "onednn" and (_blocks > 0 or _switch.fp32_precision == UNSET)
        if takes_part:
            if _blocks == 0:
                _switch.fp32_precision = "bf16"
            _blocks += 1
    try:
        yield
    finally:
        with _lock:
            if takes_part:
                _blocks -= 1
                if _blocks == 0 and _switch.fp32_precision == "bf16":
                    _switch.fp32_precision = UNSET


def measure_bfloat16(model: nn.Module, products: Products) -> float:
    """How many times as fast a model's products are in bfloat16 as in float32.

    Only a CPU with instructions for it (avx512_bf16, AMX) gains; others take several times as long.

    Args:
        model: with float32 weights, on a CPU.
        products: the kernels to compare with.

    Returns:
        The factor; 0 if the model has no linear layer in float32.
    """
    shape = _largest_weight(model)
    if shape is None:
        return 0.0
    operands = sample_operands(*shape)
    half = [(left.bfloat16(), right.bfloat16()) for left, right in operands]
    with use_products(products):
        return _times_as_fast(
            [partial(_default, *pair) for pair in half],
            [partial(_default, *pair) for pair in operands],
        )


def is_exact(multiply: Multiply, operands: Sequence[Operands]) -> bool:
    """Whether a way to multiply has float32's error: at most 4 times torch's own, on each product.

    Args:
        multiply: two float32 matrices, or batches of matrices -> their product.
        operands: float32; of a size and with entries for which the error of bfloat16 is about 1,000
            times as large, and that of TF32 about 100 times.
    """
    for left, right in operands:
        true = left.double() @ right.double()
        error, allowed = (
            (product.double() - true).abs().max()
            for product in (multiply(left, right), left @ right)
        )
        if not error <= MOST_ERROR * allowed:  # also false if it is not a number
            return False
    return True


def sample_operands(rows: int, columns: int) -> list[Operands]:
    """Operands of the products of one linear layer, forward and backward, and of an attention.

    Args:
        rows: of the layer's weight.
        columns: of the layer's weight.
    """
    tokens = round(min(512, max(16, FLOATING_POINT_OPERATIONS / (2 * rows * columns))))
    generator = torch.Generator().manual_seed(0)  # the user's generators are left alone
    inputs, weight, gradient, queries, keys = (
        torch.randn(shape, generator=generator)
        for shape in [
            (tokens, columns),
            (rows, columns),
            (tokens, rows),
            (24, 64, 32),
            (24, 32, 64),
        ]
    )
    return [(inputs, weight.T), (gradient, weight), (gradient.T, inputs), (queries, keys)]


@cache  # also so that all runs of one process, as of --seeds and --cv, choose the same
def _compare(shape: tuple[int, int]) -> tuple[bool, float]:
    """Compare oneDNN's products with torch's own: whether they are exact, and how much faster."""
    operands = sample_operands(*shape)
    if all(torch.equal(_default(left, right), _onednn(left, right)) for left, right in operands):
        return True, 1.0  # the same kernels: oneDNN has no others for this CPU
    if not is_exact(_onednn, operands):
        return False, 0.0
    return True, _times_as_fast(
        [partial(_onednn, *pair) for pair in operands],
        [partial(_default, *pair) for pair in operands],
    )


def _times_as_fast(
    candidates: Sequence[Callable[[], object]], others: Sequence[Callable[[], object]]
) -> float:
    """How many times as fast the candidates are as the others, in turn and with the fastest of 5."""
    seconds = [0.0, 0.0]
    for pair in zip(candidates, others, strict=True):
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(REPEATS):
            for call, durations in zip(pair, times, strict=True):
                started = time.perf_counter()
                call()
                durations.append(time.perf_counter() - started)
        seconds = [total + min(durations) for total, durations in zip(seconds, times, strict=True)]
    return seconds[1] / seconds[0]


def _default(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left @ right


def _onednn(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    with use_products("onednn"):
        return left @ right


def _why_default(config: TrainConfig, accelerator: Accelerator) -> str | None:
    device = accelerator.device.type
    reasons = {
        "--products default": config.products == "default",
        "--execution padded keeps the Trainer's numbers": config.execution == "padded",
        f"there is no choice on {device}": device != "cpu",
        "mixed precision": accelerator.mixed_precision != "no",
        "torch.compile has its own": accelerator.state.dynamo_plugin.backend != DynamoBackend.NO,
        "this torch has no oneDNN": not torch.backends.mkldnn.is_available(),
        "torch.backends.mkldnn.matmul.fp32_precision is set": _switch.fp32_precision != UNSET
        and _blocks == 0,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _largest_weight(model: nn.Module) -> tuple[int, int] | None:
    """The shape (rows, columns) of the float32 weights that most multiplications are with."""
    shapes = Counter[tuple[int, int]]()
    for module in model.modules():
        if isinstance(module, (nn.Linear, Conv1D)) and module.weight.dtype == torch.float32:
            rows, columns = module.weight.shape
            shapes[rows, columns] += rows * columns
    return shapes.most_common(1)[0][0] if shapes else None
