"""Score table and loss curves on the terminal, at the end of a training."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from plainloop.errors import printable
from plainloop.predict.loaded_run import Run
from plainloop.report.content import (
    CHOSEN,
    CONSTANT,
    SCORE_NAMES,
    caveats,
    chose_how_long,
    compare_with_baselines,
    main_split,
    series,
    shown_label,
)
from plainloop.report.page import read_history, read_metrics

if TYPE_CHECKING:
    from rich.console import Console

CURVE_ROWS = 8
CURVE_COLUMNS = 60
BESIDE_CURVE = 24  # columns that plotille's axes and labels take
NARROW = 60  # columns
DOTS = "\u2824"  # braille dots, with which plotille draws lines


def draw_run(run: Run) -> None:
    """Print a run's scores for each split and its loss curves, fitted to the terminal's width."""
    console = open_console()
    metrics = read_metrics(run)
    for split, of in metrics["analysis"].items():
        headline = next(name for name in run.task.metrics if name in of["scores"])
        baselines = metrics.get("data", {}).get("baselines", {}) if split == "validation" else {}
        best = compare_with_baselines(of, baselines, headline)
        of_baseline: Mapping[str, float] = baselines[best["name"]] if best else {}
        names = [name for name in run.task.metrics if name in of["scores"]]
        rows = [
            [
                SCORE_NAMES.get(name, name),
                f"{of['scores'][name]:.4f}",
                shown_interval(of["intervals"]["scores"].get(name)),
                *([f"{of_baseline[name]:.4f}" if name in of_baseline else ""] if best else []),
            ]
            for name in names
        ]
        draw_table(
            console,
            ["", "score", "95 % CI", *(["base"] if best else [])],
            rows,
            title=f"{split}, {of['rows']:,} rows",
            notes=[*verdict_notes(run, of, split, best), *caveats(metrics, split)]
            if split == main_split(metrics)
            else (),
        )
    losses = {
        "training": series(read_history(run), "loss"),
        "validation": series(metrics["evaluations"], "loss"),
    }
    draw_curves(console, losses)


def verdict_notes(
    run: Run, of: Mapping[str, Any], split: str, best: Mapping[str, str] | None
) -> list[str]:
    """Notes below the score table: the same sentences as in the report's verdict."""
    notes = [f"The best baseline is {best['name']}: {best['means']}."] if best else []
    if of.get("constant") is not None:
        names = [printable(name) for name in run.task.label_names]
        notes.append(f"It predicts {shown_label(of['constant'], names)} {CONSTANT}")
    return notes + ([CHOSEN] if chose_how_long(run.config, split) else [])


def draw_seeds(runs: Sequence[Run], summary: Mapping[str, Any]) -> None:
    """Print the mean scores over seeds, and the training loss curve of each seed."""
    console, ensemble = open_console(), summary["ensemble"]
    rows = [
        [
            SCORE_NAMES.get(name, name),
            f"{score['mean']:.4f}",
            f"{score['standard_deviation']:.4f}",
            shown_interval(score["interval"]),
            *([f"{ensemble[name]['score']:.4f}" if name in ensemble else ""] if ensemble else []),
        ]
        for name, score in summary["scores"].items()
    ]
    title = f"{summary['split']}, {summary['rows']:,} rows, {len(runs)} seeds"
    head = ["", "mean", "deviation", "95 % interval", *(["mean prediction"] if ensemble else [])]
    draw_table(console, head, rows, title=title)
    losses = {f"seed {run.config.seed}": series(read_history(run), "loss") for run in runs}
    draw_curves(console, losses)


def open_console() -> "Console":
    """Open a rich console on stdout that prints text as it is: no markup, emoji or highlighting."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def draw_table(
    console: "Console",
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> None:
    """Print a table: first column left-aligned, others right-aligned, less padding if narrow."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    between = 0 if console.width < NARROW else 1  # in addition to the one that the box adds
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        padding=(0, between),
    )
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(f"\n{title}", table, sep="\n")
    for note in notes:
        console.print(note)


def draw_curves(
    console: "Console", lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Print loss curves; nothing on a terminal without Unicode, which has no braille dots.

    Args:
        console: the terminal.
        lines: name -> (optimizer steps, losses); lines of a single point are left out.
    """
    drawn = {name: line for name, line in lines.items() if len(line[0]) > 1}
    width = min(console.width - BESIDE_CURVE, CURVE_COLUMNS)
    if not drawn or width < 1 or not console.encoding.startswith("utf"):
        return
    from plotille import Figure

    figure = Figure()
    figure.width, figure.height, figure.with_colors = width, CURVE_ROWS, False
    figure.x_label, figure.y_label = "step", "loss"
    figure.set_x_limits(min_=0.0, max_=max(max(steps) for steps, _ in drawn.values()))
    figure.register_label_formatter(float, shown_tick)
    legend = []
    for (name, (steps, losses)), marker in zip(drawn.items(), cycle([None, *"ox+*"]), strict=False):
        figure.plot(steps, losses, marker=marker)
        legend.append(f"{DOTS}{marker or DOTS}{DOTS} {name}")
    console.print(f"\n{figure.show()}\n", "   ".join(legend), "", sep="\n")


def shown_interval(ends: Sequence[float] | None) -> str:
    """Format an interval; "none" if the score has no interval."""
    return f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "none"


def shown_tick(value: float, chars: int, delta: float, left: bool = False) -> str:  # noqa: ARG001 - plotille's
    """Format a tick label for plotille, which left-aligns steps and right-aligns losses."""
    return f"{value:.0f}".ljust(chars) if left else f"{value:.3g}".rjust(chars)
