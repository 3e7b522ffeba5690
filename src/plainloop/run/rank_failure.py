"""The other processes of a run: how long to wait for them, which one is lost, and who says so.

Processes that train together wait for each other in every step. One that was killed closes its
connections, and the others' next exchange fails at once; one that hangs is noticed when the wait
times out. What failed then is the exchange and not the process that raises: hence this module.

torch is not imported here, since mistakes in flags and data end before it is.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from plainloop.config.settings import TrainConfig
from plainloop.errors import MachineError
from plainloop.run.state import TrainState

COLLECTIVE_ERROR_WORDS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
"""Words of an error of an exchange, whoever is to blame; gloo raises a plain RuntimeError."""
REPORT_TIMEOUT = 2.0
"""How long the others may take to report that they live."""
REPORTING_RANK_TIMEOUT = 10.0
"""How long the first process of a machine may take to find the mistake that this one has found."""


def process_group() -> Any:
    """torch.distributed, where several processes have found each other; else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed if distributed.get_world_size() > 1 else None


@contextmanager
def collective_timeout(seconds: float) -> Iterator[None]:
    """Wait for the other processes so long at each exchange, instead of as long as before.

    Args:
        seconds: of all processes the same. On gloo a longer wait raises RuntimeError; NCCL ends the
            process.
    """
    distributed = process_group()
    if distributed is None:
        yield
        return
    from torch.distributed.distributed_c10d import _set_pg_timeout  # the only way there is

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
    """Wait `config.step_timeout` at most, and say after which step a process was lost.

    Raises:
        MachineError: another process has ended or hangs.
    """
    with collective_timeout(config.step_timeout):
        try:
            yield
        except RuntimeError as error:
            if not is_collective_error(error):
                raise
            raise lost_rank_error(error, where=f"after step {state.step}") from error


def is_collective_error(error: BaseException) -> bool:
    """Whether an exchange between processes has failed, and not what this one did."""
    said = str(error).lower()
    return (
        process_group() is not None
        and isinstance(error, RuntimeError)
        and any(word in said for word in COLLECTIVE_ERROR_WORDS)
    )


def lost_rank_error(error: BaseException, *, where: str = "") -> MachineError:
    """What to say of an exchange that failed: which process is to blame, and what to do.

    One process of those that are left says it; where one has ended with an error of its own, which
    it has printed, none does: the others' MachineError has no text.
    """
    if threading.current_thread() is threading.main_thread():
        # The launcher ends what is left as soon as one process has ended; this one is ending.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    missing, has_spoken = find_missing_ranks()
    if has_spoken or not claim_report("lost"):
        return MachineError("")
    names = f"rank {missing[0]}" if len(missing) == 1 else f"a process (of ranks {missing})"
    if not missing:
        names = "another process"
    what, fix = f"{names} has ended", "the same command with --resume goes on"
    if "timed out" in str(error).lower():
        what = f"{names} has not answered in time"
        fix += "; if a step needs so long, give more --step-timeout"
    return MachineError(what, where=where, fix=fix)


def find_missing_ranks() -> tuple[list[int], bool]:
    """The ranks that do not report, and whether one has said what is wrong with itself."""
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
        # Without a launcher that keeps it the store is rank 0's, and rank 0 is lost.
        return [0], False


def report_own_error() -> None:
    """Let the others know that this process says itself why it ends."""
    distributed = process_group()
    if distributed is not None:
        try:
            shared_store().set(f"spoken/{distributed.get_rank()}", "")
        except (distributed.DistError, RuntimeError):
            return  # nobody is left to know


def claim_report(text: str) -> bool:
    """Whether no other process of this run has said it: one line for all of them.

    Before the processes have found each other, one on each machine speaks.
    """
    distributed = process_group()
    if distributed is None:
        return os.environ.get("LOCAL_RANK", "0") in ("0", "-1")
    try:
        return bool(shared_store().add(f"said/{text}", 1) == 1)
    except (distributed.DistError, RuntimeError):
        return True


def shared_store() -> Any:
    """The store in which the processes found each other; it does not need all of them."""
    from torch.distributed.distributed_c10d import _get_default_store

    store = _get_default_store()
    store.set_timeout(timedelta(seconds=REPORT_TIMEOUT))
    return store


def wait_for_reporting_rank() -> None:
    """Give the process that says it time to do so before this one ends.

    A launcher ends all as soon as one has ended; as a rule it ends this one here.
    """
    if "LOCAL_RANK" in os.environ and process_group() is None:
        time.sleep(REPORTING_RANK_TIMEOUT)
