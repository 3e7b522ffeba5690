"""Going on with a run that stopped: what it must have in common, and where it goes on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from accelerate import Accelerator
from torch import nn

from plainloop.checkpoints import Checkpoints
from plainloop.config import TrainConfig
from plainloop.errors import CheckpointError
from plainloop.generators import Generators
from plainloop.run_folder import CALL_SETTINGS, METRICS_FILE, RunFolder
from plainloop.state import TrainState

if TYPE_CHECKING:
    from datasets import DatasetDict

NO_NUMBER_DEPENDS_ON = (
    *CALL_SETTINGS,
    "data_dir",  # the rows themselves are compared
    "test_file",
    "output_dir",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "dataloader_num_workers",
)
PACKAGES = ("torch", "transformers", "accelerate")


def run_identity(
    config: TrainConfig, raw: "DatasetDict", device: torch.device, num_processes: int
) -> dict[str, Mapping[str, Any]]:
    """What the numbers of a run depend on; a resumed run must have the same."""
    settings = config.to_dict()
    return {
        "settings": {name: settings[name] for name in settings if name not in NO_NUMBER_DEPENDS_ON},
        "rows": {split: hash_rows(raw[split]) for split in ("train", "validation")},
        "machine": {
            "device": device.type,
            "processes": num_processes,
            "threads": torch.get_num_threads(),
        },
        "versions": {name: version(name) for name in PACKAGES},
    }


def hash_rows(rows: Any) -> str:
    """SHA-256 of a split's rows, in their order."""
    table = rows.with_format("arrow")[:].combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as stream:
        stream.write_table(table.replace_schema_metadata(None))
    return hashlib.sha256(sink.getvalue()).hexdigest()


@dataclass(frozen=True)
class OpenRun:
    """A run that is about to start or to go on.

    Attributes:
        folder: where the main process writes; None on the others.
        checkpoints: where they are saved and found.
        resumed: the state and the generators to go on from; None: from the start.
    """

    folder: RunFolder | None
    checkpoints: Checkpoints
    resumed: tuple[TrainState, Generators] | None


def open_run(
    config: TrainConfig,
    raw: "DatasetDict",
    model: nn.Module,
    optimizer: Any,
    lr_scheduler: Any,
    *,
    accelerator: Accelerator,
) -> OpenRun:
    """Make the run's folder; with `config.resume`, go on from its newest checkpoint that is whole.

    Args:
        raw: the rows, which a resumed run must have in common.
        model, optimizer, lr_scheduler: of the run; a checkpoint is read into them.

    Raises:
        UserError: the folder is in use.
        CheckpointError: every checkpoint is damaged, or the newest is of another run and
            `config.force` is not set.
    """
    checkpoints = Checkpoints(
        config.run_path / "checkpoints",
        config.run_path / "best",
        accelerator,
        identity=run_identity(config, raw, accelerator.device, accelerator.num_processes),
        save_total_limit=config.save_total_limit,
    )
    resumed = None
    if config.resume:
        newest, damaged = checkpoints.newest()
        for line in damaged:
            accelerator.print(f"damaged, so the one before is used: {line}")
        if newest is None:
            if (config.run_path / METRICS_FILE).exists():
                raise CheckpointError(
                    "a finished run without checkpoints",
                    where=str(config.run_path),
                    fix="--overwrite to train anew, or --model to train on from its weights",
                )
            accelerator.print("no checkpoint to resume from yet: starting at step 0")
        else:
            state, generators, differences = checkpoints.restore(
                newest, model, optimizer, lr_scheduler, force=config.force
            )
            resumed = state, generators
            for line in differences:
                accelerator.print(f"differs from the saved run: {line}")
            accelerator.print(f"resuming from {newest}, step {state.step}")
    folder = None
    if accelerator.is_main_process:
        folder = RunFolder.reopen(config, resumed[0]) if resumed else RunFolder.create(config)
    accelerator.wait_for_everyone()
    return OpenRun(folder, checkpoints, resumed)
