"""train(): the training loop."""

import math
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from plainloop.config.settings import METRIC_SCHEDULES, TrainConfig
from plainloop.config.validation import evaluations_are_needed
from plainloop.data.batches.loaders import Batch
from plainloop.metrics.task_metric import Metric
from plainloop.model.matrix_products import use_products
from plainloop.run.rank_failure import training_step_timeout
from plainloop.run.resume import OpenRun
from plainloop.run.rng import RngState
from plainloop.run.signals import StopRequest
from plainloop.run.state import TrainState
from plainloop.training.checks import FirstStepChecks, check_train_dataloader
from plainloop.training.loss import LossFn, loss_denominator
from plainloop.training.optim import steps_per_epoch
from plainloop.training.progress import Progress
from plainloop.training.session import Session
from plainloop.training.steps import (
    all_reduce_sum,
    count_rows,
    optimizer_steps,
)


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
    """Train a model; evaluate, log and save as the settings say.

    Args:
        model: takes a batch as keywords and returns `loss` (the mean over its rows) and `logits`;
            prepared by the accelerator, as are the next two and eval_dataloader.
        optimizer: of the model's parameters.
        train_dataloader: the training rows' batches, in which `labels` has one entry a row. With one
            that `create_dataloaders` did not make, exact resume is not promised.
        lr_scheduler: not prepared; moves once an optimizer step.
        config: which settings it uses: accumulation, clipping, logging, evaluation, best model.
        accelerator: with accumulation left at 1, since the loop does it itself.
        num_training_steps: optimizer steps of the run, those before a resume included.
        eval_dataloader: the batches to evaluate on.
        metric: scores an evaluation; without it or a loader for it nothing is evaluated.
        loss_fn: instead of the model's own loss; `plainloop.training.loss.LossFn` says what it must be.
        run: where records, checkpoints and the best model go, and what to resume from; without it
            nothing is written.
        stop: asked after every step.

    Returns:
        The state at the end, with the records of every logged step and evaluation.

    Raises:
        DivergedError: the loss or a weight is not finite; no checkpoint of it was saved.
        StoppedError: a signal ended the run; a checkpoint was saved.
        MachineError: a checkpoint could not be written.
    """
    check_arguments(config, train_dataloader, eval_dataloader, metric, run)
    state, rng_state = (run and run.resumed) or (TrainState(), RngState.capture())
    by_metric = config.lr_scheduler_type in METRIC_SCHEDULES
    num_epochs = math.ceil(num_training_steps / steps_per_epoch(len(train_dataloader), config))
    progress = Progress(num_training_steps, state, accelerator=accelerator, run=run)
    session = Session(
        config=config,
        accelerator=accelerator,
        state=state,
        progress=progress,
        num_training_steps=num_training_steps,
        run=run,
        stop=stop,
    )
    checks = FirstStepChecks(
        model, optimizer, lr_scheduler, accelerator=accelerator, loss_fn=loss_fn, run=run
    )
    optimizer.zero_grad()
    with training_step_timeout(config, state), use_products(session.products), progress:
        rng_state.restore()
        if state.evaluation_due:  # a signal interrupted the evaluation after the last step
            scores = session.evaluate(model, eval_dataloader, metric, loss_fn)
            if scores and by_metric:
                lr_scheduler.step(scores.get(config.best_metric, math.nan))  # type: ignore[arg-type]
            session.save_or_stop(model, optimizer, lr_scheduler)
            rng_state = RngState.capture()
        for epoch in range(state.epochs_done, num_epochs):
            if session.training_is_done:
                break
            if hasattr(train_dataloader, "set_epoch"):
                train_dataloader.set_epoch(epoch)
            for micro_batches in optimizer_steps(train_dataloader, state, config, rng_state):
                model.train()
                # The mean loss of a step is over its rows on all processes, not over its batches:
                # 4 batches of 8 equal one of 32, and a short last batch counts for its rows.
                denominators = [loss_denominator(loss_fn, batch.labels) for batch in micro_batches]
                step_denominator = all_reduce_sum(sum(denominators), accelerator)
                step_loss = torch.zeros((), device=accelerator.device)
                for batch, denominator in zip(micro_batches, denominators, strict=True):
                    # DDP exchanges gradients in backward: once a step, with the last batch.
                    is_last = batch is micro_batches[-1]
                    with nullcontext() if is_last else accelerator.no_sync(model):
                        outputs = model(**batch.inputs)
                        loss = loss_fn(outputs, batch.inputs["labels"]) if loss_fn else outputs.loss
                        # Times the processes, over which DDP averages. With one batch exactly 1.
                        loss = loss * (denominator * accelerator.num_processes / step_denominator)
                        accelerator.backward(loss)
                    step_loss += loss.detach()
                max_grad_norm = config.max_grad_norm or math.inf  # inf: measured, not clipped
                grad_norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
                learning_rate = float(optimizer.param_groups[0]["lr"])
                optimizer.step()
                checks.after_step(outputs, batch.inputs["labels"], state.step)  # the first only
                if not (by_metric or accelerator.optimizer_step_was_skipped):  # float16 overflow
                    lr_scheduler.step()
                optimizer.zero_grad()

                rows = count_rows(train_dataloader, state.batches_done, len(micro_batches))
                state.count_step(len(micro_batches), len(train_dataloader))
                progress.step(accelerator.reduce(step_loss, "mean"), rows)
                is_logged = state.step % config.logging_steps == 0
                if session.reads_loss:  # which waits for a GPU: not after every step
                    session.raise_if_diverged(progress.mean_loss(), learning_rate, micro_batches)
                if session.should_evaluate:
                    scores = session.evaluate(model, eval_dataloader, metric, loss_fn)
                    if scores and by_metric:
                        lr_scheduler.step(scores.get(config.best_metric, math.nan))  # type: ignore[arg-type]
                if is_logged or session.training_is_done:
                    progress.log(grad_norm, learning_rate)
                # Before it raises StoppedError it saves a checkpoint, whether one is due or not.
                session.save_or_stop(model, optimizer, lr_scheduler)
                if session.training_is_done:
                    break
    session.load_best_model(model)
    return state


def check_arguments(
    config: TrainConfig,
    train_dataloader: DataLoader[Batch],
    eval_dataloader: DataLoader[Batch] | None,
    metric: Metric | None,
    run: OpenRun | None,
) -> None:
    """Check what `train` was called with, before anything is trained.

    Raises:
        ValueError: a setting needs an argument that is missing, or the loader cannot be used.
    """
    if (eval_dataloader is None or metric is None) and evaluations_are_needed(config):
        raise ValueError("these settings need an eval_dataloader and a metric")
    if config.load_best_model_at_end and run is None:
        raise ValueError("load_best_model_at_end needs a run, to keep the best model in")
    check_train_dataloader(train_dataloader, run)
