"""Metrics that an ejected script computes with numpy alone, as Python expressions."""

from plainloop.config.tasks import Task

METRIC_LINES = {
    "single_label_classification": {
        "accuracy": "float((predictions == labels).mean())",
        "f1": "float(2 * hits / max(predictions.sum() + labels.sum(), 1))",
        "f1_macro": "float(f1[either > 0].mean())",
        "f1_weighted": "float(np.average(f1, weights=support))",
        "matthews_correlation": "float(covariance / math.sqrt(spread)) if spread > 0 else 0.0",
    },
    "multi_label_classification": {
        "f1_micro": "float(2 * hits.sum() / max(either.sum(), 1))",
        "f1_macro": "float(f1.mean())",
        "accuracy": "float((predictions == labels).all(axis=1).mean())",
    },
    "regression": {
        "rmse": "math.sqrt(((predictions - labels) ** 2).mean())",
        "mae": "np.abs(predictions - labels).mean()",
        "r2": "1 - ((predictions - labels) ** 2).sum() / (len(labels) * labels.var())",
        "pearson": "correlation(predictions, labels)",
        "spearmanr": "correlation(ranks(predictions), ranks(labels))",
    },
}
"""Problem type -> metric -> expression; parts/evaluation.jinja defines the variables in it."""


def script_metrics(task: Task) -> list[str]:
    """Select the task's metrics that a script computes, in the task's order.

    The others (log_loss, roc_auc, average_precision and per-label scores) need scikit-learn, which
    a script does not use.
    """
    return [name for name in task.metrics if name in METRIC_LINES[task.problem_type]]
