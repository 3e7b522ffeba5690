"""What saving costs: the share of a run's time that its checkpoints take.

    python benchmarks/saving.py
    python benchmarks/saving.py --data-dir GLUE

The demo model on the demo task and, where the folder of the GLUE files is given, on MRPC, each with
a checkpoint after every epoch. The share is of one run and not of two that are compared: the seconds
within `Checkpoints.save`, all flushes to the disk included, over the seconds of `train`, evaluations
included. The runs are in the folder for temporary files: TMPDIR chooses the disk. Other flags are those
of `plainloop train`. Exit code 1: a run spends 5 % or more on saving.
"""

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from plainloop.cli.exits import expected_errors_exit
from plainloop.cli.flags import parse_config
from plainloop.config.settings import TrainConfig
from plainloop.run.checkpoints import Checkpoints, list_checkpoints
from plainloop.training import fine_tune as fine_tuning
from plainloop.training.loop import train

LIMIT = 0.05


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The function, with the duration of each call appended to `seconds`."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - started)

    return call


def share_of_saving(config: TrainConfig) -> float:
    """Run once, print what was measured, and return the share, between 0 and 1."""
    saves: list[float] = []
    runs: list[float] = []
    with (
        patch.object(Checkpoints, "save", timed(Checkpoints.save, saves)),
        patch.object(fine_tuning, "train", timed(train, runs)),
    ):
        metrics = fine_tuning.fine_tune(config)
    newest = list_checkpoints(config.run_path / "checkpoints")[-1]
    megabytes = sum(file.stat().st_size for file in newest.iterdir()) / 1e6
    share = sum(saves) / sum(runs)
    print(
        f"{config.task}: {metrics['steps']} steps in {sum(runs):.1f} s, {len(saves)} checkpoints of "
        f"{megabytes:.1f} MB in {sum(saves):.2f} s (the longest {max(saves):.2f} s): "
        f"saving takes {100 * share:.2f} % of the time"
    )
    return share


def main(tokens: list[str]) -> int:
    """Measure; 1 where saving takes too much."""
    config = parse_config(tokens, program="saving.py", description=__doc__ or "")
    tasks = {"demo": None, **({"mrpc": config.data_dir} if config.data_dir else {})}
    shares = []
    for task, data_dir in tasks.items():
        with tempfile.TemporaryDirectory() as folder:
            run = replace(
                config, task=task, data_dir=data_dir, model="demo", output_dir=Path(folder) / "run"
            )
            shares.append(share_of_saving(run))
    return int(max(shares) >= LIMIT)


if __name__ == "__main__":
    with expected_errors_exit():
        sys.exit(main(sys.argv[1:]))
