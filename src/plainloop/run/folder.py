"""The run folder: its files, whether it may be written, and whether a run is finished."""

import copy
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from plainloop.atomic_file import (
    TEMPORARY_FILES,
    fsync_path,
    make_folder,
    write_json,
    write_text,
)
from plainloop.config.marks import OF_CALL
from plainloop.config.settings import TrainConfig, marked
from plainloop.config.settings_file import read_settings_file, rebase
from plainloop.console import say
from plainloop.errors import CheckpointError, MachineError, UserError, printable_path
from plainloop.metrics.decision_rule import DECISION_FILE, OLD_DECISION_FILE
from plainloop.metrics.row_predictions import PREDICTIONS_FOLDER
from plainloop.model import lora
from plainloop.run import replaced_run
from plainloop.run.atomic import MANIFEST_FILE
from plainloop.run.state import TrainState

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONFIG_FILE = "run.yaml"
HISTORY_FILE = "history.jsonl"
METRICS_FILE = "metrics.json"
LOGS_FOLDER = "logs"
LOCK_FILE = ".lock"
MODEL_FILES = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)
"""Model and tokenizer files, as `from_pretrained` reads them."""
VERIFIED_FILES = (
    CONFIG_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    DECISION_FILE,
    OLD_DECISION_FILE,
    f"{PREDICTIONS_FOLDER}/*.parquet",
    f"cv/{PREDICTIONS_FOLDER}/*.parquet",
    *MODEL_FILES,
)
"""The files that a run's manifest lists: all that a command reads of a finished run."""
RUN_FILES = (
    MANIFEST_FILE,
    CONFIG_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    DECISION_FILE,
    OLD_DECISION_FILE,
    LOGS_FOLDER,
    PREDICTIONS_FOLDER,
    "cv",
    "report.html",
    "README.md",
    "best",
    "checkpoints",
    *MODEL_FILES,
)
"""Files and folders that a run writes: --overwrite replaces these and no others."""
SEED_FILES = ("summary.json", "report.html")
"""Files that several seeds write into the folder that holds their runs."""


def check_output_dir(config: TrainConfig) -> None:
    """Check that a run with these settings may write its folder; nothing is changed.

    Raises:
        UserError: the folder holds a run or other files already.
        MachineError: it cannot be written.
        CheckpointError: as `refuse_pipes`, in a run to resume.
    """
    output_dir = config.run_path
    where = f"--output-dir {output_dir}"
    if (output_dir / LOCK_FILE).exists():
        lock_folder(output_dir, where).release()
    # A process killed while it wrote run.yaml leaves the lock and a temporary file: no run yet. One
    # killed while it replaced a run leaves the rest of that run, or what is not of a run.
    moved = replaced_run.has_moved(output_dir)
    replacing = moved is False or (moved and not run_entries(output_dir))
    names = [entry.name for entry in output_dir.iterdir()] if output_dir.is_dir() else []
    if not replacing and any(n != LOCK_FILE and not fnmatch(n, TEMPORARY_FILES) for n in names):
        if not is_run(output_dir):
            raise UserError(
                f"the folder has files and is not a run (no {CONFIG_FILE} that plainloop wrote)",
                where=where,
                fix="choose another folder",
            )
        if not config.overwrite and not is_resuming(config):
            raise UserError(
                "the folder holds a run already",
                where=where,
                fix="choose another folder, --resume to go on with that run, or --overwrite it",
            )
        old = replaced_run.path_of(output_dir)
        movable = os.access(old.parent, os.W_OK) and not output_dir.is_mount()
        if config.overwrite and (replaced_run.is_in_the_way(output_dir) or not movable):
            raise UserError(
                f"the old run cannot be moved to {printable_path(old)}",
                where=where,
                fix="rename the existing one, or choose another folder",
            )
    existing = output_dir
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{existing} is not a folder", where=where, fix="choose another folder")
    if not os.access(existing, os.W_OK):
        what = f"{existing} cannot be written"
        raise MachineError(what, where=where, fix="choose another folder")
    if is_resuming(config):
        refuse_pipes(output_dir)


def refuse_pipes(path: Path) -> None:
    """Check that the files of a run are files: reading or writing a pipe would wait for ever.

    Raises:
        CheckpointError: one is a pipe, a folder or a device.
    """
    for file in (file for pattern in VERIFIED_FILES for file in path.glob(pattern)):
        if file.exists() and not file.is_file():
            raise CheckpointError("no regular file", where=printable_path(file), fix="restore it")


def run_entries(path: Path) -> list[str]:
    """The names of the files and folders of a run in a folder, run.yaml first."""
    return [found.name for pattern in RUN_FILES for found in path.glob(pattern)]


def read_run_yaml(path: Path) -> dict[str, Any] | None:
    """The settings in a folder's run.yaml; None if the folder is not a plainloop run."""
    try:
        settings = read_settings_file(path / CONFIG_FILE)
    except (OSError, UserError):
        return None
    # Another program's run.yaml does not have both.
    return settings if {"task", "num_train_epochs"} <= settings.keys() else None


def is_run(path: Path) -> bool:
    """Whether a folder holds a run.yaml that plainloop wrote."""
    return read_run_yaml(path) is not None


def run_of_file(path: Path) -> Path | None:
    """The run, or the folder of several seeds, that a path is a file of; None for any other path."""
    path = path.resolve()
    for folder in path.parents:
        entry = path.relative_to(folder).parts[0]
        is_file_of_a_run = any(fnmatch(entry, pattern) for pattern in (*RUN_FILES, LOCK_FILE))
        if is_file_of_a_run and (folder / CONFIG_FILE).is_file():
            return folder
    holds_seeds = path.name in SEED_FILES and any(path.parent.glob(f"seed-*/{CONFIG_FILE}"))
    return path.parent if holds_seeds else None


def load_metrics(path: Path) -> dict[str, Any]:
    """The contents of a run folder's metrics.json.

    Raises:
        UserError: it is missing or damaged.
    """
    file = path / METRICS_FILE
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(metrics, dict):
            return metrics
        reason = "not an object"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise UserError(
        f"cannot be read: {reason}",
        where=printable_path(file),
        fix=f"plainloop train --config {printable_path(path / CONFIG_FILE)} --resume writes it again",
    )


def has_saved_model(path: Path) -> bool:
    """Whether a training has saved its model in a folder: `RunFolder.save` writes the metrics last.

    A run from the hub has a manifest and no metrics.
    """
    has_last = any((path / name).is_file() for name in (METRICS_FILE, MANIFEST_FILE))
    return has_last and (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def has_results(path: Path) -> bool:
    """Whether a run has something to lose: a checkpoint or a saved model."""
    return has_saved_model(path) or any((path / "checkpoints").glob("step-*"))


def is_finished(path: Path) -> bool:
    """Whether a run has written all of its results: those of the final evaluation come last."""
    try:
        return has_saved_model(path) and "data" in load_metrics(path)
    except UserError:
        return False


def run_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that run.yaml holds: all but those of the call."""
    return {name: value for name, value in config.to_dict().items() if name not in marked(OF_CALL)}


def is_resuming(config: TrainConfig) -> bool:
    """Whether to resume a run; a launcher's elastic restart implies it."""
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return config.resume or config.resume_from_checkpoint is not None or restarts > 0


def finish_replacing(path: Path) -> None:
    """Move the rest of an old run away, of which an interrupted --overwrite has left a part.

    Raises:
        UserError: as `lock_folder`.
    """
    if replaced_run.has_moved(path) is False:
        lock = lock_folder(path, f"--output-dir {path}")
        replaced_run.finish_move(path)
        lock.release()


_kept_locks: ContextVar[list[FileLock] | None] = ContextVar("kept_locks", default=None)


@contextmanager
def keep_locks() -> Iterator[None]:
    """Keep the folders that are locked in this block locked until it ends, or one around it.

    Otherwise a lock is released with the last reference to it: with the `RunFolder` of a training,
    before its pages are written; or, in a notebook, not before the last traceback is forgotten.
    """
    if _kept_locks.get() is not None:
        yield
        return
    locks: list[FileLock] = []
    before = _kept_locks.set(locks)
    try:
        yield
    finally:
        _kept_locks.reset(before)
        for lock in locks:
            lock.release()


def lock_folder(path: Path, where: str) -> FileLock:
    """Lock a folder against other processes that write to it.

    Args:
        path: folder of a run, or of its seeds; created if it is missing.
        where: flag or command that named it, for the message.

    Returns:
        The lock, which is released when it is deleted; see `keep_locks`.

    Raises:
        UserError: another process holds it.
        MachineError: the folder cannot be written.
    """
    lock = FileLock(path / LOCK_FILE)
    try:
        make_folder(path)
        lock.acquire(timeout=1)  # another process of this run may be checking the folder
    except Timeout:
        what = "another process is writing to this folder"
        raise UserError(what, where=where, fix="wait until it has ended") from None
    except OSError as error:
        what = f"the folder cannot be written: {error.strerror or error}"
        raise MachineError(what, where=where, fix="make it writable") from error
    if (locks := _kept_locks.get()) is not None:
        locks.append(lock)
    return lock


@dataclass(frozen=True)
class RunFolder:
    """A run folder that this process may write to.

    Attributes:
        path: the folder.
        lock: held as long as this process may write.
    """

    path: Path
    lock: FileLock

    @classmethod
    def create(cls, config: TrainConfig) -> "RunFolder":
        """Create the folder and write run.yaml; an old run is moved to RUN.old, other files stay.

        Raises:
            UserError: as `check_output_dir`.
        """
        check_output_dir(config)
        path = config.run_path
        lock = lock_folder(path, f"--output-dir {path}")
        replaced_run.finish_move(path)
        entries = run_entries(path) if is_run(path) else []
        moved = replaced_run.has_moved(path)
        # A run that has nothing yet to resume from does not replace the one that it was to replace.
        if entries and config.overwrite and (has_results(path) or not moved):
            replaced_run.delete(path)
            replaced_run.move(path, entries)
            moved = True
        else:  # all but run.yaml, so that a process killed here leaves a run
            replaced_run.delete_entries(path, entries[1:])
        left = [found.name for found in path.glob(TEMPORARY_FILES)]
        replaced_run.delete_entries(path, [*left, replaced_run.RECORD_FILE])
        if moved:
            until = "a checkpoint" if config.save_strategy != "no" else "its saved model"
            old = printable_path(replaced_run.path_of(path))
            say("Old run", f"kept in {old} until the new run has {until}")
        settings = {**run_settings(config), "output_dir": str(path)}
        if path.is_absolute() or ".." in path.parts:  # it cannot say where the others start
            settings = rebase(settings, Path.cwd())
        write_text(path / CONFIG_FILE, yaml.safe_dump(settings, sort_keys=False))
        return cls(path, lock)

    @classmethod
    def reopen(cls, config: TrainConfig, state: TrainState) -> "RunFolder":
        """Open the folder of a run to resume; its history is reset to that of the checkpoint."""
        path = config.run_path
        lock = lock_folder(path, f"--output-dir {path}")
        left = [found.name for found in path.glob(TEMPORARY_FILES)]
        replaced_run.delete_entries(path, [*left, MANIFEST_FILE])  # from now on the files change
        lines = [json.dumps(record) + "\n" for record in state.history]
        write_text(path / HISTORY_FILE, "".join(lines))
        return cls(path, lock)

    def log_step(self, record: dict[str, Any]) -> None:
        """Append one logged step to the history."""
        with (self.path / HISTORY_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def save(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        metrics: Mapping[str, Any],
        *,
        merge_lora: bool = False,
    ) -> None:
        """Write model and tokenizer as `from_pretrained` reads them, then metrics.json.

        Args:
            model: unwrapped; with LoRA both the adapter and the base model are written.
            tokenizer: the model's tokenizer.
            metrics: from `summarize`.
            merge_lora: merge LoRA's adapter into the written weights; `model` is not changed.
        """
        from transformers.utils import logging

        had_bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # transformers would draw one for a single file
        if not hasattr(model, "peft_config"):
            model.save_pretrained(self.path)
        elif merge_lora:
            lora.merge_lora(copy.deepcopy(model)).save_pretrained(self.path)
        else:
            lora.save_lora(model, self.path)
        if had_bars:
            logging.enable_progress_bar()
        tokenizer.save_pretrained(self.path)
        # Before metrics.json, whose existence means that all of these exist, even after a power loss.
        for path in (self.path / name for name in run_entries(self.path)):
            if path.is_file():
                fsync_path(path)
        fsync_path(self.path)
        self.save_metrics(metrics)
        self.delete_replaced()

    def delete_replaced(self) -> None:
        """Delete the run that this one has replaced, if there is one.

        Called when this run has a checkpoint or its saved model.
        """
        with suppress(OSError):  # a folder that cannot be deleted is no reason to end a training
            replaced_run.delete(self.path)

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json: the scores of the run and what it ran on."""
        write_json(self.path / METRICS_FILE, metrics)


def summarize(state: TrainState, config: TrainConfig, accelerator: "Accelerator") -> dict[str, Any]:
    """The contents of metrics.json after the training; the final evaluation adds to them.

    Returns:
        task; steps; evaluations; best, the evaluation with the best score; saved, the evaluation of
        the saved model; environment, the device, processes and versions the numbers may depend on, and the date, UTC.
    """
    import torch

    by_step = {record["step"]: record for record in state.evaluations}
    best = by_step.get(state.best_step)
    packages = ("plainloop", "torch", "transformers", "accelerate", "datasets", "numpy")
    return {
        "task": config.task,
        "steps": state.step,
        "evaluations": state.evaluations,
        "best": best,
        "saved": best if config.load_best_model_at_end else by_step.get(state.step),
        "environment": {
            "date": datetime.now(UTC).date().isoformat(),
            "device": str(accelerator.device),
            "num_processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }
