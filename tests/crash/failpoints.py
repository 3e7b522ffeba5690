"""`plainloop` that kills its own process, as `kill -9` does, at a place named in the environment.

    CRASH_AT=PHASE/PLACE/PART/STEP/COUNT python tests/crash/failpoints.py train --task demo ...

From STEP done optimizer steps on, the COUNT-th call of PLACE kills the process: before the call,
after it, `torn`: after it, with the file that it wrote cut to half; or when the gradient of what it
gave is there.

    CRASH_RANK    only this rank (default 0); all: every one
    CRASH_SIGNALS another signal's number than SIGKILL's, or several with commas
    CRASH_ERRNO   fail with an OSError of this number instead
    CRASH_LOG     a file that is told at which step and time it fell
    CRASH_SLOW    seconds that each flush takes longer

Processes that a launcher has started again are left alone.
"""

import functools
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

LINEAR = "torch.nn:Linear.forward"
WRITERS = [
    "plainloop.run.rng:save_file",
    "plainloop.run.checkpoints:save_model",
    "plainloop.run.checkpoints:save_file",
    "pathlib:Path.write_text",
]
PLACES = {
    "forward": {LINEAR: ["before"]},
    "backward": {
        LINEAR: ["gradient"],
        "accelerate:Accelerator.backward": ["before", "after"],
    },
    "optimizer": {
        "torch:_fused_adamw_": ["before", "after"],
        "torch.optim.lr_scheduler:LRScheduler.step": ["before", "after"],
        "accelerate.optimizer:AcceleratedOptimizer.zero_grad": ["before"],
    },
    "evaluation": {
        "plainloop.metrics.task_metric:TaskMetric.add_batch": ["before"],
        "plainloop.run.checkpoints:commit_folder": ["before", "after"],
        "plainloop.metrics.task_metric:TaskMetric.compute": ["before"],
        "plainloop.run.state:TrainState.record_evaluation": ["after"],
    },
    "write": {
        **{writer: ["torn", "before"] for writer in WRITERS},
        "plainloop.run.atomic:fsync_path": ["before"],
        "plainloop.run.atomic:hash_file": ["before"],
    },
    "rename": {
        "pathlib:Path.rename": ["before", "after"],
        "os:unlink": ["before"],  # within the removal of an older checkpoint
        "shutil:rmtree": ["before", "after"],
    },
    "record": {"plainloop.run.folder:RunFolder.log_step": ["before", "after"]},
    "finish": {"plainloop.run.folder:RunFolder.save": ["before", "after"]},
}


class Failpoint:
    """Counts the calls of one place, and kills."""

    def __init__(self, description: str) -> None:
        self.phase, self.place, self.part, step, count = description.rsplit("/", 4)
        self.step, self.left, self.at = int(step), int(count), 0

    def install(self) -> None:
        state, _ = resolve("plainloop.run.state:TrainState.count_step")
        counted = state.count_step

        def count_step(state, *counts):
            counted(state, *counts)
            self.at = state.step

        state.count_step = count_step
        owner, name = resolve(self.place)
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args, **kwargs):
            hit = self.is_due(args)
            if hit and self.part == "before":
                self.kill()
            result = original(*args, **kwargs)
            if hit and self.part == "gradient":
                result.register_hook(lambda gradient: self.kill())
            elif hit and self.part != "before":
                if self.part == "torn":
                    path = next(value for value in args if isinstance(value, str | Path))
                    os.truncate(path, Path(path).stat().st_size // 2)
                self.kill()
            return result

        setattr(owner, name, wrapped)

    def is_due(self, args: tuple) -> bool:
        if self.at < self.step:
            return False
        if self.place == LINEAR and not args[0].training:
            return False
        if self.phase in ("write", "rename") and not inside_save():
            return False
        self.left -= 1
        return self.left == 0

    def kill(self) -> None:
        fell = {"step": self.at, "inside_save": inside_save(), "time": time.time()}
        # Not Path.write_text and Path.rename: those are places. Whole, where several ranks write.
        own = f"{os.environ['CRASH_LOG']}.{os.getpid()}"
        with Path(own).open("w", encoding="utf-8") as file:
            json.dump(fell, file)
        os.replace(own, os.environ["CRASH_LOG"])  # noqa: PTH105
        if "CRASH_ERRNO" in os.environ:
            number = int(os.environ["CRASH_ERRNO"])
            raise OSError(number, os.strerror(number))
        for number in os.environ.get("CRASH_SIGNALS", str(int(signal.SIGKILL))).split(","):
            os.kill(os.getpid(), int(number))


def inside_save() -> bool:
    """Whether a checkpoint or the best model is being saved."""
    frame = sys._getframe()
    while frame:
        code = frame.f_code
        if code.co_name in ("save", "save_best") and code.co_filename.endswith("checkpoints.py"):
            return True
        frame = frame.f_back
    return False


def resolve(place: str):
    """module:Class.function -> the class (or the module), and the function's name."""
    module, _, names = place.partition(":")
    *owners, name = names.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), name


def install() -> None:
    """Set up what the environment asks of this process."""
    mine = os.environ.get("CRASH_RANK", "0") in ("all", os.environ.get("RANK", "0"))
    first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if "CRASH_AT" in os.environ and mine and first_life:
        Failpoint(os.environ["CRASH_AT"]).install()
    if "CRASH_SLOW" in os.environ:
        commit = importlib.import_module("plainloop.run.atomic")
        fsync_path = commit.fsync_path

        def slow(path):
            time.sleep(float(os.environ["CRASH_SLOW"]))
            fsync_path(path)

        commit.fsync_path = slow


if __name__ == "__main__":
    install()
    from plainloop.__main__ import main

    main()
