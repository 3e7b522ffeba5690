"""evaluate(): the evaluation loop."""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from plainloop.data.batches import Batch
from plainloop.loss import LossFn
from plainloop.metrics import Metric, Scores
from plainloop.stopping import StopRequest


def evaluate(
    model: nn.Module,
    eval_dataloader: DataLoader[Batch],
    metric: Metric,
    *,
    accelerator: Accelerator,
    loss_fn: LossFn | None = None,
    description: str = "Evaluating",
    stop: StopRequest | None = None,
) -> Scores | None:
    """Score a model on every row of a loader.

    Args:
        model: returns `logits` (rows, labels) and, given labels, `loss`, the mean over the rows.
        eval_dataloader: prepared by the accelerator; a batch holds labels (int64, rows).
        metric: anything with `add_batch(predictions=, references=)` and `compute()`.
        accelerator: gathers the rows of all processes.
        loss_fn: for a model that returns no loss of its own.
        description: the label of the progress bar.
        stop: asked after each batch.

    Returns:
        loss, the mean over the rows of the model's own loss, whatever loss it is trained on; and
        what the metric computes. None where a stop was asked for before all rows were scored.
    """
    model.eval()
    row_losses = []
    bar = tqdm(
        eval_dataloader,
        desc=description,
        unit="batch",
        leave=False,
        disable=not accelerator.is_main_process,
    )
    for batch in bar:
        with torch.no_grad():
            outputs: Any = model(**batch)
        predictions = outputs.logits.argmax(dim=-1)
        loss: Any = getattr(outputs, "loss", None)
        if loss is None and loss_fn:
            loss = loss_fn(outputs, batch["labels"])
        losses = loss.repeat(len(predictions))
        predictions, references, losses = accelerator.gather_for_metrics(
            (predictions, batch["labels"], losses)
        )
        metric.add_batch(predictions=predictions.cpu(), references=references.cpu())
        row_losses.append(losses.float().cpu().numpy())
        if stop and stop.agreed(accelerator):
            metric.compute()  # leaves nothing behind for the next evaluation
            bar.close()
            return None
    # A mean over rows, in float32 as the Trainer's is.
    mean_loss = float(np.concatenate(row_losses).mean())
    return {"loss": mean_loss, **(metric.compute() or {})}
