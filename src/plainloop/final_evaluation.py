"""evaluate_saved(): the saved model on every split that it was not trained on, row by row."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from plainloop.config import TrainConfig
from plainloop.data.batches import Batch
from plainloop.evaluation import evaluate
from plainloop.inputs import Inputs
from plainloop.metrics import Metric, Scores
from plainloop.peers import waiting_at_most
from plainloop.report.analysis import analyse
from plainloop.row_predictions import KeptRows
from plainloop.run_folder import RunFolder

if TYPE_CHECKING:
    from plainloop.data.check import Findings


def evaluate_saved(
    model: nn.Module,
    dataloaders: dict[str, DataLoader[Batch]],
    metric: Metric,
    metrics: dict[str, Any],
    *,
    inputs: Inputs,
    config: TrainConfig,
    accelerator: Accelerator,
    folder: RunFolder | None,
) -> Iterator[tuple[str, Scores]]:
    """Score a trained model on each split but train; yield the split's name and its scores.

    Keeps in the run's folder what the model says of each row, and in metrics.json all that a report
    says of it: analysis, of each split; data, what the data doctor finds, and the scores of simple
    models; and the scores of each split but validation, whose are there already as saved.

    Args:
        model: as trained, on the accelerator's device.
        dataloaders: not prepared.
        metric: see `evaluate`.
        metrics: from `summarize`; what is found is added.
        inputs: the rows as read, and what the labels mean.
        config: whether the validation rows are evaluated, and how long processes wait.
        accelerator: gathers the rows of all processes.
        folder: where it is written; of one process only.
    """
    splits = [split for split in dataloaders if split != "train"]
    if config.eval_strategy == "no":
        splits.remove("validation")
    metrics["analysis"] = {}
    for split in splits:
        dataloader, rows = accelerator.prepare(dataloaders[split]), KeptRows()
        with waiting_at_most(config.step_timeout):
            scores = evaluate(model, dataloader, metric, accelerator=accelerator, rows=rows) or {}
        if split != "validation":
            metrics[split] = scores
        if folder:
            predictions = rows.beside(inputs.raw[split], inputs.task)
            predictions.save(folder.path, split)
            metrics["analysis"][split] = analyse(predictions, inputs.task)
        yield split, scores
    if folder:
        from plainloop.data.check import check_data

        metrics["data"] = describe_findings(check_data(inputs.raw, inputs.task, show=inputs.show))
        folder.save_metrics(metrics)


def describe_findings(findings: "Findings") -> dict[str, Any]:
    """The rows of each split, the baselines, and a line for each finding."""
    return {
        "rows": {name: split.rows for name, split in findings.splits.items()},
        "baselines": findings.baselines,
        "findings": [
            {"severity": finding.severity, "message": str(finding)} for finding in findings.found
        ],
    }
