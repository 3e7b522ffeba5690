"""The mean prediction of several seeds of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from plainloop.config.tasks import ProblemType
from plainloop.metrics.decision_rule import compute_probabilities

if TYPE_CHECKING:
    from plainloop.predict.classifier import Classifier


def seed_folders(path: Path) -> list[Path]:
    """The folders of the seeds in a folder, sorted by seed; no seed-N.old of an --overwrite."""
    found = [folder for folder in path.glob("seed-*") if folder.name[5:].isdecimal()]
    return sorted(found, key=lambda folder: int(folder.name[5:]))


def average_logits(
    logits: Sequence[NDArray[np.float32]], problem_type: ProblemType
) -> NDArray[np.float32]:
    """Logits of the mean probabilities of several models; for a regression the mean values.

    Args:
        logits: of each model, float32 (rows, num_labels).
        problem_type: gives the probabilities, by softmax or sigmoid.
    """
    each = [compute_probabilities(of_model, problem_type) for of_model in logits]
    mean: NDArray[np.float64] = np.mean(each, axis=0)
    if problem_type == "regression":
        return mean.astype(np.float32)
    # A probability of 0 or 1, of which no logit is finite, is only a rounded one.
    mean = np.clip(mean, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)
    found = np.log(mean)
    if problem_type == "multi_label_classification":
        found -= np.log1p(-mean)
    return np.asarray(found, np.float32)


class Ensemble:
    """Several classifiers, whose mean prediction is that of each row."""

    def __init__(self, members: Sequence["Classifier"], problem_type: ProblemType) -> None:
        self.members, self.problem_type = members, problem_type

    def logits(
        self, texts: Sequence[Sequence[str]], batch_size: int, *, first_row: int = 1
    ) -> NDArray[np.float32]:
        """Compute logits of texts, float32 (rows, num_labels); arguments and errors as `Classifier`'s."""
        found = [each.logits(texts, batch_size, first_row=first_row) for each in self.members]
        return average_logits(found, self.problem_type)
