"""What is made of a model's logits besides their own answer: a temperature and thresholds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainloop.atomic_file import write_json
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DECISION_FILE = "decision.json"
VERSION = 1


@dataclass(frozen=True)
class Decision:
    """How labels and probabilities are made of logits.

    Each may also hold a value for each row, (rows, 1) and (rows, labels), where rows were decided by
    others than themselves.

    Attributes:
        temperature: what logits are divided by before they become probabilities.
        thresholds: a row has a label where its probability is above this, (labels,): that of label 1
            of two, or of each where a row may have several. None: above one half, or the largest.
    """

    temperature: "float | NDArray[np.float64]" = 1.0
    thresholds: "tuple[float, ...] | NDArray[np.float64] | None" = None

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write decision.json into a run's folder.

        Args:
            folder: of the run.
            label_names: the labels that the thresholds are of, in their order.
        """
        thresholds: Any = self.thresholds
        content = {
            "version": VERSION,
            "temperature": self.temperature,
            "thresholds": None
            if thresholds is None
            else dict(zip(label_names, thresholds, strict=True)),
        }
        write_json(folder / DECISION_FILE, content)


def decides(config: TrainConfig) -> bool:
    """Whether the validation rows choose thresholds or a temperature."""
    return bool(config.threshold_metric or config.threshold_costs or config.calibrate)


def decided_labels(task: Task) -> tuple[str, ...]:
    """The labels that have a threshold: each where a row may have several, else label 1 of two."""
    several = task.problem_type == "multi_label_classification"
    return task.label_names if several else task.label_names[1:]


def load_decision(folder: Path) -> Decision | None:
    """The decision that was saved with a run; None where there is none.

    Raises:
        UserError: the file is damaged, or of a newer version.
    """
    path = folder / DECISION_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, thresholds = content["version"], content["thresholds"]
        decision = Decision(
            float(content["temperature"]),
            None if thresholds is None else tuple(map(float, thresholds.values())),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"cannot be read: {type(error).__name__}",
            where=str(path),
            fix="restore the file, or train the run anew",
        ) from None
    if version != VERSION:
        raise UserError(
            f"is of version {version}, this plainloop knows {VERSION}",
            where=str(path),
            fix="use the version of plainloop that wrote the run",
        )
    return decision
