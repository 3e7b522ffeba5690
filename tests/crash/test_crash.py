"""A run killed at any moment and resumed ends with the bits of one that never stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import crash
import matrix
import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.crash


def printed_by(script: str, *words: str) -> str:
    finished = subprocess.run(
        [sys.executable, HERE / script, *words], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
    return finished.stdout


def test_every_killed_run_ends_with_the_same_bits():
    printed = printed_by("crash.py", "--kills", "15")
    table = dict(re.findall(r"^(\w[\w ]*?) +\|(.*)$", printed, re.MULTILINE))
    names = [name.strip() for name in table.pop("phase").split("|")]
    rows = {
        phase: dict(zip(names, map(int, cells.split("|")), strict=True))
        for phase, cells in table.items()
    }
    total, chain = rows.pop("all"), rows.pop("chain of 10")
    assert set(rows) == {"forward", "backward", "optimizer", "evaluation", "write", "rename"}
    assert all(row["kills"] >= 2 for row in rows.values())
    assert all(row["kills"] == row["resumed"] == row["equal"] for row in rows.values())
    assert sum(row["kills"] for row in rows.values()) == 15
    assert sum(row["2 processes"] for row in rows.values()) == 5
    assert sum(row["inside save"] for row in rows.values()) >= 7
    assert (chain["kills"], chain["resumed"], chain["equal"]) == (10, 1, 1)
    assert total["silent differences"] == 0


@pytest.mark.nightly
def test_every_mutant_is_missed_by_name():
    printed = printed_by("mutants.py")
    assert len(re.findall("^caught: ", printed, re.MULTILINE)) >= 10
    assert printed.endswith("mutants, 0 survived; 0 unequal without one\n")


@pytest.mark.parametrize(
    "case", matrix.CASES_IN_CI, ids=lambda case: "-".join(map(str, case)).replace(" ", "-")
)
def test_each_kind_of_run_stopped_at_each_place_ends_with_the_same_bits(case):
    assert matrix.stop_and_resume(case) == []


def test_the_cases_cross_every_value_of_a_factor_with_every_other():
    pairs = {
        (first, second)
        for case in matrix.CASES
        for first in enumerate(case)
        for second in enumerate(case)
        if first < second
    }
    found = [
        (first, second)
        for case in matrix.CASES_IN_CI
        for first in enumerate(case)
        for second in enumerate(case)
        if first < second
    ]
    assert len(matrix.CASES) == 32
    assert pairs - {*found} == set()


def test_loader_workers_that_outlive_a_killed_run_do_not_hold_its_folder(tmp_path):
    kind, run = matrix.Case(2, 1, 1, "anywhere"), tmp_path / "run"
    started = matrix.bench().start(run, 1, *kind.words, fork=True)
    while not crash.history_length(run):
        time.sleep(0.002)
    os.kill(started.pids[0], signal.SIGKILL)
    os.waitpid(started.pids[0], 0)
    os.killpg(started.pids[0], 0)  # the workers are still there
    assert matrix.resume(kind, run, stop_adds_one=False) == []
    started.kill()
