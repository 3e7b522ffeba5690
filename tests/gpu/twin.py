"""Twins: tensors that say they are on cuda:0 and compute on the CPU, for tests of device placement.

An operation on tensors of two devices is an error, as on a GPU. What would wait for the GPU or copy to it
is counted, with the line that asks for it. The numbers are the CPU's, bit for bit.

Not covered: autocast, torch's kernels for CUDA, random generators of the device, threads.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import accelerate
import torch
from accelerate.state import AcceleratorState, PartialState
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from transformers import PreTrainedModel

GPU = torch.device("cuda:0")
# What torch's C++ takes a twin to be on: a device with its own autograd in a build without CUDA.
INNER = torch.device("meta")
aten = torch.ops.aten

INDEXING = (
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
)
COPIES = (aten.copy_.default, aten._to_copy.default)
READ_BY_THE_CPU = {
    aten._local_scalar_dense.default: "a value is read",
    aten.equal.default: "a comparison is read",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "a selection by a mask",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.unique_consecutive.default: "unique",
    aten.repeat_interleave.Tensor: "repeat_interleave",
}
"""Operations whose result, or its size, the CPU needs at once."""
PLAIN_RESULTS = (aten._local_scalar_dense.default, aten.equal.default)
LISTS_WITH_NUMBERS = ("aten._foreach", "aten._fused")


class MixedDevicesError(RuntimeError):
    """Tensors of two devices in one operation."""


class Twin(torch.Tensor):
    """A tensor on cuda:0, as far as Python can tell; `inner` is the CPU's."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Twin":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=INNER,
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda _: GPU)
    is_cuda = property(lambda _: True)
    is_meta = property(lambda _: False)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {}, Counter(), Counter())

    def __repr__(self):
        return f"Twin({self.inner!r})"

    # With these two, Module.to() swaps a parameter for its twin and keeps its identity.
    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, *_):
        return Twin(inner["inner"])

    def to(self, *args, **kwargs):
        args, kwargs = tree_map_only(torch.device, _as_inner, (args, kwargs))
        return super().to(*args, **kwargs)

    def new_tensor(self, data, **kwargs):
        return torch.tensor(data, **{"dtype": self.dtype, "device": GPU, **kwargs})

    def tolist(self):
        return self.detach().cpu().tolist()

    def untyped_storage(self):
        return self.inner.untyped_storage()

    def data_ptr(self):
        return self.inner.data_ptr()


class TwinMode(TorchDispatchMode):
    """While it is entered, what is created on or copied to cuda is a twin.

    Attributes:
        waits: (what, file:line) -> how often the CPU would have waited for the GPU.
        copies: the same for copies to the GPU that nothing waits for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.copies: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {}, self.waits, self.copies)


def compute(func, args, kwargs, waits, copies):
    """Run an operation on the twins' inner tensors; wrap what it gives, if it runs on the GPU."""
    flat, spec = tree_flatten((args, kwargs))
    has_twin = any(isinstance(value, Twin) for value in flat)
    device = kwargs.get("device")
    on_gpu = has_twin if device is None else device.type != "cpu"
    if func in COPIES:
        source = args[func is aten.copy_.default]
        on_gpu = isinstance(args[0], Twin) if func is aten.copy_.default else on_gpu
        if on_gpu and not isinstance(source, Twin):
            # What is not pinned is read before an asynchronous copy returns.
            is_async = kwargs.get("non_blocking") or True in args[2:]
            (copies if is_async else waits)["a copy to the GPU", calling_line()] += 1
        elif isinstance(source, Twin) and not on_gpu:
            waits["a copy to the CPU", calling_line()] += 1
    elif func in INDEXING:
        on_gpu = isinstance(args[0], Twin)
        check_indexing(func, args, waits)
    elif has_twin:
        check_devices(func, args, kwargs)
    has_size = kwargs.get("output_size") is not None
    if has_twin and func in READ_BY_THE_CPU and not has_size:
        waits[READ_BY_THE_CPU[func], calling_line()] += 1
    inner = [value.inner if isinstance(value, Twin) else value for value in flat]
    inner = [torch.device("cpu") if isinstance(value, torch.device) else value for value in inner]
    inner_args, inner_kwargs = tree_unflatten(inner, spec)
    result = func(*inner_args, **inner_kwargs)
    if not on_gpu or func in PLAIN_RESULTS:
        return result
    return wrap(func, args, kwargs, result)


def wrap(func, args, kwargs, result):
    """The twins of a result: those that were written to, and new ones."""
    several = isinstance(result, tuple)
    written = {
        name: value
        for argument, value in arguments_of(func, args, kwargs)
        if is_written(argument)
        for name in argument.alias_info.before_set
    }
    twins = [
        written[next(iter(returned.alias_info.before_set))]
        if is_written(returned)
        else tree_map_only(torch.Tensor, Twin, value)
        for returned, value in zip(
            func._schema.returns, result if several else [result], strict=False
        )
    ]
    return tuple(twins) if several else next(iter(twins), result)


def arguments_of(func, args, kwargs):
    """Pairs of (argument of the schema, its value)."""
    for number, argument in enumerate(func._schema.arguments):
        if number < len(args) or argument.name in kwargs:
            yield argument, args[number] if number < len(args) else kwargs[argument.name]


def is_written(argument) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def check_devices(func, args, kwargs) -> None:
    """Check what CUDA's operations check: a tensor on the CPU may only be a number that is read."""
    for argument, value in arguments_of(func, args, kwargs):
        is_list = isinstance(value, (list, tuple))
        takes_numbers = not is_list or str(func).startswith(LISTS_WITH_NUMBERS)
        for each in value if is_list else [value]:
            if not isinstance(each, torch.Tensor) or isinstance(each, Twin):
                continue
            if each.dim() or is_written(argument) or not takes_numbers:
                what = f"{argument.name}, of shape {tuple(each.shape)}"
                raise MixedDevicesError(f"{func}: on the CPU, beside tensors on cuda:0: {what}")


def check_indexing(func, args, waits) -> None:
    """Check an indexed read or write; indices on the CPU are copied to the GPU, which is waited for."""
    on_gpu = isinstance(args[0], Twin)
    indices = [index for index in args[1] if index is not None]
    values = [value for value in args[2:3] if isinstance(value, torch.Tensor)]
    if not on_gpu and any(isinstance(index, Twin) for index in indices):
        raise MixedDevicesError(f"{func}: indices on cuda:0 of a tensor on the CPU")
    if any(isinstance(value, Twin) != on_gpu and (value.dim() or not on_gpu) for value in values):
        raise MixedDevicesError(f"{func}: values and tensor on two devices")
    if on_gpu and any(not isinstance(index, Twin) for index in indices):
        waits["indices on the CPU", calling_line()] += 1
    if on_gpu and any(index.dtype in (torch.bool, torch.uint8) for index in indices):
        waits["a selection by a mask", calling_line()] += 1


def calling_line() -> str:
    """The innermost line that is neither torch's nor this file's: its package and file, and its number."""
    frame = sys._getframe(1)
    while frame:
        path = frame.f_code.co_filename
        if "/torch/" not in path and path != __file__:
            break
        frame = frame.f_back
    name = re.split("/site-packages/|/src/|/tests/", path)[-1]
    return f"{name}:{frame.f_lineno}"


def _as_inner(device: torch.device) -> torch.device:
    return INNER if device.type == "cuda" else device


@contextmanager
def on_twins() -> Iterator[TwinMode]:
    """Let everything that accelerate places on its device be twins."""
    create = accelerate.Accelerator.__init__
    load = PreTrainedModel.from_pretrained.__func__

    def create_on_gpu(self, *args, **kwargs):
        forget_device()
        create(self, *args, **kwargs)
        for state in (AcceleratorState, PartialState):
            state._shared_state["device"] = GPU

    def load_on_cpu(cls, *args, **kwargs):  # by way of the real device "meta"
        with _disable_current_modes():
            return load(cls, *args, **kwargs)

    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) by way of the CPU
    try:
        with (
            patch.dict(os.environ, {"ACCELERATE_USE_CPU": "false"}),  # set by an earlier use_cpu
            patch.object(torch.cuda, "_lazy_init", lambda: None),
            patch.object(torch, "inference_mode", torch.no_grad),  # no mode for wrapped tensors
            patch.object(accelerate.Accelerator, "__init__", create_on_gpu),
            patch.object(PreTrainedModel, "from_pretrained", classmethod(load_on_cpu)),
            TwinMode() as mode,
        ):
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
        forget_device()


def forget_device() -> None:
    """Put back the device that accelerate's state had; the next Accelerator compares."""
    for state in (AcceleratorState, PartialState):
        if "device" in state._shared_state:
            state._shared_state["device"] = torch.device("cpu")
