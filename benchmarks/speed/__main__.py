"""How fast plainloop is, beside the Trainer and the tutorial's loop: `make bench`."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import App, Parameter
from joblib import cpu_count

from plainloop.cli.exits import expected_errors_exit
from plainloop.cli.flags import run_app
from plainloop.errors import UserError, nearest
from speed.accuracy import measure_seed
from speed.architectures import BASE, STEPS as BATCH_SIZES, measure_architecture
from speed.figures import Entry
from speed.growth import SIZES, measure_growth
from speed.page import check_page, describe_details, describe_figures, write_page
from speed.prediction import measure_prediction
from speed.profiled import (
    BATCH_SIZE as PROFILED_BATCH_SIZE,
    STEPS as PROFILED_STEPS,
    measure_profile,
)
from speed.results import Results, describe_machine
from speed.rows import choose_rows, measure_row
from speed.startup import measure_startup
from speed.tokenization import measure_tokenization
from speed.work import Work

BUSY = 0.5
"""Load average above which times say little."""
GROWTH_STEPS = 100
Part = Literal[
    "train",
    "profile",
    "architectures",
    "startup",
    "prediction",
    "tokenization",
    "growth",
    "accuracy",
]
_SEVERAL = Parameter(consume_multiple=True, negative=())

app = App(name="python -m speed", help=__doc__)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, and how often."""

    parts: Annotated[tuple[Part, ...], _SEVERAL] = tuple(
        part for part in get_args(Part) if part != "accuracy"
    )
    """What to measure; accuracy, the full training on every seed, only where it is asked for. Alone it
    goes on with the results of another machine, too: it measures no time."""

    rows: Annotated[tuple[str, ...], _SEVERAL] = ()
    """Rows of the training table, as mrpc-8. Default: all."""

    architectures: Annotated[tuple[str, ...], _SEVERAL] = tuple(BASE)
    """Model types of the part architectures."""

    repeats: int = 5
    """How often each side is measured."""

    steps: int | None = None
    """Optimizer steps of a training block. Default: by row, 30 to 100."""

    passes: int = 5
    """How often a block of prediction goes over the validation rows."""

    sizes: Annotated[tuple[int, ...], _SEVERAL] = SIZES
    """Training rows of the part growth."""

    seeds: Annotated[tuple[int, ...], _SEVERAL] = (42, 43, 44)
    """Seeds of the part accuracy."""

    data_dir: Path | None = None
    """Folder of the GLUE files. Default: the embedded data."""

    model: str = "demo"
    """A BERT classifier, as `plainloop train` takes it."""

    threads: int = cpu_count()
    """Threads of every side."""

    results: Path = Path("runs/bench/results.json")
    """File of all measurements; what it has is not measured again."""

    page: Path | None = None
    """Page that takes the tables, between its markers. Default: they are only printed."""


@app.default
def bench(options: Options = Options()) -> None:
    """Measure what is missing, and print the tables.

    One command measures all, side by side, on an otherwise idle machine. Stopped, it goes on where it
    was: with the first row, or other part, that is not in the results yet.

    Examples:
        make bench

        python -m speed --parts train --rows mrpc-8 --data-dir GLUE

        python -m speed --parts accuracy --data-dir GLUE

        python -m speed --rows demo-8 --repeats 2 --steps 3 --results /tmp/results.json
    """
    results = open_results(options)
    for name, measure in plan(options).items():
        if name not in results.entries:
            results.add(name, measure())
    print(describe_figures(results, "performance.svg"), describe_details(results), sep="\n")
    if options.page:
        write_page(results, options.page)
        print(f"written to {options.page}")


def open_results(options: Options) -> Results:
    """Check the options, before anything is measured.

    Raises:
        UserError: one cannot be used.
    """
    counts = {
        "--repeats": options.repeats,
        "--passes": options.passes,
        "--threads": options.threads,
    }
    if options.steps is not None:
        counts["--steps"] = options.steps
    problems = [
        UserError(f"{number} is out of range", where=flag, fix="give at least 1")
        for flag, number in counts.items()
        if number < 1
    ]
    problems += [
        UserError(
            f"no architecture '{name}'",
            where="--architectures",
            fix=nearest(name, BASE),
        )
        for name in options.architectures
        if name not in BASE
    ]
    if problems:
        raise UserError.together(problems)
    choose_rows(options.data_dir, options.rows)
    if options.page:
        check_page(options.page)
    data = {"data": "the embedded data" if options.data_dir is None else "GLUE"}
    only_scores = options.parts == ("accuracy",)
    results = Results(
        options.results,
        {**describe_machine(options.threads), **data, "model": options.model},
        any_hardware=only_scores,
    )
    load = os.getloadavg()[0]
    if load > BUSY and not only_scores:
        print(f"warning: the machine is busy (load {load:.1f}): times say little", file=sys.stderr)
    return results


def plan(options: Options) -> dict[str, Callable[[], Entry]]:
    """What the options ask for: name of an entry -> what measures it."""
    threads, repeats, passes = options.threads, options.repeats, options.passes
    folder = str(options.data_dir.resolve()) if options.data_dir else None
    work = Work("mrpc" if folder else "demo", folder, options.model, batch_size=8, max_steps=1)
    demo = replace(work, task="demo", data_dir=None)
    short_rows = replace(work, task="stsb") if folder else demo
    train = {
        f"train/{row.name}": partial(
            measure_row,
            row,
            steps=options.steps or row.steps,
            data_dir=folder,
            model=options.model,
            repeats=repeats,
            threads=threads,
        )
        for row in choose_rows(options.data_dir, options.rows)
    }
    growth = partial(measure_growth, sizes=options.sizes, steps=options.steps or GROWTH_STEPS)
    every: dict[str, Callable[[], Entry]] = {
        **train,
        **{
            f"profile/{row.name}": partial(
                measure_profile,
                row.name,
                replace(work, task=row.task, batch_size=row.batch_size),
                steps=options.steps or PROFILED_STEPS,
                threads=threads,
            )
            for row in choose_rows(options.data_dir, options.rows)
            if row.batch_size == PROFILED_BATCH_SIZE
        },
        **{
            f"architectures/{name}-{batch_size}": partial(
                measure_architecture,
                name,
                replace(short_rows, batch_size=batch_size),
                repeats=repeats,
                threads=threads,
            )
            for name in options.architectures
            for batch_size in BATCH_SIZES
        },
        "startup": partial(measure_startup, demo, repeats=repeats, threads=threads),
        "prediction": partial(
            measure_prediction, work, passes=passes, repeats=repeats, threads=threads
        ),
        "tokenization": partial(measure_tokenization, work, repeats=repeats, threads=threads),
        "growth": partial(growth, work, threads=threads),
        **{
            f"accuracy/{seed}": partial(measure_seed, work, seed=seed, threads=threads)
            for seed in options.seeds
        },
    }
    return {
        name: measure for name, measure in every.items() if name.partition("/")[0] in options.parts
    }


if __name__ == "__main__":
    with expected_errors_exit():
        run_app(app, sys.argv[1:])
