"""Each architecture goes through a run as docs/architectures.md says; the page is what the command wrote."""

import json
import os
import subprocess

import pytest
from architectures.checks import Checks
from architectures.page import BAD, BEGIN, END, describe, write_page
from architectures.tiny import ARCHITECTURES
from conftest import ROOT, python

RESULTS = json.loads((ROOT / "docs" / "architectures.json").read_text(encoding="utf-8"))
FAMILIES = [
    "bert",
    "deberta-v2",
    "mpnet",
    "modernbert",
    "qwen3",
    "gpt2",
    "bart",
    "t5",
    "nomic_bert",
    "big_bird",
    "fnet",
    "xlnet",
]


def outcome_of(kind, folder, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    (folder / "work").mkdir()
    return Checks(kind, folder / "work").run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_does_what_the_page_says(kind, tmp_path, monkeypatch):
    assert outcome_of(kind, tmp_path, monkeypatch) == RESULTS["architectures"][kind]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind not in FAMILIES])
def test_each_architecture_does_what_the_page_says(kind, tmp_path, monkeypatch):
    assert outcome_of(kind, tmp_path, monkeypatch) == RESULTS["architectures"][kind]


def test_no_architecture_ends_in_a_traceback_or_is_wrong():
    bad = {
        f"{kind}: {column}": text
        for kind, found in RESULTS["architectures"].items()
        for column, text in found.items()
        if text.startswith(BAD)
    }
    assert bad == {}
    assert set(RESULTS["architectures"]) == set(ARCHITECTURES)


def test_the_page_has_the_results(tmp_path):
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0] == describe(RESULTS)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_command_notes_what_it_finds_and_writes_the_page(tmp_path):
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n", encoding="utf-8")
    command = [python(), "-m", "architectures", "--only", "layoutlmv2", "reformer"]

    def run():
        finished = subprocess.run(
            [*command, "--page", str(page), "--results", str(results)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    assert [line.split()[0] for line in run().splitlines()] == ["layoutlmv2", "reformer"]
    assert run() == ""  # nothing is checked twice
    written = page.read_text(encoding="utf-8")
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "of 127 architectures 2 were tried and 0 train" in written
    assert "| reformer | no (2) |" in written
    assert "detectron2" in written
    write_page(page, {"versions": {}, "architectures": {"bert": {"trains": "WRONG: a|b"}}})
    written = page.read_text(encoding="utf-8")
    assert "| bert | **no** (1) |" in written
    assert "1. WRONG: a/b" in written
