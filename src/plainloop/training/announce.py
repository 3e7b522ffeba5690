"""Summary of a run before it starts: launcher, devices, threads, batch size, steps; warnings."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.commands.config.config_args import default_config_file
from accelerate.utils import DistributedType, get_cpu_distributed_information
from joblib import cpu_count

from plainloop.config.settings import TrainConfig
from plainloop.run.accelerator import is_accelerate_launch
from plainloop.training.optim import count_training_steps, steps_per_epoch


def describe_run(
    config: TrainConfig, accelerator: Accelerator, num_rows: int
) -> list[tuple[str, str]]:
    """Summarize how a run is launched, as (title, text) lines: devices, batch, steps, warnings.

    Every process must call it, since it gathers device and threads of each; the main one prints it.

    Args:
        config: the settings.
        accelerator: of the run.
        num_rows: training rows.
    """
    processes = accelerator.num_processes
    rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
    # Rounded up: duplicate rows fill the last batches, so that each process has equally many.
    num_batches = math.ceil(num_rows / (rows * processes))
    in_epoch, in_all = (
        count(num_batches, config) for count in (steps_per_epoch, count_training_steps)
    )
    factors = f"{_count(rows, 'row')} x {_count(processes, 'process')} x {_count(batches, 'batch')}"
    launcher = [("Launcher", f"{launcher_name()}, {_count(processes, 'process')}")]
    return [
        *(launcher if processes > 1 else []),
        *_devices(accelerator),
        ("Batch", f"{factors} = {rows * processes * batches} an optimizer step"),
        ("Steps", f"{in_epoch} an epoch, {in_all} in all"),
        ("Seed", str(config.seed)),
        *_accelerate_config(accelerator),
        *_unmet_wishes(accelerator),
    ]


def launcher_name() -> str:
    """Name the launcher of this process, from the environment variables that it set."""
    in_notebook = "ipykernel" in sys.modules
    if "TORCHELASTIC_RUN_ID" in os.environ and in_notebook:
        return "notebook_launcher"
    if is_accelerate_launch():
        return "accelerate launch"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    if get_cpu_distributed_information().world_size > 1:
        return "a scheduler's or your own (WORLD_SIZE)"
    return "a notebook" if in_notebook else "none"


def _devices(accelerator: Accelerator) -> list[tuple[str, str]]:
    """Device, precision and threads of all ranks; a warning if threads and cores do not match."""
    index, threads, cores = accelerator.device.index or 0, torch.get_num_threads(), cpu_count()
    local_processes = get_cpu_distributed_information().local_world_size
    # As a tensor, since gathering objects would pickle them.
    here = torch.tensor([[index, threads, cores, local_processes]], device=accelerator.device)
    ranks = accelerator.gather(here).tolist()
    kind = accelerator.device.type
    names = [kind if kind == "cpu" else f"{kind}:{index}" for index, *_ in ranks]
    precision = {"no": "float32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    each = " in each" if len(ranks) > 1 else ""
    said = ", ".join(dict.fromkeys(names))
    all_threads, all_cores = (
        ", ".join({str(rank[number]): 0 for rank in ranks}) for number in (1, 2)
    )
    lines = [("Device", f"{said}; {precision}; threads{each}: {all_threads}; cores: {all_cores}")]
    crowded = next((rank for rank in ranks if rank[1] * rank[3] > rank[2]), None)
    if crowded:
        _, threads, cores, local_processes = crowded
        what = f"{local_processes} x {_count(threads, 'thread')} on {_count(cores, 'core')}"
        fix = f"OMP_NUM_THREADS={max(1, cores // local_processes)}"
        if local_processes > cores:
            fix += f" and {_count(cores, 'process')}"
        lines.append(("Warning", f"{what}: slower than {fix}"))
    elif kind == "cpu" and len(ranks) == 1 and threads == 1 < cores and is_accelerate_launch():
        what = f"1 thread on {cores} cores, as accelerate launch has it"
        lines.append(("Warning", f"{what}; --num_cpu_threads_per_process {cores} is faster"))
    return lines


def _accelerate_config(accelerator: Accelerator) -> list[tuple[str, str]]:
    """The file of `accelerate config`, and which of its values differ in this run."""
    path = Path(default_config_file)
    if not is_accelerate_launch() or not path.is_file():
        return []
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    in_effect: dict[str, Any] = {
        "num_processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
        "use_cpu": accelerator.device.type == "cpu",
    }
    said = [
        f"{name} {_plain(settings[name])}"
        + ("" if settings[name] == value else f" (here {_plain(value)})")
        for name, value in in_effect.items()
        if name in settings
    ]
    return [("Accelerate", f"{path}: {', '.join(said)}; a flag or --config_file beats it")]


def _unmet_wishes(accelerator: Accelerator) -> list[tuple[str, str]]:
    """A warning for a distributed engine that was requested but is not used, or is untested."""
    kind = accelerator.distributed_type
    if "FSDP_VERSION" in os.environ and kind != DistributedType.FSDP:
        return [("Warning", "FSDP was asked for; without a GPU it is plain data parallelism (DDP)")]
    if kind == DistributedType.DEEPSPEED:
        return [("Warning", "DeepSpeed does the backward pass and the step itself: not measured")]
    return []


def _count(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}{'es' if one[-1] in 'sh' else 's'}"


def _plain(value: Any) -> str:
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"
