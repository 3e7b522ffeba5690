"""Report limits of the machine in one line: out of memory, a full disk, a lost rank."""

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
    """Turn an out-of-memory or full-disk error into a MachineError of one line.

    Args:
        where: path being written, for the message.
        room: how to fix a full or read-only disk.
        what_ran: what was in memory, such as "32 rows in a batch".
        smaller: how to use less memory.

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
    """`explain_resource_errors` for a training; suggests a smaller batch with the same effect.

    With several ranks, any other error is announced to the others, so that only this one reports it.

    Raises:
        MachineError: as `explain_resource_errors`, or another rank is lost.
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
