"""Start-up: from the command to the end of the first optimizer step."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from speed.child import environment
from speed.watch import watch
from speed.work import Work

IMPORTS = "import accelerate, datasets, transformers.models.bert.modeling_bert"
"""The libraries that a training needs, and nothing else."""


def import_seconds(environment: dict[str, str]) -> float:
    """How long a Python takes that imports those libraries and ends."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], env=environment, check=True)
    return time.perf_counter() - started


def measure_startup(work: Work, *, repeats: int, threads: int) -> dict[str, Any]:
    """Start `plainloop train` with an empty cache of its own, then again with what it has left there.

    The system's own cache of files is warm both times: only an administrator can empty it.

    Returns:
        cold and warm: seconds to the first step, a number a repeat; imports: those of the imports alone.
    """
    flags = ["--task", work.task, "--model", work.model]
    flags += ["--data-dir", work.data_dir] if work.data_dir else []
    flags += ["--batch-size", str(work.batch_size), "--max-steps", "1", "--logging-steps", "1"]
    flags += ["--eval-strategy", "no", "--save-strategy", "no"]
    seconds: dict[str, Any] = {"cold": [], "warm": [], "imports": []}
    bar = tqdm(total=2 * repeats + 1, desc="start-up", unit="start", leave=False)
    with bar, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for repeat in range(repeats + 1):
            cache = folder / f"cache-{repeat}"
            caches = {"XDG_CACHE_HOME": str(cache), "HF_HOME": str(cache / "huggingface")}
            found = {**environment(threads), **caches}
            for kind in ("cold", "warm") if repeat else ("cold",):
                first = watch(flags, folder / f"{kind}-{repeat}", found).steps[0]
                if repeat:  # the first start only warms the system's cache of files
                    seconds[kind].append(first)
                bar.update()
            if repeat:
                seconds["imports"].append(import_seconds(found))
    return seconds
