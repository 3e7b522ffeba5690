"""Report limits of the machine in one line: out of memory, a disk that is full, a lost rank."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from plainloop.config.settings import TrainConfig
from plainloop.errors import MachineError, PlainloopError, UserError, is_out_of_memory
from plainloop.run.rank_failure import is_collective_error, lost_rank_error, report_own_error

# A file-size limit, no permission, a broken disk, a pipe that nothing reads, a network disk.
OTHER_DISK_ERRORS = (errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO, errno.ESTALE)
DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    **{number: os.strerror(number) for number in OTHER_DISK_ERRORS},
}
"""Errors of the machine, not of the input or of plainloop: error number -> what is wrong."""
ROOM = "make room, check permissions and limits (ulimit -a), or use another folder"


@contextmanager
def explain_resource_errors(
    *,
    where: str = "",
    what_ran: str = "this command",
    smaller: str = "free memory",
    then: str = "",
) -> Iterator[None]:
    """Turn an out-of-memory error or one of `DISK_ERRORS` into a MachineError of one line.

    Args:
        where: path being written, for an error that does not name its file.
        what_ran: what was in memory, such as "32 rows in a batch".
        smaller: how to use less memory.
        then: what to do when there is room again, such as ", then --resume".

    Raises:
        MachineError: out of memory, on a GPU or the CPU; or a file cannot be written.
        UserError: a path is too long for the file system.
    """
    try:
        yield
    except PlainloopError:
        raise
    except Exception as error:
        number = error_number(error)
        if is_out_of_memory(error) or number == errno.ENOMEM:
            raise MachineError(f"out of memory with {what_ran}", fix=smaller) from error
        file = str(getattr(error, "filename", None) or where)
        if number == errno.ENAMETOOLONG:
            raise UserError("the name is too long", where=file, fix="give a shorter one") from error
        if number not in DISK_ERRORS:
            raise
        raise MachineError(DISK_ERRORS[number], where=file, fix=ROOM + then) from error


def error_number(error: Exception) -> int | None:
    """The operating system's number of an error; None if it has none."""
    if isinstance(error, OSError):
        return error.errno
    # safetensors and tokenizers, which are written in Rust, have it in their text only.
    in_text = re.search(r"\(os error (\d+)\)|\bcode: (\d+)", str(error))
    if type(error).__name__ not in ("SafetensorError", "Exception") or not in_text:
        return None
    return int(in_text[1] or in_text[2])


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
        then=", then --resume",
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
