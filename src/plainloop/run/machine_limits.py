"""What ends a run and is neither the user's input nor a bug of ours: memory, disk, another process."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from plainloop.config.settings import TrainConfig
from plainloop.errors import MachineError, is_out_of_memory
from plainloop.run.rank_failure import is_collective_error, lost_rank_error, report_own_error


@contextmanager
def explain_resource_errors(
    *, where: str, room: str, what_ran: str, smaller: str
) -> Iterator[None]:
    """Say in one line what does not fit into the memory, or onto the disk.

    Args:
        where: what is written.
        room: what to do where the disk is full.
        what_ran: how many rows were in memory at once.
        smaller: what to do where they are too many.

    Raises:
        MachineError: out of memory, on a GPU or the CPU; or a full or read-only disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise MachineError(str(error), where=where, fix=room) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MachineError(f"out of memory with {what_ran}", fix=smaller) from error


@contextmanager
def explain_training_errors(config: TrainConfig) -> Iterator[None]:
    """`explain_resource_errors` of a training: says which smaller batch has the same effect.

    With several processes, whatever else ends this one is noted for the others, which then leave
    the word to it.

    Raises:
        MachineError: as `explain_resource_errors`, or another process is lost.
    """
    rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
    smaller = rows // 2 if rows % 2 == 0 else 1
    limits = explain_resource_errors(
        where=str(config.run_path),
        room="make room, then --resume",
        what_ran=f"{rows} rows in a training batch, {config.per_device_eval_batch_size} in an "
        "evaluation's",
        smaller=f"--per-device-train-batch-size {smaller} --gradient-accumulation-steps "
        f"{batches * rows // max(1, smaller)} keeps the effective batch"
        if rows > 1
        else "give a smaller --max-length or a smaller --model",
    )
    try:
        with limits:
            yield
    except BaseException as error:
        if is_collective_error(error):
            raise lost_rank_error(error) from error
        report_own_error()
        raise
