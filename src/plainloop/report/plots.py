"""Plots of the report, as SVG without scripts or links."""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plainloop.config.tasks import Task
from plainloop.errors import printable
from plainloop.metrics.analysis import text_lengths
from plainloop.metrics.decision_rule import compute_probabilities
from plainloop.metrics.formulas import one_hot
from plainloop.metrics.row_predictions import RowPredictions

# The colour-blind safe palette of Okabe and Ito. Lines also differ in their dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GUIDE = "#888888"
"""Colour of lines that are not data, such as the line of equality."""
DASHES = ("-", "--", "-.", ":")
SIZE_INCHES = (5.0, 3.2)
MOST_LINES = 7
MOST_POINTS = 1500
STYLE: Any = {
    "figure.figsize": SIZE_INCHES,
    "figure.constrained_layout.use": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text and not paths, so that the reader's fonts show any script
    "svg.hashsalt": "plainloop",  # reproducible ids: the same plot gives the same SVG
    "text.parse_math": False,  # a $ in a label is a dollar sign, not TeX
}


class Drawing(NamedTuple):
    """A plot, and what the page shows when the pointer is near one of its points.

    Attributes:
        svg: the image.
        values: names of the axes as x and y, and series, a list of records with name and points. A
            point is [left, top, x, y]: its place as shares of the image's width and height, from the
            top left, and its two values as text.
    """

    svg: str
    values: dict[str, Any]


def draw(plot: Callable[..., None], *content: Any) -> Drawing:
    """Draw a plot.

    Args:
        plot: one of the functions below, called with the axes and `content`.
        content: further arguments of `plot`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's font has it
        figure = Figure()
        axes = figure.subplots()
        axes.set_prop_cycle(color=COLOURS)
        plot(axes, *content)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
        file = io.StringIO()
        # No date, so that the same run gives the same page.
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        values = read_values(axes)
    text = file.getvalue()
    return Drawing(text[text.index("<svg") :], values)


def read_values(axes: Any) -> dict[str, Any]:
    """Read the finite points of a drawn plot's lines and dots and the tops of its bars.

    Returns:
        `Drawing.values`.
    """
    marks = [(line, line.get_xydata()) for line in axes.lines if line.get_color() != GUIDE]
    marks += [(dots, dots.get_offsets().filled(np.nan)) for dots in axes.collections]
    to_share = axes.transData + axes.figure.transFigure.inverted()
    found = []
    if bars := [bar for bar in axes.patches if bar.get_height()]:
        found.append({"name": "", "points": [read_bar(bar, axes, to_share) for bar in bars]})
    for mark, drawn in marks:
        points = drawn[np.isfinite(drawn).all(axis=1)]
        places, label = to_share.transform(points), str(mark.get_label())
        found.append(
            {
                "name": "" if label.startswith("_") else label,  # matplotlib's names for no label
                "points": [
                    [round(left, 4), round(1 - up, 4), f"{x:.6g}", f"{y:.4g}"]
                    for (left, up), (x, y) in zip(places.tolist(), points.tolist(), strict=True)
                ],
            }
        )
    return {"x": axes.get_xlabel(), "y": axes.get_ylabel(), "series": found}


def read_bar(bar: Any, axes: Any, to_share: Any) -> list[Any]:
    """Read a bar as a point of `Drawing.values`; x is the bar's name, or the range that it covers."""
    from matplotlib.ticker import FuncFormatter

    start, end, height = bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()
    middle = (start + end) / 2
    left, up = to_share.transform((middle, height)).tolist()
    names = axes.xaxis.get_major_formatter()  # ticks that were given names have a FuncFormatter
    x = names(round(middle, 6)) if isinstance(names, FuncFormatter) else f"{start:.3g} to {end:.3g}"
    return [round(left, 4), round(1 - up, 4), x, f"{height:.4g}"]


def plot_series(
    axes: Any, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], unit: str
) -> None:
    """Plot values by optimizer step, one line for each series.

    Args:
        axes: matplotlib axes.
        series: name -> (steps, values).
        unit: label of the y axis.
    """
    for number, (name, (steps, values)) in enumerate(series.items()):
        few = "o" if len(steps) <= 40 else None  # noqa: PLR2004 - else they hide the line
        label = name if len(series) > 1 else None
        dash = DASHES[number % len(DASHES)]
        axes.plot(steps, values, dash, marker=few, markersize=4, label=label)
    axes.set(xlabel="optimizer step", ylabel=unit)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))


def plot_ranking(axes: Any, rows: RowPredictions, task: Task, kind: str) -> None:
    """Plot the precision-recall or ROC curve of each label; for two classes only that of label 1.

    Args:
        axes: matplotlib axes.
        rows: predictions of a classification; logits float32 (rows, num_labels).
        task: label names; at most the first 7 labels are drawn.
        kind: precision_recall or roc.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    probabilities = compute_probabilities(rows.logits, task.problem_type, rows.decision)
    has = one_hot(rows.references, task.num_labels)
    binary = rows.references.ndim == 1 and task.num_labels == 2  # noqa: PLR2004
    labels = [1] if binary else range(min(task.num_labels, MOST_LINES))
    for number, label in enumerate(labels):
        truth, score = has[:, label], probabilities[:, label]
        # Both curves are undefined if all rows have the label or none has it.
        if truth.all() or not truth.any():
            continue
        if kind == "roc":
            across, up, _ = roc_curve(truth, score)
        else:
            up, across, _ = precision_recall_curve(truth, score)
        kept = np.unique(np.linspace(0, len(up) - 1, 400).astype(int))
        name = printable(task.label_names[label], most=24)
        axes.plot(across[kept], up[kept], DASHES[number % len(DASHES)], label=name)
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=0.8)
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
    else:
        axes.set(xlabel="recall", ylabel="precision")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))


def plot_calibration(axes: Any, bins: Sequence[Mapping[str, float]]) -> None:
    """Plot a reliability diagram from the bins of `measure_calibration`; dot area shows the rows."""
    sure = [each["mean_probability"] for each in bins]
    right = [each["share_right"] for each in bins]
    rows = np.array([each["rows"] for each in bins])
    axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=0.8)
    axes.plot(sure, right, color=COLOURS[0], linewidth=1)
    axes.scatter(sure, right, s=15 + 150 * rows / rows.max(), color=COLOURS[0])
    axes.set(
        xlabel="mean predicted probability",
        ylabel="accuracy",
        xlim=(0, 1.05),
        ylim=(-0.05, 1.1),
    )


def plot_lengths(axes: Any, parts: Sequence[Mapping[str, float]], name: str, unit: str) -> None:
    """Plot a mean value for each fifth of the rows by text length, from `mean_by_length`."""
    heights = [part[name] for part in parts]
    axes.bar(range(len(parts)), heights, color=COLOURS[0], width=0.7)
    names = [f"{part['from_characters']}-{part['to_characters']}" for part in parts]
    axes.set_xticks(range(len(parts)), names)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="length of the texts, characters", ylabel=unit)


def plot_values(axes: Any, rows: RowPredictions) -> None:
    """Plot predicted against true values of a regression, with the line of equality."""
    truth, predicted = thin(rows.references.astype(np.float64), rows.logits[:, 0])
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=GUIDE, linewidth=0.8)
    axes.scatter(truth, predicted, s=18, alpha=0.6, color=COLOURS[0], linewidths=0)
    axes.set(xlabel="label", ylabel="predicted")


def plot_errors(axes: Any, rows: RowPredictions) -> None:
    """Plot a histogram of a regression's errors (predicted minus label)."""
    axes.hist(rows.logits[:, 0] - rows.references, bins=30, color=COLOURS[0])
    axes.axvline(0, color=GUIDE, linewidth=0.8)
    axes.set(xlabel="predicted minus label", ylabel="rows")


def plot_errors_by_length(axes: Any, rows: RowPredictions) -> None:
    """Plot a regression's absolute errors against text length in characters."""
    errors = abs(rows.logits[:, 0] - rows.references)
    lengths, errors = thin(text_lengths(rows).astype(np.float64), errors)
    axes.scatter(lengths, errors, s=18, alpha=0.6, color=COLOURS[0], linewidths=0)
    axes.set(xlabel="length of the texts, characters", ylabel="absolute error")


def thin(*columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Sample at most 1,500 rows of columns (rows,), with a fixed seed; larger SVGs render slowly."""
    count = len(columns[0])
    if count <= MOST_POINTS:
        return columns
    kept = np.random.default_rng(0).choice(count, MOST_POINTS, replace=False)
    return tuple(column[kept] for column in columns)
