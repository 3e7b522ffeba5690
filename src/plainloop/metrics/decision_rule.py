"""DecisionRule: the temperature and thresholds that turn logits into probabilities and labels."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plainloop.atomic_file import write_json
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import ProblemType, Task
from plainloop.errors import CheckpointError, printable, printable_path

DECISION_FILE = "decision_rule.json"
OLD_DECISION_FILE = "decision.json"
"""The name in plainloop 0.1.0. Transformers has its own format for a file of that name."""
VERSION = 1


@dataclass(frozen=True)
class DecisionRule:
    """How probabilities and labels are computed from logits.

    Cross-fitting gives each row its own rule: then both are arrays with a line per row, (rows, 1) and
    (rows, thresholds).

    Attributes:
        temperature: logits are divided by it before softmax or sigmoid.
        thresholds: a label is predicted if its probability is above this: one threshold for label 1
            of a binary task, one per label for multi-label rows. None: the label of the largest
            logit, or multi-label every label above one half.
    """

    temperature: "float | NDArray[np.float64]" = 1.0
    thresholds: "tuple[float, ...] | NDArray[np.float64] | None" = None

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write decision_rule.json into a run's folder.

        Args:
            folder: of the run.
            label_names: the labels of the thresholds; see `threshold_labels`.
        """
        write_json(folder / DECISION_FILE, self.to_dict(label_names))

    def to_dict(self, label_names: Sequence[str]) -> dict[str, Any]:
        """The content of decision_rule.json; `label_names` as in `save`."""
        thresholds: Any = self.thresholds
        return {
            "version": VERSION,
            "temperature": self.temperature,
            "thresholds": thresholds and dict(zip(label_names, thresholds, strict=True)),
        }


def load_decision(folder: Path, task: Task) -> DecisionRule | None:
    """The decision rule that was saved with a run; None if there is none.

    Args:
        folder: of the run.
        task: its labels, which the thresholds must be of.

    Raises:
        CheckpointError: the file is damaged or of a newer version, the temperature is not a positive
            number, or the thresholds are not probabilities, one for each label that has one.
    """
    path = next(filter(Path.exists, [folder / DECISION_FILE, folder / OLD_DECISION_FILE]), None)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.name == OLD_DECISION_FILE and "version" not in content:
            return None  # a file of Transformers
        return _to_rule(content, threshold_labels(task))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"cannot be used: {printable(error, most=200)}",
            where=printable_path(path),
            fix="restore the file, or train the run again",
        ) from None


def _to_rule(content: Any, labels: Sequence[str]) -> DecisionRule:
    temperature, thresholds = float(content["temperature"]), content["thresholds"]
    if content["version"] != VERSION:
        raise ValueError(f"it is of version {content['version']}, this plainloop knows {VERSION}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"the temperature {temperature} is not a positive number")
    if thresholds is None:
        return DecisionRule(temperature)
    if thresholds.keys() != {*labels}:
        raise ValueError(f"its thresholds are not of the label {', '.join(labels) or 'none'}")
    values = tuple(float(thresholds[name]) for name in labels)
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"its thresholds {values} are not probabilities")
    return DecisionRule(temperature, values)


def fits_decision(config: TrainConfig) -> bool:
    """Whether a run fits thresholds or a temperature on its validation rows."""
    return bool(config.threshold_metric or config.threshold_costs or config.calibrate)


def threshold_labels(task: Task) -> tuple[str, ...]:
    """The labels that can have a threshold: multi-label all, else label 1 of two."""
    if task.problem_type == "multi_label_classification":
        return task.label_names
    return task.label_names[1:] if task.num_labels == 2 else ()  # noqa: PLR2004


def format_decision(decision: DecisionRule, task: Task) -> str:
    """A decision rule on one line: its temperature, and the threshold of each label."""
    thresholds: Any = decision.thresholds
    parts = [] if decision.temperature == 1 else [f"temperature {decision.temperature:.4f}"]
    if thresholds is not None:
        named = zip(threshold_labels(task), thresholds, strict=True)
        parts += [f"{printable(name)} above {threshold:.4f}" for name, threshold in named]
    return ", ".join(parts)


def predict_labels(
    logits: ArrayLike, problem_type: ProblemType, decision: DecisionRule | None = None
) -> NDArray[Any]:
    """Labels, or for a regression values, from logits.

    Args:
        logits: float (rows, num_labels).
        problem_type: what the logits mean.
        decision: its thresholds take the place of one half.

    Returns:
        Single label: the label with the largest logit, the first of equal ones, int64 (rows,).
        Multi-label: 1 if the logit is above 0, a probability above one half, int64 (rows,
        num_labels). Regression: the value, float64 (rows,).
    """
    rows: NDArray[Any] = np.asarray(logits)
    if decision is not None and decision.thresholds is not None:
        thresholds = np.asarray(decision.thresholds)
        probabilities = compute_probabilities(logits, problem_type, decision)
        above = (probabilities[:, -thresholds.shape[-1] :] > thresholds).astype(np.int64)
        return above[:, 0] if problem_type == "single_label_classification" else above
    if problem_type == "single_label_classification":
        labels: NDArray[np.int64] = rows.argmax(axis=1)
        return labels
    if problem_type == "multi_label_classification":
        return (rows > 0).astype(np.int64)
    return rows[:, 0].astype(np.float64)


def compute_probabilities(
    logits: ArrayLike, problem_type: ProblemType, decision: DecisionRule | None = None
) -> NDArray[np.float64]:
    """The probability of each label, float64 (rows, num_labels), computed without overflow.

    Softmax for a single label, sigmoid for multi-label, of the logits divided by the temperature of
    the decision rule; for a regression the value itself.
    """
    from scipy.special import expit, softmax

    probabilities = np.asarray(logits, np.float64)
    if decision is not None:
        probabilities = probabilities / decision.temperature
    if problem_type == "single_label_classification":
        probabilities = softmax(probabilities, axis=1)
    elif problem_type == "multi_label_classification":
        probabilities = expit(probabilities)
    return probabilities
