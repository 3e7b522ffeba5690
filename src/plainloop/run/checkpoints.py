"""Checkpoints: saved atomically, verified by checksum before they are loaded.

safetensors and JSON only: nothing in a checkpoint can run code.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from plainloop.config.marks import CHOOSES_BEST
from plainloop.config.settings import marked
from plainloop.console import say
from plainloop.errors import CheckpointError
from plainloop.run.atomic import (
    TEMPORARY_PREFIX,
    begin_folder,
    commit_folder,
    explain_disk_errors,
    find_corruption,
    finish_folder,
)
from plainloop.run.fingerprint import check_fingerprint
from plainloop.run.rank_failure import raise_on_all_ranks
from plainloop.run.rng import RngState
from plainloop.run.state import TrainState
from plainloop.run.state_dict_file import load_state_dict, save_state_dict

STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
REQUIRED_FILES = (STATE_FILE, MODEL_FILE, OPTIMIZER_FILE)
SMALLEST_TOTAL_LIMIT = 2  # one is left if the newest turns out to be damaged


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: holds a folder step-N for each checkpoint.
        best_folder: holds the best model so far, also in a folder step-N.
        accelerator: rank 0 writes everything except the other ranks' RNG states.
        fingerprint: what the numbers depend on; a resumed run must match, see `check_fingerprint`.
        save_total_limit: number of checkpoints kept, at least 2; None keeps all.
        registered: name -> an object whose state is saved too; see `OpenRun.register`.
    """

    folder: Path
    best_folder: Path
    accelerator: Accelerator
    fingerprint: dict[str, Any]
    save_total_limit: int | None = SMALLEST_TOTAL_LIMIT
    registered: dict[str, Any] = field(default_factory=dict)

    def save(self, state: TrainState, model: nn.Module, optimizer: Any, lr_scheduler: Any) -> Path:
        """Write a checkpoint, then delete the oldest above `save_total_limit`.

        Raises:
            MachineError: the disk is full or cannot be written; the older checkpoints are intact.
                Raised on every process if it happens on one.
        """
        target = self.path_of(state.step)
        temporary = target.with_name(TEMPORARY_PREFIX + target.name)
        main = self.accelerator.is_main_process
        try:
            with self._write_on_all_ranks(self.folder):
                if main:
                    begin_folder(target)
            # Only now: the other ranks write into the folder that rank 0 has created.
            with self._write_on_all_ranks(self.folder):
                rank = self.accelerator.process_index
                RngState.capture().save(temporary / rng_file(rank))
                if main:
                    save_model(self.accelerator.unwrap_model(model), str(temporary / MODEL_FILE))
                    tensors, groups = flatten_optimizer(optimizer.state_dict())
                    save_file(tensors, temporary / OPTIMIZER_FILE)
                    for name, value in self.registered.items():
                        save_state_dict(value.state_dict(), temporary / registered_file(name))
                    content = {
                        "state": asdict(state),
                        "optimizer_groups": groups,
                        "lr_scheduler": lr_scheduler.state_dict(),
                        "identity": dict(self.fingerprint),
                    }
                    (temporary / STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
            with self._write_on_all_ranks(self.folder):
                if main:
                    finish_folder(temporary, target)
                    self._delete_surplus(target)
        except BaseException:
            if main:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        return target

    def path_of(self, step: int) -> Path:
        """The path of a step's checkpoint."""
        return self.folder / f"step-{step:06d}"

    def newest(self) -> Path | None:
        """The newest intact checkpoint, or None; a warning names each damaged one that is newer.

        Raises:
            CheckpointError: there are checkpoints, and all of them are damaged.
        """
        damaged: list[str] = []
        for path in reversed(list_checkpoints(self.folder)):
            reason = find_problem(path)
            if reason is None:
                return path
            damaged.append(f"{path}: {reason}")
            if self.accelerator.is_main_process:
                say("Warning", f"damaged, so the one before is used: {damaged[-1]}")
        if damaged:
            raise CheckpointError(
                f"every checkpoint is damaged: {'; '.join(damaged)}",
                where=str(self.folder),
                fix="start again with --overwrite",
            )
        return None

    def check(self, path: Path) -> Path:
        """Return `path` if it is an intact checkpoint of this run.

        Raises:
            CheckpointError: it is not; the message names the others.
        """
        ours = path.resolve() in [other.resolve() for other in list_checkpoints(self.folder)]
        reason = find_problem(path) if ours else "not a checkpoint of this run"
        if reason is not None:
            others = ", ".join(str(other) for other in list_checkpoints(self.folder))
            raise CheckpointError(reason, where=str(path), fix=f"there are: {others or 'none'}")
        return path

    def restore(
        self, path: Path, model: nn.Module, optimizer: Any, lr_scheduler: Any, *, force: bool
    ) -> tuple[TrainState, RngState, list[str]]:
        """Load a verified checkpoint into the model, the optimizer and the schedule.

        Args:
            path: checkpoint, from `newest` or `check`.
            force: continue although settings, data, processes, threads or versions differ.

        Returns:
            The training state; the RNG state of this rank, which the loop restores after the first
            iterator exists; and a line for each difference that `force` ignores.

        Raises:
            CheckpointError: something differs that changes the numbers, or the best model is
                missing, and `force` is not set. With `force` the best model is then chosen among
                the evaluations to come: else the end of the training could not load it.
        """
        with explain_read_errors(path / STATE_FILE):
            content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
            state = TrainState(**content["state"])
        passed = check_fingerprint(content["identity"], self.fingerprint, path, force=force)
        if self._best_is_lost(state, content["identity"], passed, force=force):
            passed.append(f"best model was of step {state.best_step}, is chosen again from here on")
            state.best_score, state.best_step, state.evaluations_without_gain = None, 0, 0
        # The model is loaded last: an unreadable file raises before anything is changed.
        rank = self.accelerator.process_index
        with explain_read_errors(path / rng_file(rank)):
            rng_state = RngState.load(path / rng_file(rank))
        with explain_read_errors(path / OPTIMIZER_FILE):
            tensors = load_file(path / OPTIMIZER_FILE)
            moments = unflatten_optimizer(tensors, content["optimizer_groups"])
        with explain_read_errors(path / MODEL_FILE):
            load_model(self.accelerator.unwrap_model(model), path / MODEL_FILE, device="cpu")
        with explain_read_errors(path / OPTIMIZER_FILE):
            optimizer.load_state_dict(moments)
        with explain_read_errors(path / STATE_FILE):
            lr_scheduler.load_state_dict(content["lr_scheduler"])
        return state, rng_state, passed

    def saved_products(self, path: Path) -> str:
        """The kernels of the matrix products of the run that a checkpoint is of."""
        with explain_read_errors(path / STATE_FILE):
            content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
            return str(content["identity"]["machine"].get("products", "default"))

    def restore_registered(self, path: Path, name: str) -> None:
        """Load a verified checkpoint into an object of `registered`.

        Raises:
            CheckpointError: the checkpoint was saved without this object, or of another kind.
        """
        with explain_read_errors(path / registered_file(name)):
            self.registered[name].load_state_dict(load_state_dict(path / registered_file(name)))

    def save_best(self, model: nn.Module, step: int) -> None:
        """Write the best model so far, then delete the previous one.

        Raises:
            MachineError: as `save`; the previous one is intact.
        """
        target = self.best_folder / f"step-{step:06d}"
        with self._write_on_all_ranks(self.best_folder):
            if self.accelerator.is_main_process:
                unwrapped = self.accelerator.unwrap_model(model)
                commit_folder(target, lambda path: save_model(unwrapped, str(path / MODEL_FILE)))
                for path in list_checkpoints(self.best_folder):
                    if path != target:
                        shutil.rmtree(path)

    def load_best(self, model: nn.Module, step: int) -> None:
        """Load the best model's weights.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        target = self.best_folder / f"step-{step:06d}"
        reason = find_corruption(target)
        if reason is not None:
            raise CheckpointError(
                f"the best model is damaged: {reason}", where=str(target), fix="train again"
            )
        load_model(self.accelerator.unwrap_model(model), target / MODEL_FILE, device="cpu")

    def _best_is_lost(
        self, state: TrainState, saved: Mapping[str, Any], passed: list[str], *, force: bool
    ) -> bool:
        ours, theirs = (
            fingerprint.get("settings", {}) for fingerprint in (self.fingerprint, saved)
        )
        if any(ours.get(name) != theirs.get(name) for name in marked(CHOOSES_BEST)):
            return state.best_score is not None  # chosen by another metric, or never written
        if state.best_score is None or not ours.get("load_best_model_at_end"):
            return False
        target = self.best_folder / f"step-{state.best_step:06d}"
        reason = find_corruption(target)
        # The best model of a later step, from before the stop: the same steps will write it again,
        # but only if nothing differs from the saved run.
        later = any(step_of(path) >= state.step for path in list_checkpoints(self.best_folder))
        if reason and not force and not later:
            raise CheckpointError(
                f"the best model is damaged: {reason}",
                where=str(target),
                fix="--force to choose the best of the evaluations that are left",
            )
        return reason is not None and not (later and not passed)

    @contextmanager
    def _write_on_all_ranks(self, folder: Path) -> Iterator[None]:
        with raise_on_all_ranks(self.accelerator), explain_disk_errors(folder):
            yield

    def _delete_surplus(self, newest: Path) -> None:
        # A checkpoint of a later step is damaged, or from before the run was resumed at an older one.
        for path in list_checkpoints(self.folder):
            if step_of(path) > step_of(newest):
                shutil.rmtree(path)
        if self.save_total_limit is None:
            return
        keep = max(self.save_total_limit, SMALLEST_TOTAL_LIMIT)
        for path in list_checkpoints(self.folder)[:-keep]:
            shutil.rmtree(path)


def list_checkpoints(folder: Path) -> list[Path]:
    """The paths of the checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+(\.old)?", path.name)]
    return sorted(found, key=lambda path: (step_of(path), not path.suffix))


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint's folder."""
    return int(path.stem.removeprefix("step-"))


def find_problem(path: Path) -> str | None:
    """Why a checkpoint cannot be used: a file is missing or corrupt, or of another step; or None."""
    missing = [name for name in REQUIRED_FILES if not (path / name).is_file()]
    reason = find_corruption(path) or (f"{missing[0]}: missing" if missing else None)
    if reason is not None:
        return reason
    with explain_read_errors(path / STATE_FILE):
        state = TrainState(**json.loads((path / STATE_FILE).read_text(encoding="utf-8"))["state"])
        problem = state.find_contradiction(step_of(path))
    return f"{STATE_FILE}: {problem}" if problem else None


def rng_file(rank: int) -> str:
    """The name of the file with a rank's RNG state."""
    return f"generators-{rank}.safetensors"


def registered_file(name: str) -> str:
    """The name of the file with the state of a registered object."""
    return f"registered-{name}.safetensors"


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], Any]:
    """An optimizer's state as named tensors, and its parameter groups as plain values."""
    tensors = {
        f"{parameter}.{name}": torch.as_tensor(value)  # Adafactor counts its steps with integers
        for parameter, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, state["param_groups"]


def unflatten_optimizer(tensors: Mapping[str, torch.Tensor], groups: Any) -> dict[str, Any]:
    """The inverse of `flatten_optimizer`: a state dict for `load_state_dict`."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = value
    return {"state": state, "param_groups": groups}


@contextmanager
def explain_read_errors(file: Path) -> Iterator[None]:
    """Turn an error of reading an intact but foreign file into a CheckpointError of one line.

    Raises:
        CheckpointError: instead of the reader's error.
    """
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"not a file of a checkpoint: {' '.join(str(error).split())[:200]}",
            where=str(file),
            fix="resume from another one with --resume-from-checkpoint",
        ) from error
