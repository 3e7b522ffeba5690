"""Every setting of a run: type, default, range, and what resume, eject and the tasks do with it.

A field that `transformers.TrainingArguments` has too carries that name and, if the Trainer's
numbers depend on it, that default. The text under a field is its help text, with its unit. A field
without marks is safe: a resume compares it, and `plainloop eject` refuses it.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter

from plainloop.config.coercion import coerce
from plainloop.config.flag_types import (
    DATA,
    EVAL,
    FILES,
    LABEL_COLUMNS,
    MODEL,
    OPTIM,
    RUN,
    WEIGHTS,
    WHOLE,
    ClassWeights,
    Optim,
    Schedule,
    Tracker,
)
from plainloop.config.marks import (
    CHOOSES_BEST,
    CLASSES_ONLY,
    COMMON,
    EJECTED,
    MAY_DIFFER,
    NEEDS_EVALUATIONS,
    NOT_WITH_TASK,
    OF_CALL,
    Mark,
    Must,
    NotEjected,
    all_positive,
    at_least,
    at_most,
    less_than,
    more_than,
)
from plainloop.config.read_options import ReadOptions
from plainloop.config.tasks import ProblemType
from plainloop.errors import UserError, printable

METRIC_SCHEDULES = ("reduce_lr_on_plateau", "greedy")
"""The schedules that step after an evaluation, by its metric, not after an optimizer step."""
LESS_IS_BETTER = ("loss", "log_loss", "rmse", "mae")
"""The metrics for which lower is better."""
LARGEST_SEED = 2**32 - 1  # the largest that numpy takes

# Ranges that more than a number describes.
SEED = Must(f"at least 0 and at most {LARGEST_SEED}", lambda seed: 0 <= seed <= LARGEST_SEED)
STEPS_OR_MINUS_1 = Must("at least 1, or -1 to train by epochs", lambda n: n >= 1 or n == -1)
LABEL_WEIGHTS = all_positive("weight", "a positive number for each label")
COSTS = all_positive("cost", "the cost of a false positive, then that of a false negative")

# What to do instead of ejecting a setting.
SAME_NUMBERS = NotEjected("leave it out: the numbers are the same")
AS_TRAINED = NotEjected("leave it out: a script scores the model as trained")
OWN_LOGS = NotEjected("leave it out: a script logs to its own files")
STARTS_AT_STEP_0 = NotEjected("leave it out: a script starts at the first step")
NOTHING_IS_TRAINED = NotEjected("leave it out: nothing is trained here")
SWITCH_OF_TORCH = NotEjected("leave it out: torch.set_float32_matmul_precision is one line")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training run."""

    # First and not by keyword alone, so that `plainloop train reviews.csv` takes it.
    train_file: Annotated[tuple[str, ...], FILES, DATA, COMMON, MAY_DIFFER] = field(
        default=(), kw_only=False
    )
    """Training files: csv, tsv, json, jsonl, parquet, arrow, a save_to_disk folder; or a glob."""

    task: Annotated[str | None, DATA, COMMON, EJECTED] = None
    """Embedded or GLUE data: demo, cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte or wnli."""

    data_dir: Annotated[Path | None, DATA, MAY_DIFFER] = None
    """Folder that holds the task's own folder (MRPC/train.tsv, ...). Without it: from the hub."""

    validation_file: Annotated[tuple[str, ...], FILES, DATA, COMMON, MAY_DIFFER, NOT_WITH_TASK] = ()
    """Validation files. Default: a part of the training rows is held out."""

    test_file: Annotated[tuple[str, ...], FILES, DATA, MAY_DIFFER] = ()
    """Labelled test files, evaluated once, after training; with --task in the task's layout."""

    dataset: Annotated[str | None, DATA, MAY_DIFFER] = None
    """Data set on the hub, as NAME or NAME:CONFIG, instead of files."""

    text_column: Annotated[tuple[str, ...], FILES, DATA, COMMON, NOT_WITH_TASK, EJECTED] = ()
    """Column of the text, or two columns for a pair. Default: found by its name."""

    label_column: Annotated[
        str | tuple[str, ...] | None, LABEL_COLUMNS, DATA, COMMON, NOT_WITH_TASK, EJECTED
    ] = None
    """Column of the label, or several columns of 0 and 1, one for each label. Default: found."""

    problem_type: Annotated[ProblemType | None, DATA, NOT_WITH_TASK, EJECTED] = None
    """Single-label or multi-label classification, or regression. Default: found from the labels."""

    label_separator: Annotated[str | None, DATA, NOT_WITH_TASK, EJECTED] = None
    """Separator between the labels in one cell, for multi-label data."""

    validation_fraction: Annotated[
        float, DATA, more_than(0), less_than(1), NOT_WITH_TASK, EJECTED
    ] = 0.1
    """Fraction of the training rows to hold out for validation, if there is no validation file."""

    validation_seed: Annotated[int | None, WHOLE, DATA, SEED, MAY_DIFFER, NOT_WITH_TASK] = None
    """Seed of that split. Default: the run's own seed."""

    group_column: Annotated[str | None, DATA, NOT_WITH_TASK, EJECTED] = None
    """Column of groups: rows with equal values are kept in the same split."""

    group_duplicates: Annotated[bool, DATA, MAY_DIFFER, EJECTED] = True
    """Keep rows with equal texts in the same split, and in the same fold of --cv."""

    encoding: Annotated[str | None, DATA, MAY_DIFFER, NOT_WITH_TASK] = None
    """Encoding of text files, as in latin-1 or cp949. Default: UTF-8."""

    separator: Annotated[str | None, DATA, MAY_DIFFER, NOT_WITH_TASK] = None
    """Separator of columns in text files: one character, or tab. Default: found in the rows."""

    header: Annotated[bool | None, DATA, MAY_DIFFER, NOT_WITH_TASK] = None
    """Whether the first row has the column names; without them they are 1, 2, ... Default: yes."""

    sheet: Annotated[str | None, DATA, MAY_DIFFER, NOT_WITH_TASK] = None
    """Sheet of a spreadsheet (the extra excel). Default: the only one that has rows."""

    quotes: Annotated[Literal["text", "enclose"] | None, DATA, MAY_DIFFER, NOT_WITH_TASK] = None
    """Whether double quotes are text or enclose fields. Default: enclose, unless the rows show text."""

    on_null: Annotated[Literal["error", "drop", "empty"], DATA, NOT_WITH_TASK, EJECTED] = "error"
    """How to handle rows without a text or label: stop, drop them, or use an empty text."""

    max_length: Annotated[int | None, WHOLE, DATA, at_least(1), EJECTED] = None
    """Maximum input length in tokens; longer texts are truncated. Default: the model's limit."""

    stride: Annotated[int | None, WHOLE, DATA, at_least(0), EJECTED] = None
    """Split long texts into windows that overlap by N tokens and average them, instead of truncation."""

    max_train_samples: Annotated[int | None, WHOLE, DATA, at_least(1), EJECTED] = None
    """Use only the first N training rows."""

    model: Annotated[str, MODEL, COMMON, EJECTED] = "bert-base-uncased"
    """A name on the hub, a folder (a finished run is one), or demo: the embedded MiniLM."""

    dtype: Annotated[Literal["float32", "bfloat16"], MODEL, NotEjected()] = "float32"
    """Type of the frozen weights with --lora-rank; trained weights are always float32."""

    dropout: Annotated[float | None, MODEL, at_least(0), less_than(1), EJECTED] = None
    """Probability of hidden and attention dropout. Default: the checkpoint's own."""

    freeze_embeddings: Annotated[bool, MODEL, EJECTED] = False
    """Do not train the embeddings."""

    freeze_layers: Annotated[int, WHOLE, MODEL, at_least(0), EJECTED] = 0
    """Do not train the embeddings and the first N encoder layers."""

    new_head: Annotated[bool, MODEL, EJECTED] = False
    """Replace the checkpoint's head by a new one for other labels."""

    lora_rank: Annotated[int | None, WHOLE, MODEL, at_least(1), EJECTED] = None
    """Rank of LoRA adapters, which are trained instead of the weights (the extra lora)."""

    lora_alpha: Annotated[float | None, MODEL, more_than(0), EJECTED] = None
    """LoRA alpha: adapters are scaled by alpha / rank. Default: twice the rank."""

    merge_lora: Annotated[bool, MODEL, MAY_DIFFER] = False
    """Merge the LoRA adapters into the weights before the model is saved."""

    num_train_epochs: Annotated[
        float, OPTIM, more_than(0), COMMON, EJECTED, Parameter(alias="--epochs")
    ] = 3.0
    """Number of epochs; a fraction ends within an epoch."""

    max_steps: Annotated[int, WHOLE, OPTIM, STEPS_OR_MINUS_1, EJECTED] = -1
    """Number of optimizer steps, overrides the epochs; -1: train by epochs."""

    per_device_train_batch_size: Annotated[
        int, WHOLE, OPTIM, at_least(1), COMMON, EJECTED, Parameter(alias="--batch-size")
    ] = 8
    """Training batch size of each process."""

    gradient_accumulation_steps: Annotated[int, WHOLE, OPTIM, at_least(1), EJECTED] = 1
    """Number of batches to accumulate gradients over before an optimizer step."""

    learning_rate: Annotated[
        float, OPTIM, more_than(0), COMMON, EJECTED, Parameter(alias="--lr")
    ] = 5e-5
    """Peak learning rate of the optimizer."""

    optim: Annotated[Optim, OPTIM, EJECTED] = "adamw_torch_fused"
    """Optimizer: torch's AdamW, fused or not, or its SGD without momentum; transformers' Adafactor."""

    lr_scheduler_type: Annotated[Schedule, OPTIM, EJECTED] = "linear"
    """Learning rate schedule, by optimizer step."""

    lr_scheduler_kwargs: Annotated[dict[str, float | str], OPTIM, EJECTED] = field(
        default_factory=dict
    )
    """Further arguments of the schedule, as in --lr-scheduler-kwargs.num_cycles 2."""

    warmup_steps: Annotated[float, OPTIM, at_least(0), EJECTED] = 0.0
    """Warm-up from 0 to the peak, in optimizer steps; below 1: a fraction of all steps."""

    weight_decay: Annotated[float, OPTIM, at_least(0), EJECTED] = 0.0
    """Weight decay, not applied to biases and normalization layers."""

    adam_beta1: Annotated[float, OPTIM, at_least(0), less_than(1), EJECTED] = 0.9
    """AdamW beta1, the decay rate of the first moment."""

    adam_beta2: Annotated[float, OPTIM, at_least(0), less_than(1), EJECTED] = 0.999
    """AdamW beta2, the decay rate of the second moment."""

    adam_epsilon: Annotated[float, OPTIM, more_than(0), EJECTED] = 1e-8
    """AdamW epsilon, added to the denominator."""

    gradient_checkpointing: Annotated[bool, OPTIM, SAME_NUMBERS] = False
    """Recompute each layer in the backward pass: less memory, more time, the same numbers."""

    max_grad_norm: Annotated[float, OPTIM, at_least(0), EJECTED] = 1.0
    """Maximum gradient norm for clipping; 0: no clipping."""

    label_smoothing_factor: Annotated[
        float, OPTIM, at_least(0), at_most(1), CLASSES_ONLY, EJECTED
    ] = 0.0
    """Label smoothing: probability mass that is spread evenly over all labels."""

    class_weights: Annotated[
        ClassWeights | None, WEIGHTS, OPTIM, LABEL_WEIGHTS, CLASSES_ONLY, EJECTED
    ] = None
    """Weight of each label in the loss: balanced, or a number for each label."""

    focal_gamma: Annotated[float | None, OPTIM, at_least(0), CLASSES_ONLY, EJECTED] = None
    """Focal loss exponent; a higher value down-weights easy examples."""

    train_sampling_strategy: Annotated[
        Literal["random", "weighted", "group_by_length"], OPTIM, EJECTED
    ] = "random"
    """Shuffle; sample all classes equally often; or group rows of similar length into batches."""

    seed: Annotated[int, WHOLE, OPTIM, SEED, COMMON, EJECTED] = 42
    """Random seed of the new head, the dropout and the order of the rows."""

    eval_strategy: Annotated[Literal["no", "steps", "epoch"], EVAL, EJECTED] = "epoch"
    """When to evaluate: never, every --eval-steps, or after each epoch."""

    eval_steps: Annotated[int, WHOLE, EVAL, at_least(1), EJECTED] = 500
    """Optimizer steps from one evaluation to the next, with --eval-strategy steps."""

    per_device_eval_batch_size: Annotated[
        int, WHOLE, EVAL, at_least(1), EJECTED, Parameter(alias="--eval-batch-size")
    ] = 8
    """Evaluation batch size of each process."""

    metric_for_best_model: Annotated[str | None, EVAL, CHOOSES_BEST, EJECTED] = None
    """Metric that selects the best checkpoint: loss or one of the task's. Default: loss."""

    greater_is_better: Annotated[bool | None, EVAL, CHOOSES_BEST, EJECTED] = None
    """Whether higher values of that metric are better. Default: yes, except for losses and errors."""

    load_best_model_at_end: Annotated[bool, EVAL, CHOOSES_BEST, NEEDS_EVALUATIONS, EJECTED] = False
    """Save the model of the best evaluation instead of the last."""

    early_stopping_patience: Annotated[
        int | None, WHOLE, EVAL, at_least(1), NEEDS_EVALUATIONS, EJECTED
    ] = None
    """Early stopping: stop after N evaluations in a row without improvement."""

    early_stopping_threshold: Annotated[float, EVAL, at_least(0), EJECTED] = 0.0
    """Smallest improvement of the metric that counts, for early stopping."""

    threshold_metric: Annotated[str | None, EVAL, NEEDS_EVALUATIONS, CLASSES_ONLY, AS_TRAINED] = (
        None
    )
    """Choose decision thresholds on the validation rows, after training, that maximize this metric."""

    threshold_costs: Annotated[
        tuple[float, float] | None, EVAL, COSTS, NEEDS_EVALUATIONS, CLASSES_ONLY, AS_TRAINED
    ] = None
    """Choose thresholds that minimize the cost, given those of a false positive and a false negative."""

    calibrate: Annotated[bool, EVAL, NEEDS_EVALUATIONS, CLASSES_ONLY, AS_TRAINED] = False
    """Calibrate the probabilities by temperature scaling, fitted on the validation rows."""

    output_dir: Annotated[Path | None, RUN, COMMON, MAY_DIFFER, Parameter(alias="-o")] = None
    """Folder of the run. Default: runs/TASK, or runs/ and the name of your file."""

    overwrite: Annotated[bool, RUN, OF_CALL] = False
    """Replace the run in the output folder; it stays in RUN.old until there is a checkpoint."""

    report_to: Annotated[tuple[Tracker, ...], FILES, RUN, MAY_DIFFER, OWN_LOGS] = ()
    """Experiment trackers to log to: tensorboard (into RUN/logs), mlflow, wandb, trackio."""

    logging_steps: Annotated[int, WHOLE, RUN, at_least(1), EJECTED] = 10
    """Optimizer steps from one line of history.jsonl to the next."""

    save_strategy: Annotated[Literal["no", "steps", "epoch"], RUN, MAY_DIFFER] = "epoch"
    """When to save a checkpoint: never, every --save-steps, or after each epoch."""

    save_steps: Annotated[int, WHOLE, RUN, at_least(1), MAY_DIFFER] = 500
    """Optimizer steps from one checkpoint to the next, with --save-strategy steps."""

    save_total_limit: Annotated[int | None, WHOLE, RUN, at_least(2), MAY_DIFFER] = 2
    """Keep the last N checkpoints, at least 2."""

    resume: Annotated[bool, RUN, COMMON, OF_CALL, STARTS_AT_STEP_0] = False
    """Resume from the newest intact checkpoint in the output folder."""

    resume_from_checkpoint: Annotated[Path | None, RUN, OF_CALL, STARTS_AT_STEP_0] = None
    """Resume from this checkpoint of the output folder instead of the newest."""

    force: Annotated[bool, RUN, OF_CALL, STARTS_AT_STEP_0] = False
    """Resume although settings, data, processes, threads or versions differ."""

    dataloader_num_workers: Annotated[int, WHOLE, RUN, at_least(0), MAY_DIFFER, EJECTED] = 0
    """Number of processes that load batches; 0: the training process does."""

    use_cpu: Annotated[bool, RUN, EJECTED] = False
    """Use the CPU even if there is a GPU."""

    bf16: Annotated[bool, RUN, EJECTED] = False
    """Mixed precision with bfloat16 (autocast); weights and optimizer stay float32."""

    fp16: Annotated[bool, RUN, EJECTED] = False
    """Mixed precision with float16 (autocast) and loss scaling; for GPUs."""

    tf32: Annotated[bool | None, RUN, SWITCH_OF_TORCH] = None
    """Use TF32 for float32 matrix products, on NVIDIA GPUs since Ampere. Default: torch's setting."""

    torch_compile: Annotated[bool, RUN, EJECTED] = False
    """Compile the model with torch.compile; batches are then padded."""

    execution: Annotated[Literal["auto", "unpadded", "padded"], RUN, EJECTED] = "auto"
    """Skip padding (auto: if the model supports it), or pad, which gives exactly the Trainer's numbers."""

    products: Annotated[Literal["auto", "default"], RUN, MAY_DIFFER] = "auto"
    """CPU matrix products: the fastest exact float32 kernels (auto), or torch's default."""

    ddp_timeout: Annotated[int, WHOLE, RUN, at_least(1), MAY_DIFFER] = 1800
    """Timeout in seconds for other processes while one reads, tokenizes or saves."""

    step_timeout: Annotated[int, WHOLE, RUN, at_least(1), MAY_DIFFER] = 20
    """Timeout in seconds for other processes in a training step or an evaluation batch."""

    dry_run: Annotated[bool, RUN, OF_CALL, NOTHING_IS_TRAINED] = False
    """Check everything up to the first forward pass; train nothing and write no run."""

    def __post_init__(self) -> None:
        """Convert each value to its field's type.

        Raises:
            UserError: every value that cannot be converted, by the name of its field.
        """
        problems = []
        for one in fields(self):
            value, wanted = getattr(self, one.name), get_args(one.type)[0]
            if value is one.default:
                continue
            try:
                object.__setattr__(self, one.name, coerce(value, wanted))
            except ValueError as error:
                what = f"cannot be {printable(repr(value))}"
                fix = (
                    str(error)
                    or f"see --{one.name.replace('_', '-')} of plainloop train --help-all"
                )
                problems.append(UserError(what, where=one.name, fix=fix))
        if problems:
            raise UserError.together(problems)

    @property
    def read_options(self) -> ReadOptions:
        """How to read the files."""
        return ReadOptions(
            encoding=self.encoding,
            separator=self.separator,
            header=self.header,
            sheet=self.sheet,
            quotes=self.quotes,
        )

    @property
    def best_metric(self) -> str:
        """The metric by which the best evaluation is chosen."""
        return self.metric_for_best_model or "loss"

    @property
    def more_is_better(self) -> bool:
        """Whether higher values of that metric are better."""
        if self.greater_is_better is not None:
            return self.greater_is_better
        return self.best_metric not in LESS_IS_BETTER

    @property
    def split_seed(self) -> int:
        """The seed of the split into training and validation rows."""
        return self.seed if self.validation_seed is None else self.validation_seed

    @property
    def run_path(self) -> Path:
        """The folder of the run: `output_dir` or its default."""
        return self.output_dir or Path("runs") / self.data_name

    @property
    def data_name(self) -> str:
        """A name for the data: the task, or the first file or data set without its extension."""
        source = self.task or self.dataset or (self.train_file or ("data",))[0]
        return Path(source.partition(":")[0]).stem

    def changed(self) -> list[str]:
        """The names of the settings that are not at their default."""
        default = TrainConfig()
        return [name for name in MARKS if getattr(self, name) != getattr(default, name)]

    def to_dict(self) -> dict[str, Any]:
        """Every field as a plain value that YAML and JSON can hold."""
        plain: dict[str, Any] = {}
        for name, value in asdict(self).items():
            plain[name] = str(value) if isinstance(value, Path) else value
            if isinstance(value, tuple):
                plain[name] = list(value)
        return plain


MARKS: dict[str, tuple[object, ...]] = {
    field.name: field.type.__metadata__  # type: ignore[union-attr]
    for field in fields(TrainConfig)
}
"""Setting -> what its annotation declares."""


def marked(*wanted: Mark) -> tuple[str, ...]:
    """The settings that have any of these marks, in the order of the fields."""
    return tuple(name for name, marks in MARKS.items() if any(mark in marks for mark in wanted))
