"""The evaluation loop: loss and metrics of a model over all rows of a loader."""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from plainloop.console import progress_bar
from plainloop.data.batches.loaders import ROW_NUMBERS, Batch, drop_duplicate_rows, model_inputs_of
from plainloop.metrics.decision_rule import predict_labels
from plainloop.metrics.row_predictions import PredictionCollector
from plainloop.metrics.scorer import Scores
from plainloop.metrics.task_metric import Metric
from plainloop.run.signals import StopRequest
from plainloop.training.checks import check_eval_mode
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
    rows: PredictionCollector | None = None,
) -> Scores | None:
    """Evaluate a model on every row of a loader, each exactly once over all processes.

    Args:
        model: returns `logits` (rows, labels) and, given labels, `loss`, the mean over the rows.
        eval_dataloader: prepared by the accelerator; a batch holds labels and, with several
            processes, idx: the number of each row, by which each is scored exactly once.
        metric: anything with `add_batch(predictions=, references=)` and `compute()`; it is given
            logits where it has `takes_logits`, else what `predict_labels` makes of them.
        accelerator: gathers the rows of all processes.
        loss_fn: used if the model returns no loss.
        description: label of the progress bar.
        stop: checked after each batch.
        rows: collects each row's number, logits and label; batches must hold idx then.

    Returns:
        "loss", the mean over rows of the loss inside the model, whatever loss it is trained on, and
        what the metric computes. None if a stop was requested before all rows were scored.

    Raises:
        UserError: a module of the model stays in training mode.
        RuntimeError: a row was not scored, or scored twice.
    """
    model.eval()
    check_eval_mode(model)
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
    for number, filled_batch in enumerate(bar):
        batch, num_rows = drop_duplicate_rows(filled_batch, eval_dataloader, number)
        with torch.no_grad():
            outputs: Any = model(**model_inputs_of(batch))
        loss: Any = getattr(outputs, "loss", None)
        if loss is None and loss_fn:
            loss = loss_fn(outputs, batch["labels"])
        labels = batch["labels"]
        # A batch's mean loss, once per row: the mean over all rows is then right with ragged batches.
        scored: tuple[torch.Tensor, ...] = (outputs.logits, labels, loss.repeat(len(labels)))
        if accelerator.num_processes > 1 or ROW_NUMBERS in batch:
            scored, numbers = gather_rows(scored, batch[ROW_NUMBERS], num_rows, accelerator)
            row_numbers += numbers
        logits, references, losses = (value.cpu() for value in scored)
        predictions: Any = logits.float().numpy()
        if not takes_logits:
            predictions = predict_labels(predictions, problem_type or "single_label_classification")
        metric.add_batch(predictions=predictions, references=references.numpy())
        if rows:
            numbers_here = np.array(row_numbers[-len(references) :])
            rows.add(numbers_here, logits.float().numpy(), references.numpy())
        row_losses.append(losses.float().numpy())
        if stop and stop.signal_on_any_rank(accelerator):
            metric.compute()  # empties the metric for the next evaluation
            bar.close()
            return None
    if row_numbers:
        check_each_once(row_numbers, len(eval_dataloader.dataset))  # type: ignore[arg-type]
    # In float32, as the Trainer computes it.
    mean_loss = float(np.concatenate(row_losses).mean())
    return {"loss": mean_loss, **(metric.compute() or {})}


def gather_rows(
    scored: tuple[torch.Tensor, ...], numbers: torch.Tensor, num_rows: int, accelerator: Accelerator
) -> tuple[tuple[torch.Tensor, ...], list[int]]:
    """Gather the rows of all processes, without the duplicates that fill up the last batches.

    Args:
        scored: tensors of this process, each (rows, ...).
        numbers: int (rows,), the number of each row.
        num_rows: how many of them are not duplicates; see `drop_duplicate_rows`.

    Returns:
        The tensors with the rows of all processes in order of rank, and the rows' numbers.
    """
    if accelerator.num_processes == 1:
        return scored, numbers.tolist()
    # Duplicates get the number -1, as does the padding to the largest batch of any process.
    is_counted = torch.arange(len(numbers), device=numbers.device) < num_rows
    numbers = torch.where(is_counted, numbers, -1)
    padded = accelerator.pad_across_processes((*scored, numbers), pad_index=-1)
    *gathered, numbers = accelerator.gather(padded)
    kept = numbers >= 0
    return tuple(value[kept] for value in gathered), numbers[kept].tolist()


def check_each_once(row_numbers: list[int], num_rows: int) -> None:
    """Check that every row was scored exactly once.

    Raises:
        RuntimeError: a row was not scored, or scored twice.
    """
    if not len(set(row_numbers)) == len(row_numbers) == num_rows:
        raise RuntimeError(
            f"{len(row_numbers)} rows were scored, {len(set(row_numbers))} different ones, of {num_rows}"
        )
