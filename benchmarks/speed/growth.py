"""How time and memory grow with the number of training rows."""

import csv
import itertools
import tempfile
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from speed.child import environment
from speed.watch import watch
from speed.work import Work

SIZES = (1_000, 10_000, 100_000, 1_000_000)
WARM_UP_STEPS = 5
STAGES = {
    "imports, reading": ("", "Data"),
    "checks, tokenization": ("Data", "Tokenize"),
    "loaders": ("Tokenize", "One batch"),
    "model": ("One batch", "Schedule"),
}
"""Stage -> the titles of the printed lines that it begins and ends with."""


def write_rows(work: Work, path: Path, split: str, num_rows: int) -> None:
    """Write a csv file of a task's rows, repeated, each made different by a number behind it."""
    from plainloop.config.tasks import get_task
    from plainloop.data.glue import read_splits

    task = get_task(work.task)
    raw = read_splits(task, Path(work.data_dir) if work.data_dir else None)
    rows = raw[split].to_list()
    columns = [*task.text_columns, "label"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, row in enumerate(itertools.islice(itertools.cycle(rows), num_rows)):
            first, *others = (row[name] for name in columns)
            writer.writerow([f"{first} {number}", *others])


def measure_growth(
    work: Work, *, sizes: tuple[int, ...], steps: int, threads: int
) -> dict[str, Any]:
    """Train for so many steps on files of each size, with an empty cache.

    Returns:
        size -> seconds of each stage and of the first step, samples_per_second of the steps,
        peak_memory and own_memory in bytes, as `Watched` has them.
    """
    grown: dict[str, Any] = {}
    for size in tqdm(sizes, desc="growth", unit="size", leave=False):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            train, validation = folder / "train.csv", folder / "validation.csv"
            write_rows(work, train, "train", size)
            write_rows(work, validation, "validation", 100)
            flags = ["--train-file", str(train), "--validation-file", str(validation)]
            flags += ["--model", work.model, "--batch-size", str(work.batch_size)]
            flags += ["--max-steps", str(WARM_UP_STEPS + steps), "--logging-steps", "1"]
            flags += ["--eval-strategy", "no", "--save-strategy", "no"]
            caches = {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hf")}
            seen = watch(flags, folder / "watched", {**environment(threads), **caches})
        said = {"": 0.0, **seen.said}
        duration = seen.steps[-1] - seen.steps[WARM_UP_STEPS - 1]
        grown[str(size)] = {
            **{stage: said[end] - said[start] for stage, (start, end) in STAGES.items()},
            "first step": seen.steps[0] - said["Schedule"],
            "samples_per_second": work.batch_size * steps / duration,
            "peak_memory": seen.peak_memory,
            "own_memory": seen.own_memory,
        }
    return grown
