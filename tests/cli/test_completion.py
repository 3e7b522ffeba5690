"""`plainloop --install-completion` in a real bash."""

import subprocess

import pytest


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
