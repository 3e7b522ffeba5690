"""A process that is killed or frozen: the others end soon, one says which it was, and none is left."""

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import python

FAILPOINTS = Path(__file__).parent.parent / "crash" / "failpoints.py"
LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": [
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
        *("--main_process_port", "0"),
    ],
}
PLACES = {
    "forward": "torch.nn:Linear.forward",
    "backward": "accelerate:Accelerator.backward",
    "optimizer": "torch:_fused_adamw_",
    "evaluation": "plainloop.metrics.task_metric:TaskMetric.add_batch",
}
KILLED, FROZEN = signal.SIGKILL, signal.SIGSTOP
MOST_SECONDS = 60
SHORT = ("--step-timeout", "3")  # so that a test does not wait as long as a person's run


class Death(NamedTuple):
    phase: str
    step: int
    rank: int
    by: signal.Signals
    launcher: str
    flags: tuple[str, ...] = SHORT

    def __str__(self) -> str:
        return f"{self.phase}-{self.step}-rank-{self.rank}-{self.by.name}-{self.launcher}"


def seeded_deaths() -> list[Death]:
    """Ten: each phase, both ranks, both signals, both launchers; the last with the default wait."""
    draw, found = random.Random(4), []
    for number in range(10):
        phase = list(PLACES)[number % len(PLACES)]
        by = FROZEN if number % 3 == 0 else KILLED
        launcher = list(LAUNCHERS)[number // 2 % 2]
        flags = () if number == 9 else SHORT
        step = 4 if phase == "evaluation" else draw.randint(1, 9)
        found.append(Death(phase, step, draw.randrange(2), by, launcher, flags))
    return found


def processes_of(run: Path) -> list[int]:
    """Those that have the run's folder in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if str(run).encode() in words:
            found.append(int(path.parent.name))
    return found


def run_until_death(death: Death, model: Path, data: Path, run: Path, **environment: str) -> str:
    """Launch two processes of which one falls; check that all end in time; what was printed."""
    fell = run.with_suffix(".fell")
    words = ["train", "--task", "demo", "--model", str(model), "--data-dir", str(data)]
    words += ["--epochs", "5", "--batch-size", "4", "--eval-strategy", "steps", "--eval-steps", "4"]
    words += ["--output-dir", str(run), *death.flags]
    with run.with_suffix(".log").open("wb") as log:
        launcher = subprocess.Popen(
            [python(), *LAUNCHERS[death.launcher], str(FAILPOINTS), *words],
            env=os.environ
            | {
                "CRASH_AT": f"{death.phase}/{PLACES[death.phase]}/before/{death.step}/1",
                "CRASH_RANK": str(death.rank),
                "CRASH_SIGNALS": str(int(death.by)),
                "CRASH_LOG": str(fell),
                **environment,
            },
            stdout=log,
            stderr=log,
        )
    try:
        code = launcher.wait(timeout=180)
        ended = time.time()
        while left := processes_of(run):
            assert time.time() < ended + 10, f"left after 10 s: {left}"
            time.sleep(0.1)
    finally:
        launcher.kill()
        for pid in processes_of(run):
            os.kill(pid, signal.SIGKILL)
    printed = run.with_suffix(".log").read_text(errors="replace").replace("\r", "\n")
    assert fell.exists(), printed[-3000:]
    assert ended - json.loads(fell.read_text())["time"] < MOST_SECONDS
    assert code != 0
    return printed


def check_death(death: Death, model: Path, data: Path, run: Path) -> None:
    printed = run_until_death(death, model, data, run)
    said = re.findall(r"error: (.*)", printed)
    assert len(said) == 1, printed[-3000:]
    what = "has not answered in time" if death.by == FROZEN else "has ended"
    step, rest = re.fullmatch(r"after step (\d+): (.*)", said[0]).groups()
    # The survivor of a death between the exchanges of a step may have done its own part of it.
    assert int(step) - death.step in ((0, 1) if death.phase == "optimizer" else (0,))
    assert rest.startswith(f"rank {death.rank} {what}; ")
    assert "--resume" in said[0]
    assert (
        "plainloop/training/loop.py" not in printed
    )  # no traceback of ours; the launcher has its own
    assert re.search(rf"rank +: {1 - death.rank} .*\n *exitcode +: 4 ", printed)


@pytest.mark.distributed
@pytest.mark.parametrize(
    "death",
    [
        Death("backward", 5, 1, KILLED, "torchrun"),
        Death("evaluation", 4, 0, FROZEN, "accelerate"),
    ],
    ids=str,
)
def test_the_survivor_names_the_lost_rank_and_all_processes_end(
    death, tiny_model, tiny_data, tmp_path
):
    check_death(death, tiny_model, tiny_data, tmp_path / "run")


@pytest.mark.nightly
@pytest.mark.parametrize("death", seeded_deaths(), ids=str)
def test_ten_seeded_deaths(death, tiny_model, tiny_data, tmp_path):
    check_death(death, tiny_model, tiny_data, tmp_path / "run")


@pytest.mark.distributed
def test_a_rank_that_fails_by_itself_says_why_and_the_other_is_silent(
    tiny_model, tiny_data, tmp_path
):
    death = Death("backward", 3, 1, KILLED, "torchrun")
    full = {"CRASH_ERRNO": "28"}
    printed = run_until_death(death, tiny_model, tiny_data, tmp_path / "run", **full)
    [line] = re.findall(r"error: (.*)", printed)
    assert line.startswith(f"{tmp_path / 'run'}: the disk is full; make room, ")
    assert line.endswith(", then --resume")
    assert re.search(r"rank +: 1 .*\n *exitcode +: 4 ", printed)


def test_the_seeded_deaths_are_of_every_kind():
    deaths = seeded_deaths()
    assert len(set(deaths)) == 10
    assert {death.rank for death in deaths} == {0, 1}
    assert {death.by for death in deaths} == {KILLED, FROZEN}
    assert {death.launcher for death in deaths} == set(LAUNCHERS)
    assert {death.phase for death in deaths} == set(PLACES)
