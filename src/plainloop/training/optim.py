"""Optimizers with the Trainer's parameter groups, and learning rate schedules."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import Adafactor, get_scheduler

from plainloop.config.flag_types import Optim
from plainloop.config.settings import METRIC_SCHEDULES, TrainConfig
from plainloop.errors import UserError
from plainloop.model.unpadded.embedding import keep_full_moments

# The Trainer's rule (get_decay_parameter_names in transformers 5.23).
NO_DECAY_NAMES = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def create_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Create the optimizer of the settings over the trainable parameters, in the Trainer's two groups.

    Each has the Trainer's arguments (trainer_optimizer.py in transformers 5.23). Call it after
    `choose_execution`, which may replace the embedding's parameter.
    """
    groups = parameter_groups(model, config.weight_decay)
    adam: dict[str, Any] = {
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
    }
    create: dict[Optim, Callable[..., torch.optim.Optimizer]] = {
        "adamw_torch_fused": partial(torch.optim.AdamW, fused=True, **adam),
        "adamw_torch": partial(torch.optim.AdamW, **adam),
        "sgd": torch.optim.SGD,
        "adafactor": partial(Adafactor, scale_parameter=False, relative_step=False),
    }
    optimizer = create[config.optim](groups, lr=config.learning_rate)
    keep_full_moments(optimizer, model)
    return optimizer


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the trainable parameters: those with weight decay, then biases and normalizations."""
    no_decay = {
        parameter
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in module.parameters(recurse=False)
    } | {
        parameter
        for name, parameter in model.named_parameters()
        if NO_DECAY_NAMES.search(name.lower())
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p not in no_decay], "weight_decay": weight_decay},
        {"params": [p for p in trained if p in no_decay], "weight_decay": 0.0},
    ]


def count_training_steps(num_batches: int, config: TrainConfig) -> int:
    """Count the optimizer steps of a training.

    Args:
        num_batches: batches per epoch on each process, `len(train_dataloader)` after `prepare`.
        config: its max_steps if set, else num_train_epochs.
    """
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(config.num_train_epochs * steps_per_epoch(num_batches, config))


def steps_per_epoch(num_batches: int, config: TrainConfig) -> int:
    """Count the optimizer steps of an epoch; the last one may accumulate fewer batches."""
    return math.ceil(num_batches / config.gradient_accumulation_steps)


def create_scheduler(
    optimizer: torch.optim.Optimizer, num_training_steps: int, config: TrainConfig
) -> LRScheduler:
    """Create a schedule of `transformers.get_scheduler`, to be stepped once per optimizer step.

    Do not pass it to `accelerator.prepare`, with which it would advance once per process and step.

    Raises:
        UserError: the schedule does not take one of `lr_scheduler_kwargs`, or lacks one.
    """
    # Below 1 it is a fraction, as TrainingArguments has it.
    warmup_steps = (
        int(config.warmup_steps)
        if config.warmup_steps >= 1
        else math.ceil(num_training_steps * config.warmup_steps)
    )
    try:
        scheduler: LRScheduler = get_scheduler(
            config.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=warmup_steps,
            num_training_steps=num_training_steps,
            scheduler_specific_kwargs=schedule_kwargs(config),
        )
    except (TypeError, ValueError, KeyError) as error:  # a KeyError for last_epoch
        raise UserError(
            f"{config.lr_scheduler_type}: {str(error.args[0]).splitlines()[0]}",
            where="--lr-scheduler-kwargs",
            fix="see transformers.get_scheduler for what this schedule takes",
        ) from None
    return scheduler


def check_schedule(config: TrainConfig) -> None:
    """Check the schedule's arguments with a dummy optimizer, before any model is loaded.

    Raises:
        UserError: as `create_scheduler`.
    """
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=config.learning_rate)
    create_scheduler(optimizer, num_training_steps=1, config=config)


def schedule_kwargs(config: TrainConfig) -> dict[str, Any]:
    """Arguments of a schedule other than steps: from the settings, and the metric's direction."""
    # Flags and files give 2.0 for 2, and some schedules need integers.
    kwargs: dict[str, Any] = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in config.lr_scheduler_kwargs.items()
    }
    if config.lr_scheduler_type in METRIC_SCHEDULES:
        kwargs.setdefault("mode", "max" if config.more_is_better else "min")
    return kwargs
