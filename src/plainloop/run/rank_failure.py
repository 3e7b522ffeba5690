"""Detect and report failed or hanging ranks.

Ranks wait for each other in every step. If a rank is killed, its connections close and the others'
next collective operation fails at once; if it hangs, that operation times out. Either way the error
is raised on the ranks that are left: this module finds the missing rank and lets one rank report it.

torch is imported inside the functions: errors in flags and data are reported before it is needed.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from plainloop.config.settings import TrainConfig
from plainloop.errors import CheckpointError, MachineError, PlainloopError, UserError
from plainloop.run.signals import StopRequest
from plainloop.run.state import TrainState

if TYPE_CHECKING:
    from accelerate import Accelerator

COLLECTIVE_ERROR_WORDS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
"""Words in the messages of collective errors; gloo raises a plain RuntimeError."""
REPORT_TIMEOUT = 2.0
"""Seconds that the other ranks have to report that they are alive."""
REPORTING_RANK_TIMEOUT = 10.0
"""Seconds that the reporting rank of a machine has to raise the same user error as this one."""


def is_rank_zero() -> bool:
    """Whether this is the main process, by the environment variables that Accelerate reads.

    They are those of torchrun, Intel MPI, Open MPI and MVAPICH2; for what is said before torch is
    imported.
    """
    names = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
    return not any(os.environ.get(name, "0") not in ("0", "-1") for name in names)


def launched_processes() -> int:
    """How many processes a launcher has started, by the environment variables that Accelerate reads."""
    names = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    return max(int(os.environ.get(name, "1")) for name in names)


def process_group() -> Any:
    """torch.distributed if a process group of several ranks is initialized, else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed if distributed.get_world_size() > 1 else None


def destroy_process_group() -> None:
    """Destroy the process group, if there is one: for a process whose work is done.

    Otherwise gloo's threads may still free tensors while the interpreter ends, and abort the process
    (pytorch/pytorch#179291). After an error it would wait for operations that no rank will answer.
    """
    distributed = process_group()
    if distributed is not None:
        distributed.destroy_process_group()


@contextmanager
def collective_timeout(seconds: float) -> Iterator[None]:
    """Set the timeout of collective operations within the block.

    Args:
        seconds: timeout, the same on all ranks. After it gloo raises RuntimeError; NCCL ends the
            process.
    """
    distributed = process_group()
    if distributed is None:
        yield
        return
    from torch.distributed.distributed_c10d import _set_pg_timeout  # there is no public function

    group = distributed.group.WORLD
    backend = group._get_backend(group._device_types[0])  # noqa: SLF001
    before = backend.options._timeout  # noqa: SLF001
    _set_pg_timeout(timedelta(seconds=seconds))
    try:
        yield
    finally:
        _set_pg_timeout(before)


@contextmanager
def training_step_timeout(config: TrainConfig, state: TrainState) -> Iterator[None]:
    """Use `config.step_timeout` for collectives, and report the step after which a rank was lost.

    Raises:
        MachineError: another rank has ended or hangs.
    """
    with collective_timeout(config.step_timeout):
        try:
            yield
        except RuntimeError as error:
            if not is_collective_error(error):
                raise
            raise lost_rank_error(error, where=f"after step {state.step}") from error


def is_collective_error(error: BaseException) -> bool:
    """Whether a collective operation failed, so that another rank is the likely cause."""
    said = str(error).lower()
    return (
        process_group() is not None
        and isinstance(error, RuntimeError)
        and any(word in said for word in COLLECTIVE_ERROR_WORDS)
    )


@contextmanager
def announce_errors(again: str, stop: StopRequest) -> Iterator[None]:
    """Announce an error of the block to the other ranks, so that one of them all is printed.

    Args:
        again: what to do if another rank was lost.
        stop: of a block around this one.

    Raises:
        MachineError: another rank is lost; without a text, one that has ended with an error printed it.
    """
    try:
        yield
    except BaseException as error:
        # A launcher stops the others with SIGTERM if one has ended. The error may be of what the
        # signal has interrupted, as an import.
        is_stopped = stop.signal_number is not None and process_group() is not None
        if is_collective_error(error) or (is_stopped and any(find_missing_ranks())):
            raise lost_rank_error(error, again=again) from error
        report_own_error()
        raise


def lost_rank_error(
    error: BaseException, *, where: str = "", again: str = "run the same command with --resume"
) -> MachineError:
    """The error to raise for a failed collective: which rank is missing, and what to do.

    One of the ranks that are left reports it, the others' MachineError has no text. If a rank ended
    with an error of its own, that rank has printed it and none of the others reports anything.

    Args:
        error: of the collective operation.
        where: place for the message.
        again: what to do.
    """
    if threading.current_thread() is threading.main_thread():
        # The launcher sends SIGTERM to all ranks as soon as one has ended: finish the report first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    missing, has_spoken = find_missing_ranks()
    if has_spoken or not claim_report("lost"):
        return MachineError("")
    names = f"rank {missing[0]}" if len(missing) == 1 else f"a process (of ranks {missing})"
    if not missing:
        names = "another process"
    what, fix = f"{names} has ended", again
    if "timed out" in str(error).lower():
        what = f"{names} has not answered in time"
        fix += "; if a step needs so long, give more --step-timeout"
    return MachineError(what, where=where, fix=fix)


def find_missing_ranks() -> tuple[list[int], bool]:
    """Ranks that do not report to the store, and whether a rank has announced its own error."""
    distributed, store = process_group(), shared_store()
    rank = distributed.get_rank()
    others = [other for other in range(distributed.get_world_size()) if other != rank]
    try:
        store.set(f"alive/{rank}", "")
        deadline = time.monotonic() + REPORT_TIMEOUT
        while True:
            has_spoken = any(store.check([f"spoken/{other}"]) for other in others)
            missing = [other for other in others if not store.check([f"alive/{other}"])]
            if has_spoken or not missing or time.monotonic() > deadline:
                return missing, has_spoken
            time.sleep(0.1)
    except (distributed.DistError, RuntimeError):
        # Unless a launcher hosts the store, rank 0 does: an unreachable store means rank 0 is lost.
        return [0], False


def report_own_error() -> None:
    """Announce to the other ranks that this one reports why it ends."""
    distributed = process_group()
    if distributed is not None:
        try:
            shared_store().set(f"spoken/{distributed.get_rank()}", "")
        except (distributed.DistError, RuntimeError):
            return  # the store is gone: no rank is left to read it


def claim_report(text: str) -> bool:
    """Whether this rank is the first to claim a report, so that each is printed once.

    Before the process group is initialized, local rank 0 of each machine reports.

    Args:
        text: the report, or any key for it.
    """
    distributed = process_group()
    if distributed is None:
        return os.environ.get("LOCAL_RANK", "0") in ("0", "-1")
    try:
        return bool(shared_store().add(f"said/{text}", 1) == 1)
    except (distributed.DistError, RuntimeError):
        return True


def shared_store() -> Any:
    """The key-value store of the rendezvous; unlike a collective it works if ranks are missing."""
    from torch.distributed.distributed_c10d import _get_default_store

    store = _get_default_store()
    store.set_timeout(timedelta(seconds=REPORT_TIMEOUT))
    return store


def wait_for_reporting_rank() -> None:
    """Give the reporting rank time to print the error before this rank ends.

    A launcher ends all ranks as soon as one has ended; usually it ends this one during the wait.
    """
    if "LOCAL_RANK" in os.environ and process_group() is None:
        time.sleep(REPORTING_RANK_TIMEOUT)


@contextmanager
def raise_on_all_ranks(accelerator: "Accelerator") -> Iterator[None]:
    """Raise on every rank if the block fails on one; all ranks leave the block together.

    Without it the other ranks would wait for the failed one, and then report a lost rank.

    Raises:
        PlainloopError: on the first rank that failed its own error; on the others an error of the
            same class without a text, so that one line is printed.
    """
    import torch

    error = None
    try:
        yield
    except PlainloopError as found:
        error = found
    code = torch.tensor([error.exit_code if error else 0], device=accelerator.device)
    codes = accelerator.gather(code).tolist()
    if not any(codes):
        return
    rank, exit_code = next((rank, code) for rank, code in enumerate(codes) if code)
    if error and rank == accelerator.process_index:
        raise error
    classes = {each.exit_code: each for each in (UserError, CheckpointError, MachineError)}
    raise classes[exit_code]("") from error
