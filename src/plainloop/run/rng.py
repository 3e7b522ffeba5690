"""Random number generator state of a process: capture, save, load, restore."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file


@dataclass(frozen=True)
class RngState:
    """State of Python's, NumPy's and torch's global random number generators.

    Attributes:
        tensors: state words of each generator.
        rest: the other parts of Python's and NumPy's state, as plain values.
    """

    tensors: dict[str, torch.Tensor]
    rest: dict[str, Any]

    @classmethod
    def capture(cls) -> "RngState":
        """The current state."""
        version, words, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
        tensors = {
            "torch": torch.get_rng_state(),
            "python": torch.tensor(words),
            "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        }
        for device in range(torch.cuda.device_count()):
            tensors[f"cuda.{device}"] = torch.cuda.get_rng_state(device)
        rest = {"python": [version, gauss], "numpy": [name, position, has_gauss, cached]}
        return cls(tensors, rest)

    def restore(self) -> None:
        """Set all generators to this state."""
        torch.set_rng_state(self.tensors["torch"])
        version, gauss = self.rest["python"]
        random.setstate((version, tuple(self.tensors["python"].tolist()), gauss))
        name, *rest = self.rest["numpy"]
        keys = self.tensors["numpy"].numpy().astype(np.uint32)
        np.random.set_state((name, keys, *rest))  # noqa: NPY002
        for device in range(torch.cuda.device_count()):
            if f"cuda.{device}" in self.tensors:
                torch.cuda.set_rng_state(self.tensors[f"cuda.{device}"], device)

    def save(self, path: Path) -> None:
        """Write the state to a safetensors file."""
        save_file(self.tensors, path, metadata={"rest": json.dumps(self.rest)})

    @classmethod
    def load(cls, path: Path) -> "RngState":
        """Read a file that `save` wrote."""
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(tensors, json.loads(file.metadata()["rest"]))
