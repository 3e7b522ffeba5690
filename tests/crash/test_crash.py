"""A run killed at any moment and resumed ends with the bits of one that never stopped."""

import re
import subprocess
import sys
from pathlib import Path

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
    printed = printed_by("crash.py", "--kills", "30")
    table = dict(re.findall(r"^(\w[\w ]*?) +\|(.*)$", printed, re.MULTILINE))
    names = [name.strip() for name in table.pop("phase").split("|")]
    rows = {
        phase: dict(zip(names, map(int, cells.split("|")), strict=True))
        for phase, cells in table.items()
    }
    total, chain = rows.pop("all"), rows.pop("chain of 10")
    assert set(rows) == {"forward", "backward", "optimizer", "evaluation", "write", "rename"}
    assert all(row["kills"] >= 4 for row in rows.values())
    assert all(row["kills"] == row["resumed"] == row["equal"] for row in rows.values())
    assert sum(row["kills"] for row in rows.values()) == 30
    assert sum(row["2 processes"] for row in rows.values()) == 10
    assert sum(row["inside save"] for row in rows.values()) >= 15
    assert (chain["kills"], chain["resumed"], chain["equal"]) == (10, 1, 1)
    assert total["silent differences"] == 0


def test_every_mutant_is_missed_by_name():
    printed = printed_by("mutants.py")
    assert len(re.findall("^caught: ", printed, re.MULTILINE)) >= 10
    assert printed.endswith("mutants, 0 survived; 0 unequal without one\n")
