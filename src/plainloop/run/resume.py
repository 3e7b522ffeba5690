"""Open a run: create its folder, or restore the newest checkpoint of a run to resume."""

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
from plainloop.model.matrix_products import Products, choose_products
from plainloop.model.padding import attention_states
from plainloop.run.atomic import REPLACED_SUFFIX, explain_disk_errors
from plainloop.run.checkpoints import Checkpoints, step_of
from plainloop.run.fingerprint import run_fingerprint
from plainloop.run.folder import RunFolder, finish_replacing, has_saved_model, is_resuming
from plainloop.run.rank_failure import raise_on_all_ranks
from plainloop.run.rng import RngState
from plainloop.run.state import TrainState

if TYPE_CHECKING:
    from datasets import DatasetDict

NO_CHECKPOINT = -1


@dataclass(frozen=True)
class OpenRun:
    """A run that is ready to train, from the start or from a checkpoint.

    Attributes:
        folder: where the main process writes; None on the other processes.
        checkpoints: saves and finds the run's checkpoints.
        resumed: state and random number generators of the checkpoint; None if it starts at step 0.
        resumed_from: path of that checkpoint; None if the run starts at step 0.
        products: the kernels of its matrix products, for `use_products`.
    """

    folder: RunFolder | None
    checkpoints: Checkpoints
    resumed: tuple[TrainState, RngState] | None
    resumed_from: Path | None = None
    products: Products = "default"

    def __post_init__(self) -> None:
        """Save the scale of float16's loss with each checkpoint, too."""
        if (scaler := self.checkpoints.accelerator.scaler) is not None:
            self.register(grad_scaler=scaler)

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
    model_inputs: "DatasetDict",
    model: nn.Module,
    optimizer: Any,
    lr_scheduler: Any,
    *,
    accelerator: Accelerator,
) -> OpenRun:
    """Create the run's folder, or with `config.resume` restore its newest intact checkpoint.

    Args:
        config: settings; a resumed run must have the same, see `check_fingerprint`.
        model_inputs: tokenized training and validation rows; a resumed run must have the same.
        model: a checkpoint is loaded into it, and into the next two.
        optimizer: optimizer of the model's parameters.
        lr_scheduler: learning rate schedule of the optimizer.
        accelerator: rank 0 chooses the checkpoint for all processes.

    Raises:
        UserError: the folder is in use.
        CheckpointError: every checkpoint is damaged, the newest belongs to another run and
            `config.force` is not set, or the run is finished and has no checkpoints.
        MachineError: the disk has too little space.
    """
    checkpoints = Checkpoints(
        config.run_path / "checkpoints",
        config.run_path / "best",
        accelerator,
        fingerprint={},
        save_total_limit=config.save_total_limit,
    )
    resumed = newest = None
    if is_resuming(config):
        newest = find_checkpoint(accelerator, checkpoints, config.resume_from_checkpoint)
    products = choose_run_products(model, config, checkpoints, newest)
    checkpoints.fingerprint.update(
        run_fingerprint(
            config,
            model_inputs,
            accelerator.device,
            accelerator.num_processes,
            products,
            mixed_precision=accelerator.mixed_precision,
        )
    )
    if is_resuming(config):
        with raise_on_all_ranks(accelerator):
            if newest is not None:
                state, generators, differences = checkpoints.restore(
                    newest, model, optimizer, lr_scheduler, force=config.force
                )
            elif has_saved_model(config.run_path):
                raise CheckpointError(
                    "a finished run without checkpoints",
                    where=str(config.run_path),
                    fix="--overwrite to train again, or --model to train on from its weights",
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
    run = OpenRun(folder, checkpoints, resumed, newest if resumed else None, products)
    run.register(**attention_states(model))
    return run


def find_checkpoint(
    accelerator: Accelerator, checkpoints: Checkpoints, wanted: Path | None
) -> Path | None:
    """The wanted checkpoint, or the newest intact one: rank 0 decides for all processes.

    Raises:
        CheckpointError: the wanted one is damaged, or all are; on every process.
    """
    path = None
    with raise_on_all_ranks(accelerator):
        if accelerator.is_main_process:
            finish_replacing(checkpoints.folder.parent)
            path = checkpoints.check(wanted) if wanted else checkpoints.newest()
    # Broadcast as one number: an object would be sent as pickle. An odd number means a .old folder.
    code = NO_CHECKPOINT if path is None else 2 * step_of(path)
    if path is not None and path.suffix == REPLACED_SUFFIX:
        code += 1
    code = int(broadcast(torch.tensor(code, device=accelerator.device)))
    if code == NO_CHECKPOINT:
        return None
    step, is_replaced = divmod(code, 2)
    return checkpoints.path_of(step).with_suffix(REPLACED_SUFFIX if is_replaced else "")


def choose_run_products(
    model: nn.Module, config: TrainConfig, checkpoints: Checkpoints, newest: Path | None
) -> Products:
    """Choose the kernels of the matrix products, as the checkpoint to resume from has them.

    Raises:
        CheckpointError: the checkpoint cannot be read; on every process.
    """
    saved, accelerator = None, checkpoints.accelerator
    with raise_on_all_ranks(accelerator):
        if newest is not None:
            saved = checkpoints.saved_products(newest)
    products, why = choose_products(model, config, accelerator, saved)
    if accelerator.is_main_process:
        say("Products", why)
    return products


def size(num_bytes: float) -> str:
    """A number of bytes in the unit that shows it, with three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:  # noqa: PLR2004
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def check_disk_space(config: TrainConfig, model: nn.Module) -> None:
    """Compare the bytes that the run will write with the free disk space.

    A checkpoint holds the weights and, with AdamW, two moments: three times the weights. While the newest
    is written there is one more than the limit. Added are the saved model, the best model and its
    successor.

    Raises:
        MachineError: the disk has too little space.
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
            f"the run needs {size(needed)}, {size(free)} are free: {size(needed - free)} too few",
            where=f"--output-dir {config.run_path}",
            fix="choose another folder, or --save-strategy no to do without checkpoints",
        )
