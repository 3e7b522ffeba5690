"""train(): the loop."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import skip_first_batches
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from plainloop.config.settings import METRIC_SCHEDULES, TrainConfig
from plainloop.config.validation import evaluations_are_needed
from plainloop.data.batches.loaders import ROW_NUMBERS, Batch, model_inputs_of, own_part, rows_in
from plainloop.errors import DivergedError, StoppedError
from plainloop.metrics.task_metric import Metric
from plainloop.run.checkpoints import list_checkpoints
from plainloop.run.rank_failure import collective_timeout, training_step_timeout
from plainloop.run.resume import OpenRun
from plainloop.run.rng import RngState
from plainloop.run.signals import StopRequest
from plainloop.run.state import TrainState
from plainloop.training.evaluation import evaluate
from plainloop.training.loss import LossFn, weight_of
from plainloop.training.optim import steps_per_epoch
from plainloop.training.progress import Progress


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
    run: OpenRun | None = None,
    stop: StopRequest | None = None,
) -> TrainState:
    """Train a model, evaluating, logging and saving as the settings say.

    Args:
        model: takes a batch as keywords and returns `loss` (the mean over its rows) and `logits`;
            prepared by the accelerator, as are the next two and eval_dataloader.
        optimizer: of the model's parameters.
        train_dataloader: the training rows' batches, in which `labels` has one entry a row.
        lr_scheduler: not prepared; moves once an optimizer step.
        config: which settings it uses: accumulation, clipping, logging, evaluation, best model.
        accelerator: with accumulation left at 1, since the loop does it itself.
        num_training_steps: optimizer steps of the whole run.
        eval_dataloader: the batches to evaluate on.
        metric: scores an evaluation; without it or a loader for it nothing is evaluated.
        loss_fn: instead of the model's own loss; `plainloop.training.loss.LossFn` says what it must be.
        run: where records, checkpoints and the best model go, and what to go on from; without it
            nothing is written.
        stop: asked after every step.

    Returns:
        The state at the end, with the records of every logged step and evaluation.

    Raises:
        DivergedError: the loss is not finite.
        StoppedError: a signal ended the run; a checkpoint was saved.
        MachineError: a checkpoint could not be written.
    """
    scored = None if eval_dataloader is None or metric is None else (eval_dataloader, metric)
    if scored is None and evaluations_are_needed(config):
        raise ValueError("these settings need an eval_dataloader and a metric")
    if config.load_best_model_at_end and run is None:
        raise ValueError("load_best_model_at_end needs a run, to keep the best model in")
    if len(train_dataloader) == 0:
        raise ValueError("train_dataloader has no batches")
    state, generators = (run and run.resumed) or (TrainState(), None)
    by_metric = config.lr_scheduler_type in METRIC_SCHEDULES
    num_epochs = math.ceil(num_training_steps / steps_per_epoch(len(train_dataloader), config))

    def evaluate_now(eval_dataloader: DataLoader[Batch], metric: Metric) -> None:
        """Score the model, note it, and do what follows from it; or leave no trace if stopped."""
        state.evaluation_due = True  # until it is done: a signal may end it early
        started, before = time.perf_counter(), RngState.capture()
        scores = evaluate(
            model, eval_dataloader, metric, accelerator=accelerator, loss_fn=loss_fn, stop=stop
        )
        if scores is None:
            before.restore()
            return
        state.evaluation_due = False
        if not math.isfinite(scores["loss"]):
            raise diverged(scores["loss"], learning_rate_of(optimizer), state, run, rows=[])
        if state.record_evaluation(scores, config) and config.load_best_model_at_end and run:
            with collective_timeout(config.ddp_timeout):
                run.checkpoints.save_best(model, state.step)
        if by_metric:
            lr_scheduler.step(scores.get(config.best_metric, math.nan))  # type: ignore[arg-type]
        progress.show_evaluation(state.evaluations[-1], time.perf_counter() - started)

    def save_or_stop() -> None:
        """Save a checkpoint where one is due, or where a signal ends the run."""
        signal_number = stop.agreed(accelerator) if stop else None
        saved = "nothing was saved"
        if run and (signal_number or saving_is_due(state, config, num_training_steps)):
            progress.settle()
            with collective_timeout(config.ddp_timeout):
                path = run.checkpoints.save(state, model, optimizer, lr_scheduler)
            saved = f"saved {path}"
        if signal_number:
            if not accelerator.is_main_process:  # one line is enough
                raise StoppedError(signal_number, "")
            count = accelerator.num_processes
            on_as_many = f", on {count} processes" if count > 1 else ""
            raise StoppedError(
                signal_number,
                f"stopped after step {state.step}; {saved}",
                fix=f"to go on{on_as_many}: plainloop train --config {config.run_path}/run.yaml --resume",
            )

    optimizer.zero_grad()
    with (
        training_step_timeout(config, state),
        Progress(
            num_training_steps,
            state,
            accelerator.device,
            visible=accelerator.is_main_process,
            folder=run.folder if run else None,
            track=accelerator.log,
        ) as progress,
    ):
        if generators:
            generators.restore()
        if scored and state.evaluation_due:
            evaluate_now(*scored)
            save_or_stop()
        # Within an epoch they are put back once more, when its iterator exists and has drawn.
        generators = RngState.capture() if generators and state.batches_done else None
        for epoch in range(state.epochs_done, num_epochs):
            if is_finished(state, config, num_training_steps):
                break
            if hasattr(train_dataloader, "set_epoch"):
                train_dataloader.set_epoch(epoch)
            batches = train_dataloader
            if state.batches_done:  # resumed within this epoch
                batches = skip_first_batches(train_dataloader, state.batches_done)
            for window in windows(batches, train_dataloader, state.batches_done, config):
                if generators:
                    generators.restore()
                    generators = None
                model.train()
                weights = [weight_of(loss_fn, batch["labels"][:own]) for batch, own in window]
                window_weight = sum_over_processes(sum(weights), accelerator)
                step_loss = torch.zeros((), device=accelerator.device)
                for number, ((batch, _), weight) in enumerate(zip(window, weights, strict=True), 1):
                    with nullcontext() if number == len(window) else accelerator.no_sync(model):
                        outputs = model(**model_inputs_of(batch))
                        loss = loss_fn(outputs, batch["labels"]) if loss_fn else outputs.loss
                        # By the rows of the window, on all processes, and not by its batches: a
                        # ragged last batch counts for the rows it has. The processes' gradients are
                        # averaged, hence times their number. Alone with one batch it is exactly 1.
                        loss = loss * (weight * accelerator.num_processes / window_weight)
                        accelerator.backward(loss)
                    step_loss += loss.detach()
                grad_norm = accelerator.clip_grad_norm_(
                    model.parameters(), config.max_grad_norm or math.inf
                )
                learning_rate = learning_rate_of(optimizer)
                optimizer.step()
                if not (by_metric or accelerator.optimizer_step_was_skipped):
                    lr_scheduler.step()
                optimizer.zero_grad()

                rows_before = rows_in(train_dataloader, state.batches_done)
                rows = rows_in(train_dataloader, state.batches_done + len(window)) - rows_before
                state.count_step(len(window), len(train_dataloader))
                progress.step(accelerator.reduce(step_loss, "mean"), rows)
                is_logged = state.step % config.logging_steps == 0
                # On a GPU the loss is read only when it is logged: reading it waits for the device.
                if is_logged or accelerator.device.type == "cpu":
                    loss_so_far = progress.mean_loss()
                    if not math.isfinite(loss_so_far):
                        numbers = row_numbers(window, accelerator)
                        raise diverged(loss_so_far, learning_rate, state, run, numbers)
                if scored and evaluation_is_due(state, config, num_training_steps):
                    evaluate_now(*scored)
                if is_logged or is_finished(state, config, num_training_steps):
                    progress.log(grad_norm, learning_rate)
                save_or_stop()
                if is_finished(state, config, num_training_steps):
                    break
    if run and config.load_best_model_at_end and state.best_score is not None:
        run.checkpoints.load_best(model, state.best_step)
    return state


def windows(
    batches: DataLoader[Batch], train_dataloader: DataLoader[Batch], start: int, config: TrainConfig
) -> Iterator[list[tuple[Batch, int]]]:
    """The batches of an optimizer step each, with how many of their rows count; the last may be fewer.

    Args:
        batches: of an epoch, from number `start` on.
        train_dataloader: all of the epoch's.
    """
    numbered = (
        own_part(batch, train_dataloader, number) for number, batch in enumerate(batches, start)
    )
    while window := list(islice(numbered, config.gradient_accumulation_steps)):
        yield window


def sum_over_processes(value: float, accelerator: Accelerator) -> Any:
    """The sum of every process's number; alone it is the number itself."""
    if accelerator.num_processes == 1:
        return value
    return accelerator.reduce(torch.tensor(float(value), device=accelerator.device), "sum")


def row_numbers(window: list[tuple[Batch, int]], accelerator: Accelerator) -> list[int]:
    """The numbers of the rows of a step, over all processes."""
    known = [batch[ROW_NUMBERS][:own] for batch, own in window if ROW_NUMBERS in batch]
    if not known:
        return []
    padded = accelerator.pad_across_processes(torch.cat(known), pad_index=-1)
    return [number for number in accelerator.gather(padded).tolist() if number >= 0]


def learning_rate_of(optimizer: torch.optim.Optimizer | AcceleratedOptimizer) -> float:
    """The learning rate of the next step."""
    return float(optimizer.param_groups[0]["lr"])


def is_finished(state: TrainState, config: TrainConfig, num_training_steps: int) -> bool:
    """Whether all steps are done, or early stopping ends the run."""
    return state.step >= num_training_steps or state.out_of_patience(config)


def evaluation_is_due(state: TrainState, config: TrainConfig, num_training_steps: int) -> bool:
    """Whether this step ends with an evaluation; the last one does, unless there are none."""
    if config.eval_strategy == "no":
        return False
    if config.eval_strategy == "epoch":
        return state.batches_done == 0 or state.step == num_training_steps
    return state.step % config.eval_steps == 0 or state.step == num_training_steps


def saving_is_due(state: TrainState, config: TrainConfig, num_training_steps: int) -> bool:
    """Whether this step ends with a checkpoint."""
    if config.save_strategy == "no" or state.evaluation_due:
        return False
    if config.save_strategy == "epoch":
        return state.batches_done == 0 or is_finished(state, config, num_training_steps)
    return state.step % config.save_steps == 0 or is_finished(state, config, num_training_steps)


def diverged(
    loss: float, learning_rate: float, state: TrainState, run: OpenRun | None, rows: list[int]
) -> DivergedError:
    """What to say of a loss that is not finite: where, with which rows, and what is left."""
    in_rows = f", training rows {', '.join(map(str, rows))}" if rows else ""
    kept = list_checkpoints(run.checkpoints.folder) if run else []
    return DivergedError(
        f"the loss is {loss} (learning rate {learning_rate:.2e}, epoch {state.epoch:.4f}{in_rows})",
        where=f"step {state.step}",
        fix="try a lower --learning-rate or some --warmup-steps"
        + (f"; the last checkpoint is {kept[-1]}" if kept else ""),
    )
