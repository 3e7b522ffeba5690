"""Load a saved model and compute logits of texts, tokenized as in training."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import DataCollatorWithPadding

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.batches.sliding_windows import WindowCollator, pool_windows
from plainloop.data.batches.tokenize import create_tokenize
from plainloop.errors import CheckpointError, DivergedError, UserError, printable, printable_path
from plainloop.model.load import copy_to_aligned_memory, load_model
from plainloop.model.matrix_products import (
    LEAST_GAIN,
    choose_products,
    measure_bfloat16,
    use_products,
)
from plainloop.model.readable_rows import find_unreadable
from plainloop.model.tokenizer import load_tokenizer
from plainloop.model.unpadded.execution import choose_padding
from plainloop.run.accelerator import create_accelerator


class Classifier:
    """Model and tokenizer of a run: texts -> logits.

    Labels, thresholds and temperature are applied to the logits in output_columns.py.

    Args:
        folder: folder that `save_pretrained` wrote.
        task: text columns and the labels that the model must have.
        config: settings of the training: device, maximum length and sliding windows.
        bf16: compute in bfloat16 on a CPU where that measures faster.

    Attributes:
        precision: what is computed in and, with `bf16`, why.

    Raises:
        UserError: the folder's files are damaged, or the model has other labels.
        CheckpointError: the files lack weights of the model.
    """

    def __init__(self, folder: Path, task: Task, config: TrainConfig, *, bf16: bool) -> None:
        self.folder, self.task = folder, task
        self.accelerator = create_accelerator(TrainConfig(use_cpu=config.use_cpu))
        self.tokenizer = load_tokenizer(str(folder))
        self.tokenize = create_tokenize(
            self.tokenizer, task.text_columns, config.max_length, config.stride
        )
        model, drawn = load_model(str(folder), task)
        if drawn:
            raise CheckpointError(
                f"the weights of {len(drawn)} parameters are missing, such as {printable(drawn[0])}",
                where=printable_path(folder),
                fix="restore its files, or train the run again",
            )
        copy_to_aligned_memory(model)
        config = replace(config, execution="auto")
        padding = choose_padding(model, config, self.accelerator)
        self.products, _ = choose_products(model, config, self.accelerator)
        self.precision = "float32"
        if bf16 and self.accelerator.device.type != "cpu":
            self.precision = "float32: bfloat16 was measured on CPUs only"
        elif bf16:
            gain = measure_bfloat16(model, self.products)
            if gain >= LEAST_GAIN:
                model, self.precision = model.bfloat16(), "bfloat16"
            self.precision += f": bfloat16 measured {gain:.2f} times as fast as float32"
        # On a CPU, one batch per thread is faster than all threads on one batch, because threads
        # never wait for each other. Only unpadded models are tested to give the same logits so.
        self.threads = torch.get_num_threads() if padding == "unpadded" else 1
        collate: Any = DataCollatorWithPadding(self.tokenizer)
        if config.stride is not None:
            model, collate = pool_windows(model), WindowCollator(self.tokenizer)
        self.collate = collate
        self.model = model.to(self.accelerator.device)

    def logits(
        self, texts: Sequence[Sequence[str]], batch_size: int, *, first_row: int = 1
    ) -> NDArray[np.float32]:
        """Compute the logits of texts.

        Rows are batched by length to reduce padding. A row's logits vary by about 1e-7 with the
        other rows of its batch.

        Args:
            texts: one list of texts for each text column of the task, all of one length.
            batch_size: rows per batch; if several threads run a batch each, rows of all together.
            first_row: number of the first row, for messages.

        Returns:
            float32 (rows, num_labels), in the order of the texts.

        Raises:
            UserError: the model cannot read a row, by `find_unreadable`.
            DivergedError: a logit is not finite.
        """
        encoding = self.tokenize(dict(zip(self.task.text_columns, texts, strict=True)))
        for what, found in find_unreadable(
            pa.array(encoding["input_ids"]), self.tokenizer, self.model.config, len(texts)
        ):
            where = f"row {first_row + int(found[0])}"
            raise UserError(f"is {what}", where=where, fix="change its text, or leave it out")
        rows = [
            dict(zip(encoding.keys(), values, strict=True))
            for values in zip(*encoding.values(), strict=True)
        ]
        # Tokens of a row. With sliding windows, input_ids holds a list of tokens for each window.
        lengths = [np.size(row["input_ids"][0]) * len(row["input_ids"]) for row in rows]
        order = np.argsort(lengths, kind="stable")[
            ::-1
        ]  # longest first: an out-of-memory error comes with the first batch
        logits = np.empty((len(rows), self.task.num_labels), np.float32)
        self.model.eval()
        rows_of_a_thread = math.ceil(batch_size / self.threads)

        def run(start: int) -> None:
            numbers = order[start : start + rows_of_a_thread]
            batch = self.collate([rows[number] for number in numbers])
            with torch.inference_mode():  # per thread: grad mode is thread-local
                outputs = self.model(
                    **{name: value.to(self.model.device) for name, value in batch.items()}
                )
            logits[numbers] = outputs.logits.float().cpu().numpy()

        starts = range(0, len(rows), rows_of_a_thread)
        with use_products(self.products):
            if self.threads == 1:
                for start in starts:
                    run(start)
            else:
                with batch_threads(self.threads) as pool:
                    list(pool.map(run, starts))
        if not np.isfinite(logits).all():
            raise DivergedError(
                "the model gives logits that are not finite",
                where=str(self.folder),
                fix="its training diverged, or its weights are damaged: train it again",
            )
        return logits


@contextmanager
def batch_threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Create a thread pool in which each thread runs torch operations on one core."""
    try:
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        # The setting of the pool's threads is also the default of threads that are created later.
        torch.set_num_threads(number)
