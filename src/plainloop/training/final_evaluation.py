"""evaluate_saved(): the saved model on every split that it was not trained on, row by row."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from plainloop.config.settings import TrainConfig
from plainloop.data.batches.loaders import Batch
from plainloop.metrics.analysis import analyse
from plainloop.metrics.decision import DECISION_FILE, Decision, decided_labels, decides
from plainloop.metrics.row_predictions import KeptRows, RowPredictions
from plainloop.metrics.task_metric import Metric, Scores, TaskMetric
from plainloop.metrics.threshold_effect import describe_decision
from plainloop.metrics.thresholds import choose_decision
from plainloop.run.folder import RunFolder
from plainloop.run.rank_failure import collective_timeout
from plainloop.training.evaluation import evaluate
from plainloop.training.prepare import Inputs

if TYPE_CHECKING:
    from plainloop.data.quality.summary import Findings


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
    models; and the scores of each split but validation, whose are there already as saved. Where the
    settings ask for a decision, the validation rows choose it, it is kept in the folder, and other
    splits are scored with it.

    Args:
        model: as trained, on the accelerator's device.
        dataloaders: not prepared.
        metric: see `evaluate`; of the model as trained.
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
    task = inputs.task
    decision: Decision | None = None
    kept: dict[str, RowPredictions] = {}
    for split in sorted(splits, key=lambda split: split != "validation"):  # it chooses
        dataloader, rows = accelerator.prepare(dataloaders[split]), KeptRows()
        if decision:
            metric = TaskMetric(task.metrics, task.problem_type, task.label_names, decision)
        with collective_timeout(config.step_timeout):
            scores = evaluate(model, dataloader, metric, accelerator=accelerator, rows=rows) or {}
        if split != "validation":
            metrics[split] = scores
        kept[split] = predictions = rows.beside(inputs.raw[split], task, decision)
        if folder:
            predictions.save(folder.path, split)
            metrics["analysis"][split] = analyse(predictions, task)
        if split == "validation" and decides(config):  # each process: their rows are the same
            decision = choose_decision(
                predictions.logits, predictions.references, task.problem_type, config
            )
        yield split, scores
    if folder:
        if decision:
            decision.save(folder.path, decided_labels(task))
            metrics["decision"] = describe_decision(kept, task, config, decision)
        else:  # of a run that was resumed with --force
            (folder.path / DECISION_FILE).unlink(missing_ok=True)
        metrics["data"] = describe_findings(inputs.check.complete)
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
