"""What to do where a training step does not fit into the memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from plainloop.config import TrainConfig
from plainloop.errors import MachineError


@contextmanager
def explained_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Say which smaller batch has the same effect where a step does not fit into the memory.

    Raises:
        MachineError: out of memory, on a GPU or the CPU.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        out = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        # The CPU allocator raises a plain RuntimeError.
        if not out and "can't allocate memory" not in str(error):
            raise
        rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
        smaller = rows // 2 if rows % 2 == 0 else 1
        raise MachineError(
            f"out of memory with {rows} rows in a batch",
            where="training",
            fix=f"--per-device-train-batch-size {smaller} --gradient-accumulation-steps "
            f"{batches * rows // smaller} keeps the effective batch"
            if rows > 1
            else "give a smaller --max-length or a smaller --model",
        ) from error
