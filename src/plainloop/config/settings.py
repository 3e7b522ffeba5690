"""Every setting of a run, its default, and its unit.

A field that `transformers.TrainingArguments` has too carries that name and, where the Trainer's
numbers depend on it, that default. The text under a field is its `--help`.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from plainloop.config.flag_types import (
    DATA,
    EVAL,
    FILES,
    MODEL,
    OPTIM,
    RUN,
    WEIGHTS,
    WHOLE,
    Schedule,
    Tracker,
)
from plainloop.config.tasks import ProblemType

METRIC_SCHEDULES = ("reduce_lr_on_plateau", "greedy")
"""The schedules that move once an evaluation, by its metric, and not once a step."""
LESS_IS_BETTER = ("loss", "log_loss", "rmse", "mae")
"""The metrics of which less is better."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training run."""

    task: Annotated[str | None, DATA] = None
    """Embedded or GLUE data: demo, cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte or wnli."""

    data_dir: Annotated[Path | None, DATA] = None
    """Folder that holds the task's own folder (MRPC/train.tsv, ...). Without it: from the hub."""

    train_file: Annotated[tuple[str, ...], FILES, DATA] = ()
    """One's own rows: csv, tsv, json, jsonl, parquet, arrow, a save_to_disk folder; or a glob."""

    validation_file: Annotated[tuple[str, ...], FILES, DATA] = ()
    """Rows to evaluate on. Default: a part of the training rows."""

    test_file: Annotated[tuple[str, ...], FILES, DATA] = ()
    """Labelled rows, evaluated once, after training; with --task in the task's layout."""

    dataset: Annotated[str | None, DATA] = None
    """Data set on the hub, as NAME or NAME:CONFIG, instead of files."""

    text_column: Annotated[tuple[str, ...], FILES, DATA] = ()
    """Column of the text, or two columns for a pair. Default: found by its name."""

    label_column: Annotated[str | None, DATA] = None
    """Column of the label. Default: found by its name."""

    problem_type: Annotated[ProblemType | None, DATA] = None
    """What a label is: one class, several, or a number. Default: found from the labels."""

    label_separator: Annotated[str | None, DATA] = None
    """What stands between a row's labels, where it has several in one text."""

    validation_fraction: Annotated[float, DATA] = 0.1
    """Share of the training rows to evaluate on, where there is no file for it."""

    validation_seed: Annotated[int | None, WHOLE, DATA] = None
    """Seed of that split. Default: the run's own seed."""

    group_column: Annotated[str | None, DATA] = None
    """Column whose equal values stay on one side of that split."""

    encoding: Annotated[str | None, DATA] = None
    """Encoding of text files, as in latin-1 or cp949. Default: UTF-8."""

    on_null: Annotated[Literal["error", "drop", "empty"], DATA] = "error"
    """What to do with a row without a text: stop, leave it out, or take it as empty."""

    max_length: Annotated[int | None, WHOLE, DATA] = None
    """Longest input in tokens; what is longer is cut off. Default: the model's own limit."""

    stride: Annotated[int | None, WHOLE, DATA] = None
    """Cut long texts into windows that share N tokens, and average over them, instead of one."""

    max_train_samples: Annotated[int | None, WHOLE, DATA] = None
    """Use only the first N training rows."""

    model: Annotated[str, MODEL] = "bert-base-uncased"
    """A name on the hub, a folder (a finished run is one), or demo: the embedded MiniLM."""

    dropout: Annotated[float | None, MODEL] = None
    """Probability of hidden and attention dropout. Default: the checkpoint's own."""

    freeze_embeddings: Annotated[bool, MODEL] = False
    """Keep the embeddings as they are."""

    freeze_layers: Annotated[int, WHOLE, MODEL] = 0
    """Keep the first N encoder layers, and the embeddings, as they are."""

    new_head: Annotated[bool, MODEL] = False
    """Replace the checkpoint's head by a new one for other labels."""

    lora_rank: Annotated[int | None, WHOLE, MODEL] = None
    """Train low-rank adapters of N columns instead of the weights (LoRA; the extra lora)."""

    lora_alpha: Annotated[float | None, MODEL] = None
    """Scale of the adapters: alpha / rank times their product. Default: twice the rank."""

    merge_lora: Annotated[bool, MODEL] = False
    """Save the model with its adapters added into the weights."""

    num_train_epochs: Annotated[float, OPTIM, Parameter(alias="--epochs")] = 3.0
    """Passes over the training rows, in epochs; a fraction ends within an epoch."""

    max_steps: Annotated[int, WHOLE, OPTIM] = -1
    """Train for N optimizer steps, whatever the epochs say; -1: by epochs."""

    per_device_train_batch_size: Annotated[int, WHOLE, OPTIM, Parameter(alias="--batch-size")] = 8
    """Training rows in a batch, on each process."""

    gradient_accumulation_steps: Annotated[int, WHOLE, OPTIM] = 1
    """Batches whose gradients make one optimizer step."""

    learning_rate: Annotated[float, OPTIM, Parameter(alias="--lr")] = 5e-5
    """Peak learning rate of AdamW."""

    lr_scheduler_type: Annotated[Schedule, OPTIM] = "linear"
    """How the learning rate moves, by optimizer step."""

    lr_scheduler_kwargs: Annotated[dict[str, float | str], OPTIM] = field(default_factory=dict)
    """What a schedule takes besides, as in --lr-scheduler-kwargs.num_cycles 2."""

    warmup_steps: Annotated[float, OPTIM] = 0.0
    """Optimizer steps from 0 to the peak; below 1: that fraction of all steps."""

    weight_decay: Annotated[float, OPTIM] = 0.0
    """AdamW's decay, by optimizer step, of all but biases and normalizations."""

    adam_beta1: Annotated[float, OPTIM] = 0.9
    """AdamW's memory of the gradient, as a fraction kept each step."""

    adam_beta2: Annotated[float, OPTIM] = 0.999
    """AdamW's memory of the squared gradient, as a fraction kept each step."""

    adam_epsilon: Annotated[float, OPTIM] = 1e-8
    """AdamW's guard against dividing by zero."""

    gradient_checkpointing: Annotated[bool, OPTIM] = False
    """Compute each layer again in the backward pass: less memory, the same numbers, more time."""

    max_grad_norm: Annotated[float, OPTIM] = 1.0
    """Norm to which longer gradients are clipped; 0: not clipped."""

    label_smoothing_factor: Annotated[float, OPTIM] = 0.0
    """Probability that the target spreads evenly over all labels."""

    class_weights: Annotated[Literal["balanced"] | tuple[float, ...] | None, WEIGHTS, OPTIM] = None
    """Weight of each label in the loss: balanced, or a number for each label."""

    focal_gamma: Annotated[float | None, OPTIM] = None
    """Focal loss: how much less a row counts that is already right, as an exponent."""

    train_sampling_strategy: Annotated[Literal["random", "weighted"], OPTIM] = "random"
    """Every row once an epoch, or rows drawn so that all classes are equally frequent."""

    seed: Annotated[int, WHOLE, OPTIM] = 42
    """Seed of the new head, the dropout and the order of the rows."""

    eval_strategy: Annotated[Literal["no", "steps", "epoch"], EVAL] = "epoch"
    """When to evaluate: never, every --eval-steps, or after each epoch."""

    eval_steps: Annotated[int, WHOLE, EVAL] = 500
    """Optimizer steps from one evaluation to the next, with --eval-strategy steps."""

    per_device_eval_batch_size: Annotated[
        int, WHOLE, EVAL, Parameter(alias="--eval-batch-size")
    ] = 8
    """Rows in an evaluation batch, on each process."""

    metric_for_best_model: Annotated[str | None, EVAL] = None
    """Metric that says which evaluation is the best: loss or one of the task's. Default: loss."""

    greater_is_better: Annotated[bool | None, EVAL] = None
    """Whether more of that metric is better. Default: yes, but for losses and errors."""

    load_best_model_at_end: Annotated[bool, EVAL] = False
    """Save the model of the best evaluation instead of the last one."""

    early_stopping_patience: Annotated[int | None, WHOLE, EVAL] = None
    """Stop after N evaluations in a row that are not better than the best."""

    early_stopping_threshold: Annotated[float, EVAL] = 0.0
    """How much better, in units of the metric, counts as better."""

    threshold_metric: Annotated[str | None, EVAL] = None
    """Choose thresholds on the validation rows, after training, by this metric, as in f1."""

    threshold_costs: Annotated[tuple[float, float] | None, EVAL] = None
    """Choose thresholds there by the costs of a false positive and of a false negative."""

    calibrate: Annotated[bool, EVAL] = False
    """Fit there a temperature for the logits, so that probabilities say how often they are right."""

    output_dir: Annotated[Path | None, RUN, Parameter(alias="-o")] = None
    """Folder of the run. Default: runs/TASK, or runs/ and the name of one's own file."""

    overwrite: Annotated[bool, RUN] = False
    """Replace the run that the output folder holds."""

    report_to: Annotated[tuple[Tracker, ...], FILES, RUN] = ()
    """Trackers to log to besides: tensorboard (into RUN/logs), mlflow, wandb, trackio."""

    logging_steps: Annotated[int, WHOLE, RUN] = 10
    """Optimizer steps from one line of history.jsonl to the next."""

    save_strategy: Annotated[Literal["no", "steps", "epoch"], RUN] = "epoch"
    """When to save a checkpoint: never, every --save-steps, or after each epoch."""

    save_steps: Annotated[int, WHOLE, RUN] = 500
    """Optimizer steps from one checkpoint to the next, with --save-strategy steps."""

    save_total_limit: Annotated[int | None, WHOLE, RUN] = 2
    """Keep the last N checkpoints, at least 2."""

    resume: Annotated[bool, RUN] = False
    """Go on from the newest checkpoint of the output folder that is whole."""

    resume_from_checkpoint: Annotated[Path | None, RUN] = None
    """Go on from this checkpoint of the output folder instead of the newest."""

    force: Annotated[bool, RUN] = False
    """Resume although settings, data, processes, threads or versions differ."""

    dataloader_num_workers: Annotated[int, WHOLE, RUN] = 0
    """Processes that prepare batches; 0: the training process does."""

    use_cpu: Annotated[bool, RUN] = False
    """Stay on the CPU where there is a GPU."""

    execution: Annotated[Literal["auto", "unpadded", "padded"], RUN] = "auto"
    """Compute no padding (auto: where the model can), or pad, which gives the Trainer's bits."""

    ddp_timeout: Annotated[int, WHOLE, RUN] = 1800
    """Seconds that processes wait for each other while one reads, tokenizes or saves."""

    step_timeout: Annotated[int, WHOLE, RUN] = 20
    """Seconds that processes wait for each other in a training step or an evaluation's batch."""

    dry_run: Annotated[bool, RUN] = False
    """Do everything up to the first forward pass, train nothing, write no run."""

    @property
    def best_metric(self) -> str:
        """The metric that says which evaluation is the best."""
        return self.metric_for_best_model or "loss"

    @property
    def more_is_better(self) -> bool:
        """Whether more of that metric is better."""
        if self.greater_is_better is not None:
            return self.greater_is_better
        return self.best_metric not in LESS_IS_BETTER

    @property
    def split_seed(self) -> int:
        """The seed of the validation part of the training rows."""
        return self.seed if self.validation_seed is None else self.validation_seed

    @property
    def run_path(self) -> Path:
        """The folder of the run, the default filled in."""
        return self.output_dir or Path("runs") / self.data_name

    @property
    def data_name(self) -> str:
        """What to call the data: the task, or the first file or data set without its ending."""
        source = self.task or self.dataset or (self.train_file or ("data",))[0]
        return Path(source.partition(":")[0]).stem

    def to_dict(self) -> dict[str, Any]:
        """Every field as a plain value that YAML and JSON can hold."""
        plain: dict[str, Any] = {}
        for name, value in asdict(self).items():
            plain[name] = str(value) if isinstance(value, Path) else value
            if isinstance(value, tuple):
                plain[name] = list(value)
        return plain
