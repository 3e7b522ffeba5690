"""Convert logits to label names, probabilities and output columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.config.tasks import Task
from plainloop.errors import UserError
from plainloop.metrics.decision_rule import DecisionRule, compute_probabilities, predict_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def labels_of(
    logits: "NDArray[np.float32]", task: Task, decision: DecisionRule | None = None
) -> list[Any]:
    """Return the prediction of each row: a label name, a list of names, or a float for regression.

    Args:
        logits: float32 (rows, num_labels).
        task: label names and problem type.
        decision: thresholds and temperature; None for argmax, or 0.5 for multi-label.
    """
    predictions = predict_labels(logits, task.problem_type, decision)
    names = task.label_names
    if task.problem_type == "single_label_classification":
        return [names[label] for label in predictions]
    if task.problem_type == "multi_label_classification":
        return [[names[label] for label in row.nonzero()[0]] for row in predictions]
    values: list[float] = predictions.tolist()
    return values


def label_scores(
    logits: "NDArray[np.float32]", task: Task, decision: DecisionRule | None = None
) -> "NDArray[np.float64]":
    """Return the probability of each label, float64 (rows, num_labels); (rows, 0) for regression."""
    return compute_probabilities(logits, task.problem_type, decision)[:, : len(task.label_names)]


def name_columns(task: Task, names: Sequence[str], where: str) -> list[str]:
    """Choose the names of the added columns.

    Args:
        task: task of the run.
        names: columns of the file.
        where: name of the file in messages.

    Returns:
        `label`, or `prediction` if the file has a column `label`; then `probability_NAME` for each
        label. For regression only `prediction`.

    Raises:
        UserError: the file already has a column of such a name.
    """
    is_label = task.label_names and "label" not in names
    added = ["label" if is_label else "prediction"]
    added += [f"probability_{name}" for name in task.label_names]
    taken = [name for name in added if name in names]
    if taken:
        raise UserError(
            f"has a column {', '.join(map(repr, taken))} already",
            where=where,
            fix="rename or take out what the prediction would be called",
        )
    return added


def make_columns(
    logits: "NDArray[np.float32]",
    task: Task,
    label_separator: str | None,
    decision: DecisionRule | None = None,
) -> list[pa.Array]:
    """Create the columns that `name_columns` names.

    Args:
        logits: float32 (rows, num_labels).
        task: label names and problem type.
        label_separator: joins the labels of a multi-label row into a string; None gives a list.
        decision: thresholds and temperature; None for argmax, or 0.5 for multi-label.

    Returns:
        The predictions, (rows,), as string, list(string) or float32; then the probabilities of each
        label, float64 (rows,).
    """
    kinds = {
        "single_label_classification": pa.string(),
        "multi_label_classification": pa.list_(pa.string()),
        "regression": pa.float32(),  # the model's precision: float64 would add meaningless digits
    }
    column = pa.array(labels_of(logits, task, decision), kinds[task.problem_type])
    if label_separator is not None:
        column = pc.binary_join(column, label_separator)
    return [column, *map(pa.array, label_scores(logits, task, decision).T)]
