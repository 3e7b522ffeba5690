"""What makes a better model from the same rows: recipes and the default, on folds of the training rows.

    PYTHONPATH=benchmarks python -m quality GLUE --minutes 60
    PYTHONPATH=benchmarks python -m quality GLUE --tasks mrpc cola stsb --first-seed 5 --seeds 5
    PYTHONPATH=benchmarks python -m quality GLUE --recipes "lr 1e-4" --own-split --seeds 5

Trains what is missing in results.jsonl, beginning nothing after --minutes, and prints the tables of what
was asked for. Seed and fold change together: a recipe and the default of a seed have the same rows and
the same seed. Seeds 0 and 1 choose the recipes; those from 5 on, on folds of another partition, measure
them, because the gain of what was chosen for its gain is too high.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from speed.results import describe_machine

import plainloop as pl
from quality.recipes import DEFAULT, DISTILLED, ENSEMBLE, PAIRS_ONLY, RECIPES
from quality.tables import describe
from quality.training import Data, Predicted, train_recipe, train_with_teachers

RESULTS = Path(__file__).parent / "results.jsonl"
TASKS = ("mrpc", "cola", "stsb")


class Cell(NamedTuple):
    """A result of the study: of a fold that the seed has, or of GLUE's own split."""

    task: str
    recipe: str
    seed: int
    own_split: bool


def cells(tasks: list[str], recipes: list[str], seeds: range, *, own_split: bool) -> Iterator[Cell]:
    """All of them, seed by seed: those of several models first, whose first model is the default."""
    ordered = sorted(dict.fromkeys([DEFAULT, *recipes]), key=lambda recipe: recipe in RECIPES)
    for seed in seeds:
        for task in tasks:
            for recipe in ordered:
                is_own_task = recipe in RECIPES and task == RECIPES[recipe].first_task
                if not is_own_task and not (task == "cola" and recipe in PAIRS_ONLY):
                    yield Cell(task, recipe, seed, own_split)


def train_cell(cell: Cell, glue: Path) -> dict[str, Predicted]:
    """Train what a cell needs; recipe -> result, of the cell's recipe and of others that come with it."""
    data = Data.read(cell.task, glue, None if cell.own_split else cell.seed)
    if cell.recipe in (ENSEMBLE, DISTILLED):
        return train_with_teachers(data, cell.seed)
    return {cell.recipe: train_recipe(RECIPES[cell.recipe], data, glue, cell.seed)}


def settings_of(recipe: str) -> dict[str, Any]:
    """What a recipe was when it was trained, as JSON has it."""
    return asdict(RECIPES[recipe]) if recipe in RECIPES else {}


def read_results(path: Path) -> dict[Cell, dict[str, Any]]:
    """The results so far; a last line that a kill has cut is removed from the file.

    Raises:
        SystemExit: a recipe has other settings than when it was trained.
    """
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    results = {}
    for line in map(json.loads, text.splitlines()):
        if line["settings"] != settings_of(line["recipe"]):
            raise SystemExit(
                f"{path} has {line['recipe']!r} with other settings: give it another name"
            )
        results[Cell(*(line[name] for name in Cell._fields))] = line
    return results


def main() -> None:
    """Train what is missing; print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("glue", type=Path, help="folder of the GLUE files")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["mrpc", "cola"])
    every = [*RECIPES, ENSEMBLE, DISTILLED]
    parser.add_argument("--recipes", nargs="+", choices=every, default=every)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds")
    parser.add_argument(
        "--own-split", action="store_true", help="GLUE's own training rows and dev rows"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so long")
    options = parser.parse_args()
    started, glue = time.monotonic(), options.glue.resolve()
    results, machine = read_results(RESULTS), describe_machine(threads=2)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    wanted = [*cells(options.tasks, options.recipes, seeds, own_split=options.own_split)]
    for cell in wanted:
        if cell in results or time.monotonic() - started > 60 * options.minutes:
            continue
        try:
            trained = train_cell(cell, glue)
        except pl.PlainloopError as error:  # as of a loss that is not finite
            print(*cell, f"failed: {error}", flush=True)
            continue
        for recipe, predicted in trained.items():
            found = cell._replace(recipe=recipe)
            if found in results:
                continue
            results[found] = {
                **found._asdict(),
                "settings": settings_of(recipe),
                "seconds": round(predicted.seconds, 1),
                "machine": machine,
                # The last column says all: the probability of the second label, or the value.
                "predictions": [round(value, 5) for value in predicted.rows[:, -1].tolist()],
            }
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(results[found]) + "\n")
            print(*found, f"{predicted.seconds:.0f} s", flush=True)
    print("\n".join(describe([results[cell] for cell in wanted if cell in results], glue)))


if __name__ == "__main__":
    main()
