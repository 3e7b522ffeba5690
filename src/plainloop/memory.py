"""What to do where a run does not fit into the memory, or onto the disk."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from plainloop.config import TrainConfig
from plainloop.errors import MachineError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is of a GPU's, torch's CPU or Python's allocator."""
    # torch.OutOfMemoryError is a RuntimeError, and so is what the CPU allocator raises.
    words = ("out of memory", "can't allocate memory", "not enough memory")
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in said for word in words)
    )


@contextmanager
def explained_machine_limits(config: TrainConfig) -> Iterator[None]:
    """Say which smaller batch has the same effect where something does not fit into the memory.

    Raises:
        MachineError: out of memory, on a GPU or the CPU; or a full or read-only disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise MachineError(
            str(error), where=str(config.run_path), fix="make room, then --resume"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
        smaller = rows // 2 if rows % 2 == 0 else 1
        same_effect = (
            f"--per-device-train-batch-size {smaller} --gradient-accumulation-steps "
            f"{batches * rows // smaller} keeps the effective batch"
        )
        raise MachineError(
            f"out of memory with {rows} rows in a training batch, "
            f"{config.per_device_eval_batch_size} in an evaluation's",
            fix=same_effect if rows > 1 else "give a smaller --max-length or a smaller --model",
        ) from error
