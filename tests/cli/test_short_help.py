"""--help on one screen with examples, and --help-all with each flag once."""

import re
import runpy
import sys
from collections import Counter

import pytest
from conftest import ROOT

from plainloop.cli.app import app
from plainloop.cli.flags import run_app

WITH_FLAGS = ["check", "compare", "demo", "eject", "evaluate", "predict", "train"]


@pytest.mark.parametrize("command", WITH_FLAGS)
def test_no_command_has_a_flag_twice(command, capsys):
    run_app(app, [command, "--help-all"])
    flags = re.findall(r"^│ (?:\* +)?[A-Z ]*(-.*?)  ", capsys.readouterr().out, re.MULTILINE)
    names = Counter(name for line in flags for name in line.split() if name.startswith("-"))
    assert names
    assert [name for name, times in names.items() if times > 1] == []


COMMON = ["train-file", "task", "validation-file", "text-column", "label-column", "model"]
COMMON += ["epochs", "batch-size", "lr", "seed", "output-dir", "resume"]


@pytest.mark.parametrize("command", [*WITH_FLAGS, "export", "report"])
def test_the_help_of_a_command_is_one_screen_that_tells_where_the_rest_is(
    command, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    run_app(app, [command, "--help"])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) <= 45
    assert [line for line in shown if len(line) > 80] == []
    run_app(app, [command, "--help-all"])
    in_full = capsys.readouterr().out
    is_short = shown[-1] == f"plainloop {command} --help-all lists all flags."
    assert is_short == (command in ("check", "eject", "predict", "train"))
    assert is_short or set(in_full.splitlines()) <= set(shown)


def test_the_help_of_train_has_the_common_flags_and_examples(capsys):
    run_app(app, ["train", "--help"])
    shown = capsys.readouterr().out
    assert re.findall(r"^│ (?:TRAIN-FILE )?--([a-z-]+)", shown, re.MULTILINE) == COMMON
    assert "\n    plainloop train reviews.csv\n" in shown


def test_the_help_of_check_leaves_out_what_only_a_training_needs(capsys):
    run_app(app, ["check", "--help"])
    shown = capsys.readouterr().out
    flags = re.findall(r"^│ (?:TRAIN-FILE )?--([a-z-]+)", shown, re.MULTILINE)
    assert flags == ["report", "embeddings", *COMMON[:6], "seed"]
    run_app(app, ["check", "--help-all"])
    assert "--resume" in capsys.readouterr().out


def test_a_script_shows_its_docstring_the_common_flags_and_its_examples_line_by_line(
    capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert not end.value.code
    shown = capsys.readouterr().out
    assert "Fine-tune a text classifier" in shown
    assert "--train-file" in shown
    examples = shown.partition("\nExamples:\n")[2].splitlines()
    assert examples[0] == "    python train.py --task demo --model demo"
    assert examples[1].startswith("    accelerate launch train.py ")
    assert shown.count("accelerate launch") == 1
    assert examples[-1] == "train.py --help-all lists all flags."
