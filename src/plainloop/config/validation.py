"""Check the settings: each value by what its field declares, then settings against each other."""

import math

from plainloop.config.marks import NEEDS_EVALUATIONS, Must
from plainloop.config.settings import MARKS, METRIC_SCHEDULES, TrainConfig, marked
from plainloop.errors import UserError

MOST_TEXT_COLUMNS = 2


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def evaluations_are_needed(config: TrainConfig) -> list[str]:
    """The flags of the given settings that do nothing without evaluations."""
    needing = [flag(name) for name in config.changed() if name in marked(NEEDS_EVALUATIONS)]
    if config.lr_scheduler_type in METRIC_SCHEDULES:
        needing.append(f"--lr-scheduler-type {config.lr_scheduler_type}")
    return needing


def check_config(config: TrainConfig) -> None:
    """Check the value of each setting, and that they do not contradict each other.

    Raises:
        UserError: all problems at once, each with its flag and how to fix it.
    """
    problems = [*_find_wrong_values(config), *_find_idle(config), *_find_contradictions(config)]
    if problems:
        raise UserError.together(problems)


def _find_wrong_values(config: TrainConfig) -> list[UserError]:
    problems = []
    for name, marks in MARKS.items():
        value, musts = getattr(config, name), [mark for mark in marks if isinstance(mark, Must)]
        if value is None or all(must.holds(value) for must in musts):
            continue
        wanted = " and ".join(must.words for must in musts)
        if value in (math.inf, -math.inf) and all(must.has_no_end for must in musts):
            wanted += ", and a finite number"
        problems.append(
            UserError(f"{value} {musts[0].problem}", where=flag(name), fix=f"give {wanted}")
        )
    count = len(config.text_column)
    if count > MOST_TEXT_COLUMNS:
        problems.append(
            UserError(f"{count} columns", where="--text-column", fix="give one, or two for a pair")
        )
    return problems


def _find_idle(config: TrainConfig) -> list[UserError]:
    """Settings that do nothing, because another one is missing."""
    problems = []
    if config.eval_strategy == "no":
        problems += [
            UserError("needs evaluations", where=where, fix="set --eval-strategy epoch or steps")
            for where in evaluations_are_needed(config)
        ]
    with_lora = config.lora_rank is not None, "--lora-rank"
    with_split = not config.validation_file, "a training file without a validation file"
    with_adam = config.optim.startswith("adamw"), "--optim adamw_torch_fused or adamw_torch"
    needs = {
        "adam_beta1": with_adam,
        "adam_beta2": with_adam,
        "adam_epsilon": with_adam,
        "validation_fraction": with_split,
        "validation_seed": with_split,
        "group_column": with_split,
        "lora_alpha": with_lora,
        "merge_lora": with_lora,
        "warmup_steps": (
            config.lr_scheduler_type not in ("constant", *METRIC_SCHEDULES),
            "a schedule that warms up",
        ),
        "eval_steps": (config.eval_strategy == "steps", "--eval-strategy steps"),
        "early_stopping_threshold": (
            config.early_stopping_patience is not None,
            "--early-stopping-patience",
        ),
        "save_steps": (config.save_strategy == "steps", "--save-strategy steps"),
    }
    return problems + [
        UserError("has no effect alone", where=flag(name), fix=f"it needs {needs[name][1]}")
        for name in config.changed()
        if name in needs and not needs[name][0]
    ]


def _find_contradictions(config: TrainConfig) -> list[UserError]:
    contradictions = (
        (
            config.lora_rank is not None and (config.freeze_embeddings or config.freeze_layers),
            "--lora-rank freezes all but its adapters",
            "leave out --freeze-*",
        ),
        (
            config.dtype != "float32" and config.lora_rank is None,
            f"--dtype {config.dtype} would train weights in half precision",
            "leave it out, or freeze them with --lora-rank",
        ),
        (
            config.dtype != "float32" and config.merge_lora,
            f"--merge-lora would round the adapters to --dtype {config.dtype}",
            "give one of them",
        ),
        (
            config.bf16 and config.fp16,
            "--bf16 and --fp16 are two precisions",
            "give one",
        ),
        (
            config.train_sampling_strategy == "group_by_length"
            and (config.execution == "unpadded" or config.stride is not None),
            "--train-sampling-strategy group_by_length is for padded batches of one window a row",
            "leave it out, or --execution unpadded and --stride",
        ),
        (
            config.focal_gamma is not None and config.label_smoothing_factor > 0,
            "--focal-gamma and --label-smoothing-factor are two losses",
            "give one",
        ),
        (
            config.threshold_metric and config.threshold_costs,
            "--threshold-metric and --threshold-costs choose one threshold",
            "give one",
        ),
        (
            config.overwrite and (config.resume or config.resume_from_checkpoint),
            "--overwrite would delete what --resume needs",
            "give one of them",
        ),
    )
    return [UserError(what, fix=fix) for holds, what, fix in contradictions if holds]
