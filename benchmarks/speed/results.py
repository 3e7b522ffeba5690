"""results.json: what has been measured, with the machine that it was measured on."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from joblib import cpu_count

from plainloop.errors import UserError

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers")
ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
HARDWARE = ("cpu", "cores", "memory_gib", "threads", "allocator")
"""Of a machine, what times depend on and scores do not."""


def describe_machine(threads: int) -> dict[str, Any]:
    """What times depend on: processor, memory, threads, allocator, versions."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line for line in cpus if line.startswith("model name")), "")
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model.partition(":")[2].strip() or platform.machine(),
        "cores": cpu_count(),
        "memory_gib": round(pages / 2**30),
        "threads": threads,
        "allocator": {name: os.environ[name] for name in ALLOCATOR if name in os.environ},
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


class Results:
    """The entries of results.json, each written as soon as it is measured.

    Args:
        path: of the file; where it is there, what it has is not measured again.
        machine: from `describe_machine`.
        any_hardware: whether it may go on with a file of other hardware, since no times are added.

    Raises:
        UserError: the file is of another machine, or of other versions.
    """

    def __init__(self, path: Path, machine: dict[str, Any], *, any_hardware: bool = False) -> None:
        self.path, self.machine = path, machine
        self.entries: dict[str, dict[str, Any]] = {}
        if not path.exists():
            return
        saved = json.loads(path.read_text(encoding="utf-8"))
        different = [
            f"{name} was {saved['machine'].get(name)} and is {value}"
            for name, value in machine.items()
            if saved["machine"].get(name) != value and not (any_hardware and name in HARDWARE)
        ]
        if different:
            raise UserError(
                f"was measured under other conditions: {', '.join(different)}",
                where=str(path),
                fix="give another --results, or delete it to measure again",
            )
        self.machine, self.entries = saved["machine"], saved["entries"]

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Note a measurement and write all of them."""
        self.entries[name] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_name(f".{self.path.name}")
        saved = {"machine": self.machine, "entries": self.entries}
        written.write_text(json.dumps(saved, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        written.replace(self.path)  # whole, or not there

    def part(self, part: str) -> dict[str, dict[str, Any]]:
        """The entries of a part, by what stands behind its name and a slash."""
        return {
            name.partition("/")[2]: entry
            for name, entry in self.entries.items()
            if name.partition("/")[0] == part
        }
