"""`plainloop --install-completion` in a real bash, and no flag that --help lists twice."""

import re
import subprocess
from collections import Counter

import pytest

from plainloop.cli.app import app

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
    app([command, "--help"], result_action="return_value")
    flags = re.findall(r"^│ (?:\* +)?[A-Z ]*(-.*?)  ", capsys.readouterr().out, re.MULTILINE)
    names = Counter(name for line in flags for name in line.split() if name.startswith("-"))
    assert names
    assert [name for name, times in names.items() if times > 1] == []
