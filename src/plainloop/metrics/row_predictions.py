"""What a model says of each row of a split: taken in while it is evaluated, kept in the run's folder."""

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
from plainloop.errors import UserError
from plainloop.metrics.decision import Decision, load_decision
from plainloop.metrics.resampled import ResampledScores

if TYPE_CHECKING:
    from datasets import Dataset

PREDICTIONS_FOLDER = "predictions"
_IDX, _LABEL, _LOGITS = "idx", "label", "logits"


class KeptRows:
    """Takes in the rows of an evaluation, batch by batch, in whatever order processes give them."""

    def __init__(self) -> None:
        self._batches: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []

    def add(self, idx: NDArray[Any], logits: NDArray[Any], references: NDArray[Any]) -> None:
        """Take in a batch: each row's number, its logits (rows, num_labels), and its label."""
        self._batches.append((idx, logits, references))

    def beside(
        self, rows: "Dataset", task: Task, decision: Decision | None = None
    ) -> "RowPredictions":
        """The rows as read with what was predicted for each, in the order of their file."""
        idx, logits, references = map(np.concatenate, zip(*self._batches, strict=True))
        place = {number: at for at, number in enumerate(idx.tolist())}
        order = [place[number] for number in rows[_IDX]]
        texts = {name: list(rows[name]) for name in task.text_columns}
        return RowPredictions(idx[order], texts, references[order], logits[order], decision)


@dataclass(frozen=True)
class RowPredictions:
    """The rows of a split and what a model says of them.

    Attributes:
        idx: each row's number in its file, from 0, int (rows,).
        texts: text column -> the text of each row.
        references: labels, int (rows,); multi-hot (rows, num_labels); values, float32 (rows,).
        logits: float32 (rows, num_labels).
        decision: what makes labels of the logits; None: as trained, as for the validation rows,
            which chose the decision.
    """

    idx: NDArray[Any]
    texts: dict[str, list[str]]
    references: NDArray[Any]
    logits: NDArray[np.float32]
    decision: Decision | None = None

    def resampled_scores(self, names: Sequence[str], task: Task) -> ResampledScores:
        """These scores of any resamples of the rows."""
        return ResampledScores(
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
    def load(cls, folder: Path, split: str) -> "RowPredictions":
        """The inverse of `save`.

        Raises:
            UserError: the run has no predictions of this split.
        """
        path = folder / PREDICTIONS_FOLDER / f"{split}.parquet"
        if not path.is_file():
            raise UserError(
                f"no predictions of the {split} rows", where=str(path), fix="train the run anew"
            )
        table = pq.read_table(path)
        names = [name for name in table.column_names if name not in {_IDX, _LABEL, _LOGITS}]
        return cls(
            table[_IDX].to_numpy(),
            {name: table[name].to_pylist() for name in names},
            np.array(table[_LABEL].to_pylist()),
            np.array(table[_LOGITS].to_pylist(), np.float32),
            None if split == "validation" else load_decision(folder),
        )


def join_rows(parts: "Sequence[RowPredictions]") -> RowPredictions:
    """The rows of several parts of a split, in the order of their file."""
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
    """The splits of which a run's folder has the predictions, validation first."""
    found = sorted(path.stem for path in (folder / PREDICTIONS_FOLDER).glob("*.parquet"))
    return sorted(found, key=lambda split: split != "validation")
