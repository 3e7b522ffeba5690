"""Create the Accelerator: device, processes, threads, and the switches that the numbers depend on."""

import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    get_cpu_distributed_information,
)
from joblib import cpu_count

from plainloop.errors import UserError


def create_accelerator(*, use_cpu: bool = False, ddp_timeout: float = 1800) -> Accelerator:
    """Create an `Accelerator` for a loop that accumulates gradients and orders rows itself.

    Args:
        use_cpu: use the CPU even if there is a GPU.
        ddp_timeout: timeout in seconds of collectives outside the training steps, while one process
            reads, tokenizes or saves.

    Raises:
        UserError: as `check_environment`, or an earlier Accelerator or PartialState in this process
            does not see the other processes.
    """
    check_environment()
    share_cores()
    on_cpu = use_cpu or not torch.accelerator.is_available()
    if on_cpu:
        # On the CPU accelerate would use DDP all the same, and load the weights on rank 0 only.
        os.environ.pop("ACCELERATE_USE_FSDP", None)
    accelerator = Accelerator(
        # Without a GPU, accelerate initializes the process group only if cpu=True.
        cpu=on_cpu,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        # ACCELERATE_GRADIENT_ACCUMULATION_STEPS would override a plain number, but not a plugin.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=ddp_timeout))],
    )
    wanted = get_cpu_distributed_information().world_size
    if accelerator.num_processes != wanted:
        raise UserError(
            f"{wanted} processes were started, and each believes to be one of "
            f"{accelerator.num_processes}: they would train the same and overwrite each other",
            fix="make no Accelerator or PartialState before this one; in a notebook restart the kernel",
        )
    return accelerator


def check_environment() -> None:
    """Check the launcher's environment variables before the process group is initialized.

    Raises:
        UserError: `accelerate launch` was asked for several processes and started one, as it does
            without --multi_gpu; or WORLD_SIZE was set by hand.
    """
    here = get_cpu_distributed_information()
    if here.world_size == 1 and is_accelerate_launch() and "MASTER_ADDR" in os.environ:
        # accelerate launch sets the address only for several processes; nothing else shows their number.
        raise UserError(
            "accelerate launch was asked for several processes and has started one",
            where="--num_processes",
            fix="say --multi_gpu too, without GPUs as well: accelerate launch --multi_gpu "
            f"--num_processes N --num_cpu_threads_per_process T {script_command()}",
        )
    if here.world_size > 1 and not {"RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"} & os.environ.keys():
        raise UserError(
            f"the environment says {here.world_size} processes, and not which one this is",
            where="WORLD_SIZE",
            fix=f"unset it, or: torchrun --nproc-per-node {here.world_size} {script_command()}",
        )


def share_cores() -> None:
    """Divide this machine's cores among its processes, unless OMP_NUM_THREADS is set.

    torchrun and `accelerate launch` set it to 1. Accelerate's own division fails if the number of
    physical cores is unknown, and ignores a container's limit.
    """
    local_processes = get_cpu_distributed_information().local_world_size
    if local_processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, cpu_count() // local_processes)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def is_accelerate_launch() -> bool:
    """Whether `accelerate launch` started this process: no other launcher sets this variable."""
    return "ACCELERATE_DYNAMO_MODE" in os.environ


def script_command() -> str:
    """The script and its flags, as they follow a launcher's flags in a command line."""
    script, *words = sys.argv
    program = ["-m", "plainloop"] if Path(script).name in ("__main__.py", "plainloop") else [script]
    return shlex.join([*program, *words])
