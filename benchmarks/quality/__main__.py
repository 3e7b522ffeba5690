"""What makes a better model from the same rows: recipes beside the default, on folds of the training rows.

    PYTHONPATH=benchmarks python -m quality GLUE --minutes 60
    PYTHONPATH=benchmarks python -m quality GLUE --tasks mrpc cola stsb --seeds 5 --recipes "lr 1e-4"
    PYTHONPATH=benchmarks python -m quality GLUE --own-split --seeds 5 --recipes "lr 1e-4"

Trains what is missing in results.jsonl, beginning nothing after --minutes, and prints the tables. Seed
and fold change together: a recipe and the default of a seed have the same rows and the same seed.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from speed.results import describe_machine

from quality.recipes import DEFAULT, DISTILLED, ENSEMBLE, PAIRS_ONLY, RECIPES
from quality.tables import describe
from quality.training import FOLDS, Data, Predicted, train_recipe, train_with_teachers

RESULTS = Path(__file__).parent / "results.jsonl"
TASKS = ("mrpc", "cola", "stsb")


class Cell(NamedTuple):
    """A result of the study. The fold is None for GLUE's own split."""

    task: str
    recipe: str
    seed: int
    fold: int | None


def cells(tasks: list[str], recipes: list[str], seeds: int, *, own_split: bool) -> Iterator[Cell]:
    """All of them, seed by seed, the default of each first."""
    for seed in range(seeds):
        for task in tasks:
            for recipe in dict.fromkeys([DEFAULT, *recipes]):
                is_own_task = recipe in RECIPES and task == RECIPES[recipe].first_task
                if not is_own_task and not (task == "cola" and recipe in PAIRS_ONLY):
                    yield Cell(task, recipe, seed, None if own_split else seed % FOLDS)


def train_cell(cell: Cell, glue: Path) -> dict[str, Predicted]:
    """Train what a cell needs; recipe -> result, of the cell's recipe and of others that come with it."""
    data = Data.read(cell.task, glue, cell.fold)
    if cell.recipe in (ENSEMBLE, DISTILLED):
        return train_with_teachers(data, cell.seed)
    return {cell.recipe: train_recipe(RECIPES[cell.recipe], data, glue, cell.seed)}


def main() -> None:
    """Train what is missing; print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("glue", type=Path, help="folder of the GLUE files")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["mrpc", "cola"])
    every = [*RECIPES, ENSEMBLE, DISTILLED]
    parser.add_argument("--recipes", nargs="+", choices=every, default=every)
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds, from 0 on")
    parser.add_argument(
        "--own-split", action="store_true", help="GLUE's own training rows and dev rows"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so long")
    options = parser.parse_args()
    started, glue = time.monotonic(), options.glue.resolve()
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    results = [json.loads(line) for line in lines]
    done = {Cell(*(line[name] for name in Cell._fields)) for line in results}
    machine = describe_machine(threads=2)["cpu"]
    for cell in cells(options.tasks, options.recipes, options.seeds, own_split=options.own_split):
        if cell in done or time.monotonic() - started > 60 * options.minutes:
            continue
        for recipe, predicted in train_cell(cell, glue).items():
            found = cell._replace(recipe=recipe)
            if found in done:
                continue
            result = {**found._asdict(), "seconds": round(predicted.seconds, 1), "cpu": machine}
            # The last column says all: the probability of the second label, or the value.
            result["predictions"] = [round(value, 5) for value in predicted.rows[:, -1].tolist()]
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            results.append(result)
            done.add(found)
            print(*found, f"{predicted.seconds:.0f} s", flush=True)
    print("\n".join(describe(results, glue)))


if __name__ == "__main__":
    main()
