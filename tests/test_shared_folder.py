"""The folder that processes of a machine share: there as long as its maker, and no longer."""

from pathlib import Path


def test_the_folder_is_gone_when_the_process_ends(run_command):
    script = "import plainloop as pl; print(pl.create_shared_folder(pl.create_accelerator(use_cpu=True)))"
    check = "import os; print(os.path.isdir(folder))"
    folder, was_there = run_command(
        "-c", script.replace("print(", "folder = (") + "; print(folder); " + check
    ).stdout.split()
    assert was_there == "True"
    assert Path(folder).name.startswith("plainloop-")
    assert not Path(folder).exists()
