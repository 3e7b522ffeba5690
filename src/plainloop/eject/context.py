"""Template variables of an ejected script."""

from typing import Any

from plainloop.config.settings import METRIC_SCHEDULES, TrainConfig
from plainloop.eject.literals import literal
from plainloop.eject.metric_lines import METRIC_LINES, script_metrics
from plainloop.eject.rows import Rows
from plainloop.eject.settings import Limits
from plainloop.model.load import DROPOUT_FIELDS, load_tokenizer
from plainloop.training.optim import schedule_kwargs
from plainloop.training.prepare import Inputs

NO_LIMIT = 10**9  # tokens; without a limit transformers sets model_max_length to about 1e30


def context_of(inputs: Inputs, rows: Rows, limits: Limits) -> dict[str, Any]:
    """Collect the variables of the templates in `parts/`.

    Args:
        inputs: checked settings, task and model.
        rows: how the script reads its rows.
        limits: maximum numbers of tokens.

    Returns:
        Variable name -> value.
    """
    config, task = inputs.config, inputs.task
    evaluates = config.eval_strategy != "no"
    metrics = script_metrics(task)
    other_splits = [split for split in rows.splits if split not in ("train", "validation")]
    if rows.hub and task.name == "mnli":
        other_splits = ["validation_mismatched"]
    return {
        "config": config,
        "task": task,
        "source": rows,
        "literal": literal,
        "limits": limits,
        "dropout_fields": _dropout_fields(inputs),
        "evaluates": evaluates,
        "chooses_best": config.load_best_model_at_end or config.early_stopping_patience,
        "accumulates": config.gradient_accumulation_steps > 1,
        "whole_epochs": config.max_steps < 1 and float(config.num_train_epochs).is_integer(),
        "by_metric": config.lr_scheduler_type in METRIC_SCHEDULES,
        "weighs_labels": config.class_weights is not None
        and task.problem_type == "single_label_classification",
        "has_loss": config.class_weights is not None or config.label_smoothing_factor > 0,
        "metrics": metrics,
        "metric_lines": METRIC_LINES[task.problem_type],
        "per_label": not {"f1_macro", "f1_micro"}.isdisjoint(metrics),
        # A correlation of constant values is undefined, and then missing from the scores.
        "score": f"scores.get({literal(config.best_metric)}, math.nan)"
        if task.problem_type == "regression"
        else f"scores[{literal(config.best_metric)}]",
        "has_schedule_kwargs": bool(schedule_kwargs(config)),
        "evaluation_is_due": _evaluation_is_due(config),
        "other_splits": other_splits,
    }


def token_limits(inputs: Inputs) -> Limits:
    """Compute the truncation length, and the `model_max_length` that the script must set if any.

    `load_tokenizer` derives a limit from the model's position embeddings if the saved tokenizer has
    none. The script loads the tokenizer with transformers alone, so it needs that limit as a number.
    """
    from transformers import AutoTokenizer

    limit = load_tokenizer(inputs.pretrained).model_max_length
    named = AutoTokenizer.from_pretrained(inputs.pretrained, trust_remote_code=False)
    of_rows = inputs.config.max_length or (limit if limit < NO_LIMIT else None)
    return Limits(of_rows, limit if limit < named.model_max_length else None)


def _dropout_fields(inputs: Inputs) -> list[str]:
    """Names of the dropout fields of the model's config; empty if the run does not set dropout."""
    if inputs.config.dropout is None:
        return []
    from transformers import AutoConfig

    model = AutoConfig.from_pretrained(inputs.pretrained, trust_remote_code=False)
    return [name for name in DROPOUT_FIELDS if getattr(model, name, None) is not None]


def _evaluation_is_due(config: TrainConfig) -> str:
    if config.eval_strategy == "steps":
        return "step % EVAL_STEPS == 0 or step == num_training_steps"
    if config.max_steps > 0 or not float(config.num_train_epochs).is_integer():
        return "step % steps_per_epoch == 0 or step == num_training_steps"
    return "step % steps_per_epoch == 0"
