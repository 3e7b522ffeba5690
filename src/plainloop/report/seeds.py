"""The seeds of a run: a folder of runs that differ in nothing else."""

from pathlib import Path

from plainloop.predict import Run, load_run

SEED_FOLDERS = "seed-*"


def load_seeds(path: Path) -> list[Run]:
    """The run in a folder, or the runs of each seed in it, by seed.

    Raises:
        UserError: no run, or one that is not finished.
    """
    folders = sorted(path.glob(SEED_FOLDERS), key=lambda folder: (len(folder.name), folder.name))
    return [load_run(folder) for folder in folders] or [load_run(path)]
