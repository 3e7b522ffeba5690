"""train(): the loop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from plainloop.config import METRIC_SCHEDULES, TrainConfig
from plainloop.data.batches import Batch
from plainloop.errors import DivergedError
from plainloop.evaluation import evaluate
from plainloop.metrics import Metric
from plainloop.optim import steps_per_epoch
from plainloop.progress import Progress
from plainloop.run_folder import RunFolder
from plainloop.state import TrainState

LossFn = Callable[[Any, torch.Tensor], torch.Tensor]
"""(the model's outputs, labels) -> the mean loss of the batch."""
WeightFn = Callable[[torch.Tensor], float]
"""labels -> what the mean of that batch divides by: its rows, or the sum of their weights."""


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | AcceleratedOptimizer,
    lr_scheduler: LRScheduler,
    train_dataloader: DataLoader[Batch],
    *,
    config: TrainConfig,
    accelerator: Accelerator,
    num_training_steps: int,
    eval_dataloader: DataLoader[Batch] | None = None,
    metric: Metric | None = None,
    loss_fn: LossFn | None = None,
    weight_fn: WeightFn = len,
    run: RunFolder | None = None,
) -> TrainState:
    """Train a model, evaluating and logging as the settings say.

    Args:
        model, optimizer, train_dataloader, eval_dataloader: prepared by the accelerator. The model
            takes a batch as keywords and returns `loss` (the mean over its rows) and `logits`.
        lr_scheduler: not prepared; moves once an optimizer step.
        config: which settings it uses: accumulation, clipping, logging, evaluation, best model.
        accelerator: with accumulation left at 1, since the loop does it itself.
        num_training_steps: optimizer steps of the whole run.
        metric: scores an evaluation; without it or a loader for it nothing is evaluated.
        loss_fn: instead of the model's own loss.
        weight_fn: what that loss divides by.
        run: where records go as they are made.

    Returns:
        The state at the end, with the records of every logged step and evaluation.

    Raises:
        DivergedError: the loss is not finite.
    """
    state = TrainState()
    num_epochs = math.ceil(num_training_steps / steps_per_epoch(len(train_dataloader), config))
    best_weights: dict[str, torch.Tensor] = {}

    optimizer.zero_grad()
    with Progress(
        num_training_steps, accelerator.device, visible=accelerator.is_main_process, run=run
    ) as progress:
        for epoch in range(num_epochs):
            if hasattr(train_dataloader, "set_epoch"):
                train_dataloader.set_epoch(epoch)
            batches_done = 0
            for window in windows(train_dataloader, config.gradient_accumulation_steps):
                model.train()
                window_weight = sum(weight_fn(batch["labels"]) for batch in window)
                for batch in window:
                    with nullcontext() if batch is window[-1] else accelerator.no_sync(model):
                        outputs = model(**batch)
                        loss = loss_fn(outputs, batch["labels"]) if loss_fn else outputs.loss
                        # By the rows of the window, not by its batches: a ragged last batch counts
                        # for the rows it has. With one batch in the window the factor is exactly 1.
                        loss = loss * (weight_fn(batch["labels"]) / window_weight)
                        accelerator.backward(loss)
                    progress.add(loss, len(batch["labels"]) * accelerator.num_processes)
                grad_norm = accelerator.clip_grad_norm_(
                    model.parameters(), config.max_grad_norm or math.inf
                )
                learning_rate = optimizer.param_groups[0]["lr"]
                optimizer.step()
                if config.lr_scheduler_type not in METRIC_SCHEDULES:
                    lr_scheduler.step()
                optimizer.zero_grad()

                state.step += 1
                batches_done += len(window)
                state.epoch = epoch + batches_done / len(train_dataloader)
                is_last_step = state.step == num_training_steps
                progress.step()
                if state.step % config.logging_steps == 0 or is_last_step:
                    progress.log(state, grad_norm, learning_rate)
                    stop_if_diverged(state)
                if eval_dataloader and metric and evaluation_is_due(state, config, is_last_step):
                    started = time.perf_counter()
                    scores = evaluate(model, eval_dataloader, metric, accelerator=accelerator)
                    if state.note_evaluation(scores, config) and config.load_best_model_at_end:
                        best_weights = copy_weights(accelerator.unwrap_model(model))
                    if config.lr_scheduler_type in METRIC_SCHEDULES:
                        lr_scheduler.step(scores[config.best_metric])  # type: ignore[arg-type]
                    progress.show_evaluation(state.evaluations[-1], time.perf_counter() - started)
                if is_last_step or state.out_of_patience(config):
                    break
            if is_last_step or state.out_of_patience(config):
                break
    if best_weights:
        accelerator.unwrap_model(model).load_state_dict(best_weights)
    return state


def windows(dataloader: DataLoader[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches of an epoch in lists of `size`; the last list may be shorter."""
    batches = iter(dataloader)
    while window := list(islice(batches, size)):
        yield window


def evaluation_is_due(state: TrainState, config: TrainConfig, is_last_step: bool) -> bool:
    """Whether this step ends with an evaluation; the last one does, unless there are none."""
    if config.eval_strategy == "no":
        return False
    is_due = (
        state.epoch.is_integer()
        if config.eval_strategy == "epoch"
        else state.step % config.eval_steps == 0
    )
    return is_due or is_last_step


def stop_if_diverged(state: TrainState) -> None:
    """Raise DivergedError where the last logged loss is not a finite number."""
    record = state.history[-1]
    if not math.isfinite(record["loss"]):
        raise DivergedError(
            f"the loss is {record['loss']} (learning rate {record['learning_rate']:.2e})",
            where=f"step {record['step']}",
            fix="try a lower --learning-rate or some --warmup-steps",
        )


def copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights as they are now, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
