"""Every setting of a run, its default, and its unit.

A field that `transformers.TrainingArguments` has too carries that name and, where the Trainer's
numbers depend on it, that default. The text under a field is its `--help`.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from plainloop.errors import UserError

_DATA = Parameter(group=Group("Data", sort_key=1))
_MODEL = Parameter(group=Group("Model", sort_key=2))
_OPTIM = Parameter(group=Group("Optimization", sort_key=3))
_EVAL = Parameter(group=Group("Evaluation", sort_key=4))
_RUN = Parameter(group=Group("Run", sort_key=5))

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
]
METRIC_SCHEDULES = ("reduce_lr_on_plateau", "greedy")
"""The schedules that move once an evaluation, by its metric, and not once a step."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training run, all with the Trainer's defaults."""

    task: Annotated[str | None, _DATA] = None
    """What to learn: demo (the embedded sentence pairs) or mrpc."""

    data_dir: Annotated[Path | None, _DATA] = None
    """Folder that holds the task's own folder (MRPC/train.tsv, ...). Without it: from the hub."""

    test_file: Annotated[Path | None, _DATA] = None
    """Labelled file in the task's layout, evaluated once, after training."""

    max_length: Annotated[int | None, _DATA] = None
    """Longest input in tokens; what is longer is cut off. Default: the model's own limit."""

    max_train_samples: Annotated[int | None, _DATA] = None
    """Use only the first N training rows."""

    model: Annotated[str, _MODEL] = "bert-base-uncased"
    """A name on the hub, a folder (a finished run is one), or demo: the embedded MiniLM."""

    dropout: Annotated[float | None, _MODEL] = None
    """Probability of hidden and attention dropout. Default: the checkpoint's own."""

    freeze_embeddings: Annotated[bool, _MODEL] = False
    """Keep the embeddings as they are."""

    freeze_layers: Annotated[int, _MODEL] = 0
    """Keep the first N encoder layers, and the embeddings, as they are."""

    num_train_epochs: Annotated[float, _OPTIM, Parameter(alias="--epochs")] = 3.0
    """Passes over the training rows, in epochs; a fraction ends within an epoch."""

    max_steps: Annotated[int, _OPTIM] = -1
    """Train for N optimizer steps, whatever the epochs say; -1: by epochs."""

    per_device_train_batch_size: Annotated[int, _OPTIM, Parameter(alias="--batch-size")] = 8
    """Training rows in a batch, on each process."""

    gradient_accumulation_steps: Annotated[int, _OPTIM] = 1
    """Batches whose gradients make one optimizer step."""

    learning_rate: Annotated[float, _OPTIM, Parameter(alias="--lr")] = 5e-5
    """Peak learning rate of AdamW."""

    lr_scheduler_type: Annotated[Schedule, _OPTIM] = "linear"
    """How the learning rate moves, by optimizer step."""

    lr_scheduler_kwargs: Annotated[dict[str, float | str], _OPTIM] = field(default_factory=dict)
    """What a schedule takes besides, as in --lr-scheduler-kwargs.num_cycles 2."""

    warmup_steps: Annotated[float, _OPTIM] = 0.0
    """Optimizer steps from 0 to the peak; below 1: that fraction of all steps."""

    weight_decay: Annotated[float, _OPTIM] = 0.0
    """AdamW's decay, by optimizer step, of all but biases and normalizations."""

    adam_beta1: Annotated[float, _OPTIM] = 0.9
    """AdamW's memory of the gradient, as a fraction kept each step."""

    adam_beta2: Annotated[float, _OPTIM] = 0.999
    """AdamW's memory of the squared gradient, as a fraction kept each step."""

    adam_epsilon: Annotated[float, _OPTIM] = 1e-8
    """AdamW's guard against dividing by zero."""

    max_grad_norm: Annotated[float, _OPTIM] = 1.0
    """Norm to which longer gradients are clipped; 0: not clipped."""

    label_smoothing_factor: Annotated[float, _OPTIM] = 0.0
    """Probability that the target spreads evenly over all labels."""

    class_weights: Annotated[
        Literal["balanced"] | tuple[float, ...] | None, _OPTIM, Parameter(consume_multiple=True)
    ] = None
    """Weight of each label in the loss: balanced, or a number for each label."""

    seed: Annotated[int, _OPTIM] = 42
    """Seed of the new head, the dropout and the order of the rows."""

    eval_strategy: Annotated[Literal["no", "steps", "epoch"], _EVAL] = "epoch"
    """When to evaluate: never, every --eval-steps, or after each epoch."""

    eval_steps: Annotated[int, _EVAL] = 500
    """Optimizer steps from one evaluation to the next, with --eval-strategy steps."""

    per_device_eval_batch_size: Annotated[int, _EVAL, Parameter(alias="--eval-batch-size")] = 8
    """Rows in an evaluation batch, on each process."""

    metric_for_best_model: Annotated[str | None, _EVAL] = None
    """Metric that says which evaluation is the best: loss or one of the task's. Default: loss."""

    greater_is_better: Annotated[bool | None, _EVAL] = None
    """Whether more of that metric is better. Default: yes, but for the loss."""

    load_best_model_at_end: Annotated[bool, _EVAL] = False
    """Save the model of the best evaluation instead of the last one."""

    early_stopping_patience: Annotated[int | None, _EVAL] = None
    """Stop after N evaluations in a row that are not better than the best."""

    early_stopping_threshold: Annotated[float, _EVAL] = 0.0
    """How much better, in units of the metric, counts as better."""

    output_dir: Annotated[Path | None, _RUN, Parameter(alias="-o")] = None
    """Folder of the run. Default: runs/TASK."""

    overwrite: Annotated[bool, _RUN] = False
    """Replace the run that the output folder holds."""

    logging_steps: Annotated[int, _RUN] = 10
    """Optimizer steps from one line of history.jsonl to the next."""

    dataloader_num_workers: Annotated[int, _RUN] = 0
    """Processes that prepare batches; 0: the training process does."""

    use_cpu: Annotated[bool, _RUN] = False
    """Stay on the CPU where there is a GPU."""

    dry_run: Annotated[bool, _RUN] = False
    """Do everything up to the first forward pass, train nothing, write nothing."""

    @property
    def best_metric(self) -> str:
        """The metric that says which evaluation is the best."""
        return self.metric_for_best_model or "loss"

    @property
    def more_is_better(self) -> bool:
        """Whether more of that metric is better."""
        return (
            self.best_metric != "loss" if self.greater_is_better is None else self.greater_is_better
        )

    def with_output_dir(self) -> "TrainConfig":
        """The same settings with the default output folder filled in."""
        return self if self.output_dir else replace(self, output_dir=Path("runs") / str(self.task))

    def to_dict(self) -> dict[str, Any]:
        """Every field as a plain value that YAML and JSON can hold."""
        plain = asdict(self)
        plain["class_weights"] = (
            list(self.class_weights)
            if isinstance(self.class_weights, tuple)
            else self.class_weights
        )
        return {k: str(v) if isinstance(v, Path) else v for k, v in plain.items()}


_RANGES: dict[str, tuple[float, float, bool, bool]] = {
    # field: lowest, highest, whether the lowest itself is allowed, whether the highest is
    "max_length": (1, math.inf, True, False),
    "max_train_samples": (1, math.inf, True, False),
    "dropout": (0, 1, True, False),
    "freeze_layers": (0, math.inf, True, False),
    "num_train_epochs": (0, math.inf, False, False),
    "per_device_train_batch_size": (1, math.inf, True, False),
    "gradient_accumulation_steps": (1, math.inf, True, False),
    "learning_rate": (0, math.inf, False, False),
    "warmup_steps": (0, math.inf, True, False),
    "weight_decay": (0, math.inf, True, False),
    "adam_beta1": (0, 1, True, False),
    "adam_beta2": (0, 1, True, False),
    "adam_epsilon": (0, math.inf, False, False),
    "max_grad_norm": (0, math.inf, True, False),
    "label_smoothing_factor": (0, 1, True, True),
    "seed": (0, 2**32 - 1, True, True),
    "eval_steps": (1, math.inf, True, False),
    "per_device_eval_batch_size": (1, math.inf, True, False),
    "early_stopping_patience": (1, math.inf, True, False),
    "early_stopping_threshold": (0, math.inf, True, False),
    "logging_steps": (1, math.inf, True, False),
    "dataloader_num_workers": (0, math.inf, True, False),
}


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def check_config(config: TrainConfig) -> None:
    """Check each number's range and what does not go together.

    Raises:
        UserError: all problems at once, each with its flag and what would be right.
    """
    problems = []
    for name, (low, high, low_allowed, high_allowed) in _RANGES.items():
        value = getattr(config, name)
        if value is None:
            continue
        above = value >= low if low_allowed else value > low
        below = value <= high if high_allowed else value < high
        if not (above and below):
            wanted = f"{'at least' if low_allowed else 'more than'} {low:g}"
            if high != math.inf:
                wanted += f" and {'at most' if high_allowed else 'less than'} {high:g}"
            problems.append(
                UserError(f"{value} is out of range", where=flag(name), fix=f"give {wanted}")
            )
    if config.max_steps != -1 and config.max_steps < 1:
        problems.append(
            UserError(
                f"{config.max_steps} is out of range",
                where="--max-steps",
                fix="give at least 1, or -1 to train by epochs",
            )
        )
    if isinstance(config.class_weights, tuple) and not all(
        weight > 0 and math.isfinite(weight) for weight in config.class_weights
    ):
        problems.append(
            UserError(
                f"{config.class_weights} has a weight that is not more than 0",
                where="--class-weights",
                fix="give a positive number for each label",
            )
        )
    if config.eval_strategy == "no":
        needs_evaluation = {
            "--early-stopping-patience": config.early_stopping_patience is not None,
            "--load-best-model-at-end": config.load_best_model_at_end,
            f"--lr-scheduler-type {config.lr_scheduler_type}": (
                config.lr_scheduler_type in METRIC_SCHEDULES
            ),
        }
        problems += [
            UserError("needs evaluations", where=name, fix="set --eval-strategy epoch or steps")
            for name, wanted in needs_evaluation.items()
            if wanted
        ]
    if problems:
        raise UserError.together(problems)
