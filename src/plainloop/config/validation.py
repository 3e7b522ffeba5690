"""What a setting may be: the range of each number, and what does not go together."""

import math

from plainloop.config.settings import METRIC_SCHEDULES, TrainConfig
from plainloop.errors import UserError

MOST_TEXT_COLUMNS = 2
_RANGES: dict[str, tuple[float, float, bool, bool]] = {
    # field: lowest, highest, whether the lowest itself is allowed, whether the highest is
    "max_length": (1, math.inf, True, False),
    "validation_fraction": (0, 1, False, False),
    "validation_seed": (0, 2**32 - 1, True, True),
    "stride": (0, math.inf, True, False),
    "max_train_samples": (1, math.inf, True, False),
    "dropout": (0, 1, True, False),
    "freeze_layers": (0, math.inf, True, False),
    "lora_rank": (1, math.inf, True, False),
    "lora_alpha": (0, math.inf, False, False),
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
    "focal_gamma": (0, math.inf, True, False),
    "seed": (0, 2**32 - 1, True, True),
    "eval_steps": (1, math.inf, True, False),
    "per_device_eval_batch_size": (1, math.inf, True, False),
    "early_stopping_patience": (1, math.inf, True, False),
    "early_stopping_threshold": (0, math.inf, True, False),
    "save_steps": (1, math.inf, True, False),
    "save_total_limit": (2, math.inf, True, False),
    "logging_steps": (1, math.inf, True, False),
    "dataloader_num_workers": (0, math.inf, True, False),
    "ddp_timeout": (1, math.inf, True, False),
    "step_timeout": (1, math.inf, True, False),
}


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def evaluations_are_needed(config: TrainConfig) -> list[str]:
    """The flags of the settings that cannot do without evaluations."""
    needing = {
        "--early-stopping-patience": config.early_stopping_patience is not None,
        "--load-best-model-at-end": config.load_best_model_at_end,
        "--threshold-metric": config.threshold_metric is not None,
        "--threshold-costs": config.threshold_costs is not None,
        "--calibrate": config.calibrate,
        f"--lr-scheduler-type {config.lr_scheduler_type}": (
            config.lr_scheduler_type in METRIC_SCHEDULES
        ),
    }
    return [where for where, is_set in needing.items() if is_set]


def check_config(config: TrainConfig) -> None:
    """Check each number's range and what does not go together.

    Raises:
        UserError: all problems at once, each with its flag and what would be right.
    """
    problems = [
        *_find_out_of_range(config),
        *_find_wrong_values(config),
        *_find_contradictions(config),
    ]
    if problems:
        raise UserError.together(problems)


def _find_out_of_range(config: TrainConfig) -> list[UserError]:
    problems = []
    for name, (low, high, low_allowed, high_allowed) in _RANGES.items():
        value = getattr(config, name)
        if value is None:
            continue
        above = value >= low if low_allowed else value > low
        below = value <= high if high_allowed else value < high
        if not (above and below):
            wanted = f"{'at least' if low_allowed else 'more than'} {low:.10g}"
            if high == math.inf:
                wanted += ", and a finite number" if math.isinf(value) else ""
            else:
                wanted += f" and {'at most' if high_allowed else 'less than'} {high:.10g}"
            problems.append(
                UserError(f"{value} is out of range", where=flag(name), fix=f"give {wanted}")
            )
    return problems


def _find_wrong_values(config: TrainConfig) -> list[UserError]:
    problems = []
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
    if config.threshold_costs and not all(
        cost > 0 and math.isfinite(cost) for cost in config.threshold_costs
    ):
        problems.append(
            UserError(
                f"{config.threshold_costs} has a cost that is not more than 0",
                where="--threshold-costs",
                fix="give the cost of a false positive, then that of a false negative",
            )
        )
    if len(config.text_column) > MOST_TEXT_COLUMNS:
        problems.append(
            UserError(
                f"{len(config.text_column)} columns",
                where="--text-column",
                fix="give one, or two for a pair",
            )
        )
    return problems


def _find_contradictions(config: TrainConfig) -> list[UserError]:
    problems = []
    if config.eval_strategy == "no":
        problems += [
            UserError("needs evaluations", where=where, fix="set --eval-strategy epoch or steps")
            for where in evaluations_are_needed(config)
        ]
    problems += [
        UserError("has no effect alone", where=flag(name), fix=f"it needs {needs}")
        for name, needs, has_effect in (
            ("eval_steps", "--eval-strategy steps", config.eval_strategy == "steps"),
            ("save_steps", "--save-strategy steps", config.save_strategy == "steps"),
            (
                "early_stopping_threshold",
                "--early-stopping-patience",
                config.early_stopping_patience is not None,
            ),
            ("lora_alpha", "--lora-rank", config.lora_rank is not None),
            ("merge_lora", "--lora-rank", config.lora_rank is not None),
            (
                "validation_fraction",
                "a training file without a validation file",
                not config.validation_file,
            ),
            (
                "validation_seed",
                "a training file without a validation file",
                not config.validation_file,
            ),
            (
                "group_column",
                "a training file without a validation file",
                not config.validation_file,
            ),
            (
                "warmup_steps",
                "a schedule that warms up",
                config.lr_scheduler_type not in ("constant", *METRIC_SCHEDULES),
            ),
        )
        if getattr(config, name) != getattr(TrainConfig, name) and not has_effect
    ]
    if config.lora_rank is not None and (config.freeze_embeddings or config.freeze_layers):
        problems.append(
            UserError("--lora-rank freezes all but its adapters", fix="leave out --freeze-*")
        )
    if config.focal_gamma is not None and config.label_smoothing_factor > 0:
        problems.append(
            UserError("--focal-gamma and --label-smoothing-factor are two losses", fix="give one")
        )
    if config.threshold_metric and config.threshold_costs:
        problems.append(
            UserError(
                "--threshold-metric and --threshold-costs choose one threshold", fix="give one"
            )
        )
    if config.overwrite and (config.resume or config.resume_from_checkpoint):
        problems.append(
            UserError("--overwrite would delete what --resume needs", fix="give one of them")
        )
    return problems
