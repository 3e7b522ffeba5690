"""A state dict of any nesting in one file: its tensors as safetensors, the rest as JSON."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

TENSOR, PAIRS = "tensor", "pairs"


def save_state_dict(state: Any, path: Path) -> None:
    """Write nested dicts and lists of tensors and plain values to a safetensors file.

    Raises:
        TypeError: a value is neither a tensor nor plain (as JSON has it).
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _take_tensors(state, tensors)
    save_file(tensors, path, metadata={"tree": json.dumps(tree)})


def load_state_dict(path: Path) -> Any:
    """Read what `save_state_dict` wrote; tuples come back as lists, tensors on the CPU."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _put_tensors(json.loads(file.metadata()["tree"]), tensors)


def _take_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone()  # safetensors refuses shared memory
        return {TENSOR: name}
    if isinstance(value, dict):
        # Pairs, since JSON would turn an optimizer's numbers of parameters into texts.
        return {PAIRS: [[key, _take_tensors(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_tensors(inner, tensors) for inner in value]
    return value


def _put_tensors(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_put_tensors(inner, tensors) for inner in tree]
    if not isinstance(tree, dict):
        return tree
    if TENSOR in tree:
        return tensors[tree[TENSOR]]
    return {key: _put_tensors(inner, tensors) for key, inner in tree[PAIRS]}
