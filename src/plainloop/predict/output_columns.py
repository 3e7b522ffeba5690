"""Turn logits into label names, probabilities and output columns."""

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
    """The prediction of each row: a label name, a list of names, or a value.

    Args:
        logits: float (rows, num_labels).
        task: its names and what its logits mean.
        decision: what makes labels of the logits; None: as trained.
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
    """The probability of each label, float64 (rows, label names): none for a regression."""
    return compute_probabilities(logits, task.problem_type, decision)[:, : len(task.label_names)]


def name_columns(task: Task, names: Sequence[str], where: str) -> list[str]:
    """Names of the added columns, none of which may be in the file.

    Args:
        task: what is predicted.
        names: the file's columns.
        where: what messages call the file.

    Returns:
        label, or prediction where there is a column label; and probability_NAME for each label. For
        a regression prediction alone.

    Raises:
        UserError: the file has such columns.
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
    """The columns that `name_columns` names.

    Args:
        logits: float (rows, num_labels).
        task: its names and what its logits mean.
        label_separator: between the labels of a row that may have several; None: they are a list.
        decision: what makes labels and probabilities of the logits; None: as trained.

    Returns:
        string, list(string) or float32; then float64 for each label.
    """
    kinds = {
        "single_label_classification": pa.string(),
        "multi_label_classification": pa.list_(pa.string()),
        "regression": pa.float32(),  # what the model gives, without digits that say nothing
    }
    column = pa.array(labels_of(logits, task, decision), kinds[task.problem_type])
    if label_separator is not None:
        column = pc.binary_join(column, label_separator)
    return [column, *map(pa.array, label_scores(logits, task, decision).T)]
