"""Stop runs of every kind at every place, resume them, compare the bits with runs never stopped.

    python tests/crash/matrix.py

Loader workers 0 and 2, accumulation 1 and 4 with a ragged epoch, 1 and 2 processes, and four places.
SIGTERM, which saves a checkpoint at that very step, but in a save: SIGKILL there. Exit 1 where a
resumed run does not end with the bits of the run with the same settings that was never stopped.
"""

import atexit
import functools
import itertools
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import crash

SETTINGS = {
    "task": "demo",
    "dropout": 0.1,
    "learning_rate": 1e-3,
    "num_train_epochs": 3,
    "logging_steps": 3,
    "eval_strategy": "steps",
    "load_best_model_at_end": True,
}
BATCHES = 22  # of an epoch, in one process: 171 rows by 8, the last batch has 3
PLACES = ("within an epoch", "last step of an epoch", "evaluation", "save")


class Case(NamedTuple):
    """A run, and where it is stopped."""

    workers: int
    accumulation: int
    processes: int
    place: str

    @property
    def steps_per_epoch(self) -> int:
        return -(-BATCHES // self.processes // self.accumulation)

    @property
    def words(self) -> list[str]:
        """Evaluations fall on no step where another stop is."""
        return crash.flags_of(
            {
                "dataloader_num_workers": self.workers,
                "gradient_accumulation_steps": self.accumulation,
                "eval_steps": self.steps_per_epoch - 1,
            }
        )

    @property
    def stop(self) -> tuple[str, int]:
        """The failpoint, and the step that the newest checkpoint must then have."""
        steps = self.steps_per_epoch
        return {
            "within an epoch": (f"/accelerate:Accelerator.backward/after/{steps + 1}/1", steps + 2),
            "last step of an epoch": (
                f"/accelerate.optimizer:AcceleratedOptimizer.zero_grad/before/{steps - 1}/1",
                steps,
            ),
            "evaluation": (
                f"/plainloop.metrics.task_metric:TaskMetric.add_batch/before/{steps - 1}/2",
                steps - 1,
            ),
            # Half of the second checkpoint's optimizer is written.
            "save": (f"write/plainloop.run.checkpoints:save_file/torn/{2 * steps}/1", steps),
        }[self.place]


CASES = [Case(*factors) for factors in itertools.product((0, 2), (1, 4), (1, 2), PLACES)]
# Each value of a factor with each of every other one, from six runs that are never stopped.
CASES_IN_CI = [
    Case(0, 4, 2, "within an epoch"),
    Case(2, 1, 1, "within an epoch"),
    Case(0, 1, 1, "last step of an epoch"),
    Case(2, 4, 2, "last step of an epoch"),
    Case(0, 4, 1, "evaluation"),
    Case(2, 1, 2, "evaluation"),
    Case(0, 4, 2, "save"),
    Case(2, 1, 1, "save"),
]


@functools.cache
def bench() -> crash.Bench:
    """The one whose references all tests of this process share."""
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return crash.Bench(folder, **SETTINGS)


def reference(case: Case) -> dict:
    """The outcome of the run that was never stopped."""
    return bench().reference(case.processes, *case.words)


def resume(case: Case, run: Path, *, stop_adds_one: bool = True) -> list[str]:
    """Go on with a stopped run to its end; the names of what then differs."""
    codes = bench().start(run, case.processes, *case.words, "--resume", fork=True).wait()
    assert not any(codes), f"{codes}: {crash.log_of(run).read_text(errors='replace')[-2000:]}"
    different = crash.compare(crash.outcome(run), reference(case))
    return [name for name in different if name != "checkpoints" or not stop_adds_one]


def stop_and_resume(case: Case) -> list[str]:
    """Stop a run where the case says, and resume it; the names of what then differs."""
    from plainloop.run.checkpoints import list_checkpoints, step_of

    at, step = case.stop
    killed = case.place == "save"
    run = Path(tempfile.mkdtemp(dir=bench().folder)) / "run"
    codes = bench().start(
        run, case.processes, *case.words, fork=True,
        CRASH_AT=at, CRASH_LOG=run.with_suffix(".fell"),
        CRASH_SIGNALS=int(signal.SIGKILL if killed else signal.SIGTERM),
        CRASH_RANK=0 if killed else case.processes - 1,
    ).wait()  # fmt: skip
    log = crash.log_of(run).read_text(errors="replace")
    if killed:
        assert codes[0] == -signal.SIGKILL, f"{codes}: {log[-2000:]}"
    else:
        assert codes == [128 + signal.SIGTERM] * case.processes, f"{codes}: {log[-2000:]}"
    newest = list_checkpoints(run / "checkpoints")[-1]
    assert step_of(newest) == step, newest
    state = json.loads((newest / "state.json").read_text())["state"]
    assert state["evaluation_due"] == (case.place == "evaluation")
    return resume(case, run, stop_adds_one=not killed)


def main() -> int:
    """Print a row for each case; return how many are not equal."""
    failures, started = 0, time.monotonic()
    for accumulation, processes in itertools.product((1, 4), (1, 2)):
        without, with_workers = (Case(n, accumulation, processes, PLACES[0]) for n in (0, 2))
        if different := crash.compare(reference(without), reference(with_workers)):
            failures += 1
            print(f"workers make a difference: {without[1:3]}: {', '.join(different)}")
    print(" | ".join((*Case._fields[:3], f"{'stopped in':<21}", "result")))
    for case in CASES:
        try:
            different = stop_and_resume(case)
            result = f"other {', '.join(different)}" if different else "equal"
        except AssertionError as error:
            result = f"FAILED {error}"
        failures += result != "equal"
        cells = [f"{value:>{len(name)}}" for name, value in zip(Case._fields, case[:3])]  # noqa: B905
        print(" | ".join((*cells, f"{case.place:<21}", result)), flush=True)
    print(f"{len(CASES)} cases, {failures} failures, {crash.seconds(started)}")
    return failures


if __name__ == "__main__":
    sys.exit(bool(main()))
