"""What ends a run and is neither the user's input nor a bug of ours: memory, disk, another process."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from plainloop.config import TrainConfig
from plainloop.errors import MachineError
from plainloop.peers import is_of_another, lost_process, note_own_error


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

    With several processes, whatever else ends this one is noted for the others, which then leave
    the word to it.

    Raises:
        MachineError: out of memory, on a GPU or the CPU; a full or read-only disk; or another
            process is lost.
    """
    try:
        yield
    except BaseException as error:
        if is_of_another(error):
            raise lost_process(error) from error
        note_own_error()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise MachineError(
                str(error), where=str(config.run_path), fix="make room, then --resume"
            ) from error
        if is_out_of_memory(error):
            raise out_of_memory(config) from error
        raise


def out_of_memory(config: TrainConfig) -> MachineError:
    """What to say: the batch that fits better and has the same effect."""
    rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
    smaller = rows // 2 if rows % 2 == 0 else 1
    same_effect = (
        f"--per-device-train-batch-size {smaller} --gradient-accumulation-steps "
        f"{batches * rows // smaller} keeps the effective batch"
    )
    return MachineError(
        f"out of memory with {rows} rows in a training batch, "
        f"{config.per_device_eval_batch_size} in an evaluation's",
        fix=same_effect if rows > 1 else "give a smaller --max-length or a smaller --model",
    )
