"""Going on with a run that stopped: what it must have in common, and where it goes on."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from plainloop.config.settings import TrainConfig
from plainloop.console import say
from plainloop.errors import CheckpointError, MachineError
from plainloop.run.atomic import REPLACED_SUFFIX, explain_disk_errors, raise_on_all_ranks
from plainloop.run.checkpoints import Checkpoints, step_of
from plainloop.run.fingerprint import run_fingerprint
from plainloop.run.folder import RunFolder, has_saved_model, is_resuming
from plainloop.run.rng import RngState
from plainloop.run.state import TrainState

if TYPE_CHECKING:
    from datasets import DatasetDict

NO_CHECKPOINT = -1


@dataclass(frozen=True)
class OpenRun:
    """A run that is about to start or to go on.

    Attributes:
        folder: where the main process writes; None on the others.
        checkpoints: where they are saved and found.
        resumed: the state and the generators to go on from; None: from the start.
        resumed_from: their checkpoint.
    """

    folder: RunFolder | None
    checkpoints: Checkpoints
    resumed: tuple[TrainState, RngState] | None
    resumed_from: Path | None = None

    def register(self, **objects: Any) -> None:
        """Save these objects with each checkpoint, and restore them now if the run is resumed.

        For what a changed loop needs besides model, optimizer and schedule, such as an average of
        the weights or a second optimizer; call it before `train`.

        Args:
            objects: name -> anything with `state_dict` and `load_state_dict`, whose state is nested
                dicts and lists of tensors and plain values; the same on all ranks.

        Raises:
            CheckpointError: the checkpoint has no such object.
        """
        self.checkpoints.registered.update(objects)
        if self.resumed_from is not None:
            for name in objects:
                self.checkpoints.restore_registered(self.resumed_from, name)


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
        model: of the run; a checkpoint is read into it, and into the next two.
        optimizer: of its parameters.
        lr_scheduler: of the optimizer.

    Raises:
        UserError: the folder is in use.
        CheckpointError: every checkpoint is damaged, or the newest is of another run and
            `config.force` is not set.
    """
    checkpoints = Checkpoints(
        config.run_path / "checkpoints",
        config.run_path / "best",
        accelerator,
        fingerprint=run_fingerprint(config, raw, accelerator.device, accelerator.num_processes),
        save_total_limit=config.save_total_limit,
    )
    resumed = newest = None
    if is_resuming(config):
        newest = find_checkpoint(accelerator, checkpoints, config.resume_from_checkpoint)
        with raise_on_all_ranks(accelerator):
            if newest is not None:
                state, generators, differences = checkpoints.restore(
                    newest, model, optimizer, lr_scheduler, force=config.force
                )
            elif has_saved_model(config.run_path):
                raise CheckpointError(
                    "a finished run without checkpoints",
                    where=str(config.run_path),
                    fix="--overwrite to train anew, or --model to train on from its weights",
                )
        if newest is not None:
            resumed = state, generators
        if accelerator.is_main_process:
            if resumed is None:
                say("Resume", "no checkpoint to resume from yet: starting at step 0")
            else:
                for line in differences:
                    say("Warning", f"differs from the saved run: {line}")
                say("Resume", f"resuming from {newest}, step {state.step}")
    folder = None
    with raise_on_all_ranks(accelerator), explain_disk_errors(config.run_path):
        if accelerator.is_main_process:
            check_disk_space(config, model)
            folder = RunFolder.reopen(config, resumed[0]) if resumed else RunFolder.create(config)
    return OpenRun(folder, checkpoints, resumed, newest if resumed else None)


def find_checkpoint(
    accelerator: Accelerator, checkpoints: Checkpoints, wanted: Path | None
) -> Path | None:
    """The wanted checkpoint, or the newest that is whole: rank 0 decides for all processes.

    Raises:
        CheckpointError: the wanted one is not whole, or none is; on every process.
    """
    path = None
    with raise_on_all_ranks(accelerator):
        if accelerator.is_main_process:
            path = checkpoints.check(wanted) if wanted else checkpoints.newest()
    # A number, since objects would travel as pickle.
    code = NO_CHECKPOINT if path is None else 2 * step_of(path)
    if path is not None and path.suffix == REPLACED_SUFFIX:
        code += 1
    code = int(broadcast(torch.tensor(code, device=accelerator.device)))
    if code == NO_CHECKPOINT:
        return None
    step, is_replaced = divmod(code, 2)
    return checkpoints.path_of(step).with_suffix(REPLACED_SUFFIX if is_replaced else "")


def check_disk_space(config: TrainConfig, model: nn.Module) -> None:
    """Compare what the run will write with what is free, before it starts.

    A checkpoint holds the weights and AdamW's two moments of each; one more than the limit is there
    while the newest is written. The saved model, the best one and its successor come on top.

    Raises:
        MachineError: there is less.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    kept = 0 if config.save_strategy == "no" else (config.save_total_limit or 0) + 1
    needed = weights * (3 * kept + 1 + 2 * config.load_best_model_at_end)
    folder = config.run_path
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"the run needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=f"--output-dir {config.run_path}",
            fix="choose another folder, or --save-strategy no to do without checkpoints",
        )
