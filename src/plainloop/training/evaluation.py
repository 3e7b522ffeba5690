"""evaluate(): the evaluation loop."""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from plainloop.console import progress_bar
from plainloop.data.batches.loaders import ROW_NUMBERS, Batch, drop_duplicate_rows, model_inputs_of
from plainloop.metrics.row_predictions import KeptRows
from plainloop.metrics.task_metric import Metric, Scores, predictions_of
from plainloop.run.signals import StopRequest
from plainloop.training.loss import LossFn


def evaluate(
    model: nn.Module,
    eval_dataloader: DataLoader[Batch],
    metric: Metric,
    *,
    accelerator: Accelerator,
    loss_fn: LossFn | None = None,
    description: str = "Evaluating",
    stop: StopRequest | None = None,
    rows: KeptRows | None = None,
) -> Scores | None:
    """Score a model on every row of a loader.

    Args:
        model: returns `logits` (rows, labels) and, given labels, `loss`, the mean over the rows.
        eval_dataloader: prepared by the accelerator; a batch holds labels and, with several
            processes, idx: the number of each row, by which each is scored exactly once.
        metric: anything with `add_batch(predictions=, references=)` and `compute()`; it is given
            logits where it has `takes_logits`, else what `predictions_of` makes of them.
        accelerator: gathers the rows of all processes.
        loss_fn: for a model that returns no loss of its own.
        description: the label of the progress bar.
        stop: asked after each batch.
        rows: takes in each row's number, logits and label; a batch must hold idx then.

    Returns:
        loss, the mean over the rows of the model's own loss, whatever loss it is trained on; and
        what the metric computes. None where a stop was asked for before all rows were scored.
    """
    model.eval()
    takes_logits = getattr(metric, "takes_logits", False)
    model_config = getattr(accelerator.unwrap_model(model), "config", None)
    problem_type = getattr(model_config, "problem_type", None)
    row_losses, row_numbers = [], []
    bar = progress_bar(
        eval_dataloader,
        desc=description,
        unit="batch",
        leave=False,
        visible=accelerator.is_main_process,
    )
    for number, padded_batch in enumerate(bar):
        batch, num_rows = drop_duplicate_rows(padded_batch, eval_dataloader, number)
        with torch.no_grad():
            outputs: Any = model(**model_inputs_of(batch))
        loss: Any = getattr(outputs, "loss", None)
        if loss is None and loss_fn:
            loss = loss_fn(outputs, batch["labels"])
        scored: tuple[torch.Tensor, ...] = (
            outputs.logits,
            batch["labels"],
            loss.repeat(len(batch["labels"])),
        )
        if accelerator.num_processes > 1 or ROW_NUMBERS in batch:
            scored, numbers = gather_rows(scored, batch[ROW_NUMBERS], num_rows, accelerator)
            row_numbers += numbers
        logits, references, losses = (value.cpu() for value in scored)
        predictions: Any = logits.float().numpy()
        if not takes_logits:
            predictions = predictions_of(predictions, problem_type or "single_label_classification")
        metric.add_batch(predictions=predictions, references=references.numpy())
        if rows:
            numbers_here = np.array(row_numbers[-len(references) :])
            rows.add(numbers_here, logits.float().numpy(), references.numpy())
        row_losses.append(losses.float().numpy())
        if stop and stop.agreed(accelerator):
            metric.compute()  # leaves nothing behind for the next evaluation
            bar.close()
            return None
    if row_numbers:
        check_each_once(row_numbers, len(eval_dataloader.dataset))  # type: ignore[arg-type]
    # A mean over rows, in float32 as the Trainer's is.
    mean_loss = float(np.concatenate(row_losses).mean())
    return {"loss": mean_loss, **(metric.compute() or {})}


def gather_rows(
    scored: tuple[torch.Tensor, ...], numbers: torch.Tensor, own: int, accelerator: Accelerator
) -> tuple[tuple[torch.Tensor, ...], list[int]]:
    """The rows of all processes, in their order, each once.

    Args:
        scored: tensors of this process's rows.
        numbers: the rows' numbers.
        own: how many of them count; see `drop_duplicate_rows`.

    Returns:
        The tensors with all rows, and the rows' numbers.
    """
    if accelerator.num_processes == 1:
        return scored, numbers.tolist()
    is_own = torch.arange(len(numbers), device=numbers.device) < own
    numbers = torch.where(is_own, numbers, -1)
    padded = accelerator.pad_across_processes((*scored, numbers), pad_index=-1)
    *gathered, numbers = accelerator.gather(padded)
    kept = numbers >= 0
    return tuple(value[kept] for value in gathered), numbers[kept].tolist()


def check_each_once(row_numbers: list[int], num_rows: int) -> None:
    """Check that every row was scored, and none twice: else the scores are of something else.

    Raises:
        RuntimeError: they were not.
    """
    if not len(set(row_numbers)) == len(row_numbers) == num_rows:
        raise RuntimeError(
            f"{len(row_numbers)} rows were scored, {len(set(row_numbers))} different ones, of {num_rows}"
        )
