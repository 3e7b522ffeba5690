"""The logits of each row of a split: collected during evaluation, saved in the run folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from plainloop.atomic_file import atomic_file
from plainloop.config.tasks import Task
from plainloop.errors import CheckpointError, UserError, printable_path
from plainloop.metrics.decision_rule import DecisionRule
from plainloop.metrics.scorer import Scorer

if TYPE_CHECKING:
    from datasets import Dataset

PREDICTIONS_FOLDER = "predictions"
_IDX, _LABEL, _LOGITS = "idx", "label", "logits"


class PredictionCollector:
    """Collects the rows of an evaluation, batch by batch, in whatever order the ranks give them."""

    def __init__(self) -> None:
        self._batches: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []

    def add(self, idx: NDArray[Any], logits: NDArray[Any], references: NDArray[Any]) -> None:
        """Add a batch: each row's number, its logits (rows, num_labels), and its label."""
        self._batches.append((idx, logits, references))

    def finish(
        self, rows: "Dataset", task: Task, decision: DecisionRule | None = None
    ) -> "RowPredictions":
        """The predictions with the texts of the rows, in the order of their file.

        Args:
            rows: the split as read, with idx, the number of each row.
            task: its text columns.
            decision: what the rows are scored with.
        """
        idx, logits, references = map(np.concatenate, zip(*self._batches, strict=True))
        position = {number: at for at, number in enumerate(idx.tolist())}
        order = [position[number] for number in rows[_IDX]]
        texts = {name: list(rows[name]) for name in task.text_columns}
        return RowPredictions(idx[order], texts, references[order], logits[order], decision)


@dataclass(frozen=True)
class RowPredictions:
    """The rows of a split with a model's logits.

    Attributes:
        idx: each row's number in its file, from 0, int (rows,).
        texts: text column -> the text of each row.
        references: labels, int (rows,); multi-hot (rows, num_labels); values, float32 (rows,).
        logits: float32 (rows, num_labels).
        decision: temperature and thresholds; None: see `predict_labels`. None for the validation
            rows, which the rule was fitted on.
    """

    idx: NDArray[Any]
    texts: dict[str, list[str]]
    references: NDArray[Any]
    logits: NDArray[np.float32]
    decision: DecisionRule | None = None

    def scorer(self, names: Sequence[str], task: Task) -> Scorer:
        """A scorer of these rows with these metrics."""
        return Scorer.from_logits(
            names,
            self.references,
            self.logits,
            task.problem_type,
            task.label_names,
            decision=self.decision,
        )

    def save(self, folder: Path, split: str) -> None:
        """Write predictions/SPLIT.parquet into a run's folder: idx, the texts, label, logits."""
        path = folder / PREDICTIONS_FOLDER / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        references: Any = self.references
        columns = {_IDX: pa.array(self.idx), **self.texts, _LABEL: pa.array(list(references))}
        logits = pa.array(list(self.logits.astype(np.float32)))
        with atomic_file(path) as file:
            pq.write_table(pa.table({**columns, _LOGITS: logits}), file, compression="zstd")

    @classmethod
    def load(
        cls, folder: Path, split: str, decision: DecisionRule | None = None
    ) -> "RowPredictions":
        """Read what `save` wrote.

        Args:
            folder: of the run.
            split: validation, test or train.
            decision: the run's decision rule, which the validation rows do not get.

        Raises:
            UserError: the run has no predictions of this split.
            CheckpointError: the file is damaged.
        """
        path = folder / PREDICTIONS_FOLDER / f"{split}.parquet"
        if not path.is_file():
            raise UserError(
                f"no predictions of the {split} rows", where=str(path), fix="train the run again"
            )
        try:
            table = pq.read_table(path)
            names = [name for name in table.column_names if name not in {_IDX, _LABEL, _LOGITS}]
            return cls(
                table[_IDX].to_numpy(),
                {name: table[name].to_pylist() for name in names},
                np.array(table[_LABEL].to_pylist()),
                np.array(table[_LOGITS].to_pylist(), np.float32),
                None if split == "validation" else decision,
            )
        except (OSError, ValueError, TypeError, KeyError) as error:  # pyarrow's are a ValueError
            raise CheckpointError(
                f"cannot be read: {' '.join(str(error).split())[:200]}",
                where=printable_path(path),
                fix="restore the file, or train the run again",
            ) from None


def concatenate_predictions(parts: Sequence[RowPredictions]) -> RowPredictions:
    """Join the parts of a split, such as the folds of a cross-validation, in the order of their file."""
    order = np.argsort(np.concatenate([part.idx for part in parts]), kind="stable")
    idx, references, logits = (
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("idx", "references", "logits")
    )
    texts = {}
    for name in parts[0].texts:
        column = [text for part in parts for text in part.texts[name]]
        texts[name] = [column[at] for at in order]
    return RowPredictions(idx, texts, references, logits)


def predicted_splits(folder: Path) -> list[str]:
    """The splits whose predictions are saved in a run's folder, validation first."""
    found = sorted(path.stem for path in (folder / PREDICTIONS_FOLDER).glob("*.parquet"))
    return sorted(found, key=lambda split: split != "validation")
