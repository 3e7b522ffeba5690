"""Compute the logits of texts with onnxruntime, without torch."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainloop.config.tasks import Task
from plainloop.errors import DivergedError, UserError, printable_path

TOKENIZER_FILE = "tokenizer.json"
ROWS_PER_BATCH = 8
"""Rows have about one length, and each thread one batch: the fastest that was tried on a CPU."""
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
PADDING = ("direction", "pad_id", "pad_type_id", "pad_token")


class OnnxClassifier:
    """An exported model with the tokenizer of its folder: texts -> logits, as `Classifier`.

    Args:
        model: the ONNX file.
        task: text columns and labels.
        windows: take the mean over the windows of a text, instead of truncating it.
    """

    def __init__(self, model: Path, task: Task, *, windows: bool) -> None:
        import onnxruntime
        from joblib import cpu_count
        from tokenizers import Tokenizer

        self.path, self.task, self.windows = model, task, windows
        self.tokenizer: Any = Tokenizer.from_file(str(model.with_name(TOKENIZER_FILE)))
        padding: Any = self.tokenizer.padding
        self.padding = {name: padding[name] for name in PADDING}
        self.tokenizer.no_padding()  # each batch is padded to its own longest row
        limit = os.environ.get("OMP_NUM_THREADS", "")  # as torch
        self.threads = int(limit) if limit.isdecimal() and int(limit) else int(cpu_count())
        options = onnxruntime.SessionOptions()
        # A batch runs in the thread that asks for it: threads that share one wait for each other.
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [value.name for value in self.session.get_inputs()]

    def logits(
        self, texts: Sequence[Sequence[str]], batch_size: int, *, first_row: int = 1
    ) -> NDArray[np.float32]:
        """Compute the logits of texts.

        Args:
            texts: one list of texts for each text column of the task, all of one length.
            batch_size: most rows that run at once, on all threads together; at most 8 on each.
            first_row: number of the first row, for messages.

        Returns:
            float32 (rows, num_labels), in the order of the texts.

        Raises:
            UserError: a row has no tokens.
            DivergedError: a logit is not finite.
        """
        rows = list(texts[0]) if len(texts) == 1 else list(zip(*texts, strict=True))
        encodings = self.tokenizer.encode_batch_fast(rows)
        for number, encoding in enumerate(encodings, start=first_row):
            if not encoding.ids:
                raise UserError(
                    "is without any token of this model",
                    where=f"row {number}",
                    fix="change its text, or leave it out",
                )
        groups = [[row, *row.overflowing] if self.windows else [row] for row in encodings]
        windows = [window for group in groups for window in group]
        order = np.argsort([-len(window.ids) for window in windows], kind="stable")
        size = min(ROWS_PER_BATCH, math.ceil(batch_size / self.threads))
        outputs = np.empty((len(windows), self.task.num_labels), np.float32)

        def run(start: int) -> None:
            numbers = order[start : start + size]
            outputs[numbers] = self.run_batch([windows[number] for number in numbers])

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(run, range(0, len(windows), size)))
        if not np.isfinite(outputs).all():
            raise DivergedError(
                "the model gives logits that are not finite",
                where=printable_path(self.path),
                fix="export the run again",
            )
        counts = np.array([len(group) for group in groups])
        starts = np.cumsum(counts) - counts
        means: NDArray[np.float32] = np.add.reduceat(outputs, starts) / counts[:, None]
        return means.astype(np.float32)

    def run_batch(self, encodings: Sequence[Any]) -> NDArray[np.float32]:
        """Pad encodings to the longest, and compute their logits, float32 (rows, num_labels)."""
        longest = max(len(encoding.ids) for encoding in encodings)
        for encoding in encodings:
            encoding.pad(longest, **self.padding)
        inputs = {
            name: np.array([getattr(encoding, FIELDS[name]) for encoding in encodings], np.int64)
            for name in self.inputs
        }
        logits: NDArray[np.float32] = self.session.run(["logits"], inputs)[0]
        return logits
