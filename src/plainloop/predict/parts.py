"""Predict files part by part; the parts are kept next to the output, so that a killed one resumes."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plainloop.atomic_file import TEMPORARY_FILES, json_bytes, make_folder
from plainloop.console import print_line
from plainloop.data.files.nested import add_named
from plainloop.errors import DivergedError, UserError, printable_path
from plainloop.predict.output_files import STANDARD_STREAM
from plainloop.run.atomic import describe_file
from plainloop.run.output_file import explain_write_errors, open_output
from plainloop.run.rank_failure import collective_timeout, is_rank_zero, raise_on_all_ranks

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray

KEY_FILE = "parts.json"
PART_FILES = "rows-*.npy"
MOST_WAITING = 7 * 24 * 3600.0  # seconds in which one process may be slower than another


class Parts:
    """The logits of parts of the rows, a file for each, in a folder that is named after the output.

    Args:
        output: file to write.

    Raises:
        UserError: the folder holds files of something else.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.parts")
        self.where = f"--output {printable_path(output)}"
        names = {path.name for path in self.folder.glob("*")}
        if self.folder.is_file() or names - {path.name for path in self._own()}:
            what = f"its parts would be mixed with other files in {printable_path(self.folder)}"
            raise UserError(what, where=self.where, fix="choose another name")

    def open(self, made_from: Callable[[], Mapping[str, Any]], ranks: "Accelerator | None") -> None:
        """Create the folder, or keep the parts in it if they were made from the same; a line says so.

        Args:
            made_from: gives all that the logits depend on, as plain values.
            ranks: the processes, all of which call this; None if this is the only one.
        """
        with raise_on_all_ranks(ranks) if ranks else nullcontext():
            if ranks is None or ranks.is_main_process:
                self._open(made_from())

    def _open(self, made_from: Mapping[str, Any]) -> None:
        key, content = self.folder / KEY_FILE, json_bytes(made_from)
        names = [path.name for path in self._own() if fnmatch(path.name, PART_FILES)]
        is_same = key.is_file() and key.read_bytes() == content
        what = "kept" if is_same else "of another run, other files or flags, and made again"
        if names:
            print_line(f"Parts          {len(names)} of {self.folder} are {what}", sys.stderr)
        if is_same:
            return
        self.delete()
        with explain_write_errors(self.where):
            make_folder(self.folder)
        with open_output(key) as file:
            file.write(content)

    def read_or_compute(
        self, row: int, num_rows: int, compute: Callable[[], "NDArray[np.float32]"]
    ) -> "NDArray[np.float32]":
        """Return the logits of a part, float32 (num_rows, num_labels); compute and keep new ones.

        Args:
            row: number of its first row.
            num_rows: its rows.
            compute: called if the part is missing or damaged.
        """
        path = self.folder / PART_FILES.replace("*", str(row))
        try:
            with path.open("rb") as file:  # np.load would read archives, too
                kept: NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
            if kept.shape[:1] == (num_rows,):
                return kept
        except (OSError, ValueError):
            pass
        try:
            logits = compute()
        except (UserError, DivergedError):  # the text or the run must change: no part can be used
            if is_rank_zero():
                self.delete()
            raise
        with open_output(path) as file:
            np.save(file, logits, allow_pickle=False)
        return logits

    def delete(self) -> None:
        """Delete the folder."""
        with explain_write_errors(self.where):
            for path in self._own():
                path.unlink(missing_ok=True)
            if self.folder.is_dir():
                self.folder.rmdir()

    def _own(self) -> list[Path]:
        return [
            path
            for pattern in (PART_FILES, KEY_FILE, TEMPORARY_FILES)
            for path in self.folder.glob(pattern)
        ]


def find_parts(output: str) -> Parts | None:
    """The parts of an output; None if it is no file, but stdout or a device.

    Raises:
        UserError: as `Parts`.
    """
    is_file = output != STANDARD_STREAM and not Path(output).is_char_device()
    return Parts(Path(output)) if is_file else None


@dataclass(frozen=True)
class Chunks:
    """The rows of files and their logits, chunk by chunk.

    A chunk is what is predicted at once: its logits do not depend on which process predicts it.

    Attributes:
        batches: the rows, each time from the first.
        text: names of the text columns.
        predict: texts of each column, and number of the first row -> logits.
        parts: where to keep logits, if anywhere.
        bar: progress bar over the rows.
    """

    batches: Iterable[pa.RecordBatch]
    text: Sequence[str]
    predict: Callable[..., "NDArray[np.float32]"]
    parts: Parts | None
    bar: Any

    def __iter__(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the number of the first row, from 1, and the rows of each chunk."""
        row = 1
        for batch in self.batches:
            yield row, batch
            row += batch.num_rows
            self.bar.update(batch.num_rows)

    def logits(self, row: int, batch: pa.RecordBatch) -> "NDArray[np.float32]":
        """Predict a chunk, or read what is kept of it: float32 (rows, num_labels)."""

        def compute() -> "NDArray[np.float32]":
            with_texts = add_named(pa.Table.from_batches([batch]), self.text)
            texts = [
                pc.fill_null(with_texts[name].cast(pa.string()), "").to_pylist()
                for name in self.text
            ]
            return self.predict(texts, first_row=row)

        if self.parts is None:
            return compute()
        return self.parts.read_or_compute(row, batch.num_rows, compute)

    def predict_share(self, accelerator: "Accelerator") -> None:
        """Predict this process's share of the chunks, and wait for those of the others."""
        rank, ranks = accelerator.process_index, accelerator.num_processes
        for row, batch in islice(self, rank, None, ranks):
            self.logits(row, batch)
        with collective_timeout(MOST_WAITING):
            accelerator.wait_for_everyone()
        self.bar.reset()


def describe_inputs(files: Iterable[Path]) -> list[Any]:
    """The name, size and SHA-256 of files, and of those in folders."""
    found = [file for path in files for file in (sorted(path.rglob("*")) or [path])]
    return [[file.name, describe_file(file)] for file in found if file.is_file()]
