"""The plot: how many times the Trainer's speed each side has, row by row."""

from pathlib import Path

from speed.figures import Entry, speed_ratio
from speed.sides import SIDES, TRAINER

GROUP = 0.8
"""Width of a group of bars; groups are 1 apart."""


def plot_rows(rows: dict[str, Entry], path: Path) -> None:
    """Write an SVG file with a group of bars for each row."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 1.3 * len(rows), 3.6), layout="constrained")
    axes = figure.subplots()
    sides = [side for side in SIDES if all(side in row["sides"] for row in rows.values())]
    width = GROUP / len(sides)
    for number, side in enumerate(sides):
        places = [place + (number - len(sides) / 2 + 0.5) * width for place in range(len(rows))]
        heights = [speed_ratio(row, side, TRAINER) for row in rows.values()]
        axes.bar(places, heights, width, label=side)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.set_xlabel("task - rows in a batch")
    axes.set_ylabel("samples/s, the Trainer's as 1")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.legend(fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with mpl.rc_context({"svg.hashsalt": "plainloop"}):  # the same figures make the same file
        figure.savefig(path, metadata={"Date": None})
