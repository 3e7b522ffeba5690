"""The run folder: its files, whether it may be written, and whether a run is finished."""

import copy
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from plainloop.atomic_file import TEMPORARY_FILES, write_json, write_text
from plainloop.config.marks import OF_CALL
from plainloop.config.settings import TrainConfig, marked
from plainloop.config.settings_file import read_settings_file
from plainloop.errors import UserError, printable_path
from plainloop.metrics.decision_rule import DECISION_FILE, OLD_DECISION_FILE
from plainloop.metrics.row_predictions import PREDICTIONS_FOLDER
from plainloop.model import lora
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
    TEMPORARY_FILES,
)
"""Files and folders that a run writes: --overwrite deletes these and no others."""


def check_output_dir(config: TrainConfig) -> None:
    """Check that a run with these settings may write its folder; nothing is changed.

    Raises:
        UserError: the folder holds a run or other files already, or cannot be written.
    """
    output_dir = config.run_path
    # A process killed while it wrote run.yaml leaves the lock and a temporary file: no run yet.
    if output_dir.is_dir() and any(
        not fnmatch(entry.name, TEMPORARY_FILES) and entry.name != LOCK_FILE
        for entry in output_dir.iterdir()
    ):
        if not is_run(output_dir):
            raise UserError(
                f"the folder has files and is not a run (no {CONFIG_FILE} of ours)",
                where=f"--output-dir {output_dir}",
                fix="choose another folder",
            )
        if not config.overwrite and not is_resuming(config):
            raise UserError(
                "the folder holds a run already",
                where=f"--output-dir {output_dir}",
                fix="choose another folder, --resume to go on with that run, or --overwrite it",
            )
        if (output_dir / LOCK_FILE).exists():
            lock_folder(output_dir).release()
    existing = output_dir
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(
            f"{existing} is not a folder that can be written",
            where=f"--output-dir {output_dir}",
            fix="choose another folder",
        )


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
    """Whether a training has saved its model in a folder: `RunFolder.save` writes the metrics last."""
    needed = (METRICS_FILE, "config.json")
    return all((path / name).is_file() for name in needed) and any(path.glob("*.safetensors"))


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


def lock_folder(path: Path) -> FileLock:
    """Lock a run's folder against other processes; the lock is released when this process ends.

    Raises:
        UserError: another process holds it.
    """
    lock = FileLock(path / LOCK_FILE)
    try:
        lock.acquire(timeout=1)  # another process of this run may be checking the folder
    except Timeout:
        raise UserError(
            "another process is writing to this folder",
            where=f"--output-dir {path}",
            fix="wait for it, or choose another folder",
        ) from None
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
        """Create the folder and write run.yaml; an existing run's files are deleted, others stay.

        Raises:
            UserError: as `check_output_dir`.
        """
        check_output_dir(config)
        path = config.run_path
        path.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(path)
        for entry in [found for pattern in RUN_FILES for found in path.glob(pattern)]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        settings = {**run_settings(config), "output_dir": str(path)}
        write_text(path / CONFIG_FILE, yaml.safe_dump(settings, sort_keys=False))
        return cls(path, lock)

    @classmethod
    def reopen(cls, config: TrainConfig, state: TrainState) -> "RunFolder":
        """Open the folder of a run to resume; its history is reset to that of the checkpoint."""
        path = config.run_path
        lock = lock_folder(path)
        for left in path.glob(TEMPORARY_FILES):
            left.unlink()
        (path / MANIFEST_FILE).unlink(missing_ok=True)  # from now on the files change
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
        self.save_metrics(metrics)

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json: the scores of the run and what it ran on."""
        write_json(self.path / METRICS_FILE, metrics)


def summarize(state: TrainState, config: TrainConfig, accelerator: "Accelerator") -> dict[str, Any]:
    """The contents of metrics.json after the training; the final evaluation adds to them.

    Returns:
        task; steps; evaluations; best, the evaluation with the best score; saved, the evaluation of
        the saved model; environment, the device, processes and versions the numbers may depend on.
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
            "device": str(accelerator.device),
            "num_processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }
