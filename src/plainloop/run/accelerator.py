"""Create the Accelerator: device, processes, threads, and the switches that the numbers depend on."""

import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    get_cpu_distributed_information,
    is_bf16_available,
)
from joblib import cpu_count
from transformers.utils.import_utils import enable_tf32, is_torch_tf32_available

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError


def create_accelerator(config: TrainConfig = TrainConfig()) -> Accelerator:
    """Create an `Accelerator` for a loop that accumulates gradients and orders rows itself.

    Args:
        config: its use_cpu, ddp_timeout, bf16, fp16, tf32 and torch_compile. Without the last four it
            is as the launcher's environment variables say.

    Raises:
        UserError: as `check_environment` and `choose_precision`, or an earlier Accelerator or
            PartialState in this process does not see the other processes.
    """
    check_environment()
    share_cores()
    on_cpu = config.use_cpu or not torch.accelerator.is_available()
    mixed_precision = choose_precision(config, on_cpu=on_cpu)
    if config.tf32 is not None and not on_cpu:
        enable_tf32(config.tf32)  # for the entire process, as TrainingArguments does it
    # Otherwise a second run of a process would silently have the precision of the first.
    AcceleratorState._reset_state()  # noqa: SLF001
    if on_cpu:
        # On the CPU accelerate would use DDP all the same, and load the weights on rank 0 only.
        os.environ.pop("ACCELERATE_USE_FSDP", None)
    accelerator = Accelerator(
        # Without a GPU, accelerate initializes the process group only if cpu=True.
        cpu=on_cpu,
        mixed_precision=mixed_precision,
        dynamo_backend=choose_backend(config),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        # ACCELERATE_GRADIENT_ACCUMULATION_STEPS would override a plain number, but not a plugin.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=config.ddp_timeout))],
    )
    wanted = get_cpu_distributed_information().world_size
    if accelerator.num_processes != wanted:
        raise UserError(
            f"{wanted} processes were started, and each believes to be one of "
            f"{accelerator.num_processes}: they would train the same and overwrite each other",
            fix="make no Accelerator or PartialState before this one; in a notebook restart the kernel",
        )
    return accelerator


def choose_precision(config: TrainConfig, *, on_cpu: bool) -> str:
    """Accelerate's name of the mixed precision that the settings or the launcher ask for.

    Raises:
        UserError: they ask for two, or for one that the device does not have.
    """
    # `accelerate launch` sets the variable in any case, so that "no" is no wish.
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    wanted = "bf16" if config.bf16 else "fp16" if config.fp16 else launched
    where = f"--{wanted}" if config.bf16 or config.fp16 else "accelerate launch --mixed_precision"
    if launched not in ("no", wanted):
        raise UserError(
            f"the launcher asks for the mixed precision {launched}",
            where=where,
            fix="leave it out, or --mixed_precision of accelerate launch or accelerate config",
        )
    lacking = {
        "fp16": on_cpu,  # there Accelerate would silently compute in float32
        "bf16": not on_cpu and not is_bf16_available(ignore_tpu=True),
    }
    if lacking.get(wanted):
        other = {"fp16": "bf16", "bf16": "fp16"}[wanted]
        what = f"{'a CPU' if on_cpu else 'this GPU'} does not compute in {wanted}"
        raise UserError(what, where=where, fix=f"leave it out, or take {other}")
    if config.tf32 and (on_cpu or not is_torch_tf32_available()):
        what = "TF32 needs an NVIDIA GPU of Ampere or later"
        raise UserError(what, where="--tf32", fix="leave it out")
    return wanted


def choose_backend(config: TrainConfig) -> str | None:
    """The backend of torch.compile: the launcher's, or torch's default if only the settings ask."""
    launched = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    return "inductor" if config.torch_compile and launched == "no" else None


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
