"""Evaluation of the trained model on each split but train, row by row, for the reports."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from plainloop.config.settings import TrainConfig
from plainloop.data.batches.loaders import Batch
from plainloop.metrics.analysis import add_places, analyse
from plainloop.metrics.decision_effect import measure_decision
from plainloop.metrics.decision_rule import (
    DECISION_FILE,
    OLD_DECISION_FILE,
    DecisionRule,
    fits_decision,
    threshold_labels,
)
from plainloop.metrics.row_predictions import PredictionCollector, RowPredictions
from plainloop.metrics.scorer import Scores
from plainloop.metrics.task_metric import Metric, TaskMetric
from plainloop.metrics.thresholds import fit_decision
from plainloop.model.matrix_products import use_products
from plainloop.run.manifest import write_manifest
from plainloop.run.rank_failure import collective_timeout
from plainloop.run.resume import OpenRun
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
    run: OpenRun,
) -> Iterator[tuple[str, Scores]]:
    """Evaluate a trained model on each split but train; yield the split's name and its scores.

    Saves each row's prediction in the run's folder, and in metrics.json: "analysis" of each split;
    "data", the findings in the data and the scores of baselines; and the scores of each split but
    validation, whose scores "saved" has. If the settings ask for thresholds or calibration, they are
    fitted on the validation rows, saved in the folder and used for the other splits.

    Args:
        model: as trained, on the accelerator's device.
        dataloaders: not prepared, by split.
        metric: see `evaluate`; scores without thresholds.
        metrics: from `summarize`; results are added to it.
        inputs: the rows as read, and the task.
        config: eval_strategy "no" leaves out validation; step_timeout is in seconds.
        accelerator: gathers the rows of all processes.
        run: results are written into its folder, by the main process.
    """
    folder = run.folder
    splits = [split for split in dataloaders if split != "train"]
    if config.eval_strategy == "no":
        splits.remove("validation")
    metrics["analysis"] = {}
    task = inputs.task
    decision: DecisionRule | None = None
    kept: dict[str, RowPredictions] = {}
    for split in sorted(splits, key=lambda split: split != "validation"):  # it chooses
        dataloader, rows = accelerator.prepare(dataloaders[split]), PredictionCollector()
        if decision:
            metric = TaskMetric(task.metrics, task.problem_type, task.label_names, decision)
        with collective_timeout(config.step_timeout), use_products(run.products):
            scores = evaluate(model, dataloader, metric, accelerator=accelerator, rows=rows) or {}
        if split != "validation":
            metrics[split] = scores
        kept[split] = predictions = rows.finish(inputs.raw[split], task, decision)
        if folder:
            predictions.save(folder.path, split)
            metrics["analysis"][split] = analysis = analyse(predictions, task)
            add_places(analysis, partial(inputs.check.show, split))
        if split == "validation" and fits_decision(config):  # each process: their rows are the same
            decision = fit_decision(
                predictions.logits, predictions.references, task.problem_type, config
            )
        yield split, scores
    if folder:
        for name in (DECISION_FILE, OLD_DECISION_FILE):  # of a run that was resumed with --force
            (folder.path / name).unlink(missing_ok=True)
        if decision:
            decision.save(folder.path, threshold_labels(task))
            metrics["decision"] = measure_decision(kept, task, config, decision)
        metrics["data"] = describe_findings(inputs.check.complete)
        folder.save_metrics(metrics)
        write_manifest(folder.path)


def describe_findings(findings: "Findings") -> dict[str, Any]:
    """Convert findings for metrics.json: rows per split, baseline scores, findings and the rows they concern."""
    return {
        "rows": {name: split.rows for name, split in findings.splits.items()},
        "baselines": findings.baselines,
        "findings": [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "message": str(finding),
                "count": finding.count,
            }
            for finding in findings.found
        ],
    }
