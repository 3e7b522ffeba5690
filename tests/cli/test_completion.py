"""`plainloop --install-completion` in a real bash, --help on one screen, and no flag that --help-all lists twice."""

import re
import subprocess
from collections import Counter

import pytest

from plainloop.cli.app import app
from plainloop.cli.flags import run_app

WITH_FLAGS = ["check", "compare", "demo", "eject", "evaluate", "predict", "train"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "wanted"),
    [("plainloop ej", "eject"), ("plainloop train --learn", "--learning-rate")],
)
def test_bash_completes_commands_and_flags(words, wanted, run_command, tmp_path):
    run_command(*("-m", "plainloop", "--install-completion", "--shell", "bash"), HOME=str(tmp_path))
    (script,) = (tmp_path / ".local").rglob("plainloop")
    asked = subprocess.run(
        [
            "bash",
            "-c",
            f"""
            . "$1"
            COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _plainloop; printf '%s\\n' "${{COMPREPLY[@]}}"
            """,
            "bash",
            str(script),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.split() == [wanted]


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
