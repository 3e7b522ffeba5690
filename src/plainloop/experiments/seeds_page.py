"""HTML report of several seeds of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plainloop.atomic_file import write_text
from plainloop.errors import printable
from plainloop.predict.loaded_run import Run
from plainloop.report.content import SCORE_NAMES, figure, series
from plainloop.report.page import REPORT_FILE, read_history, read_metrics, render_page
from plainloop.report.plots import plot_series


def write_seeds_report(folder: Path, runs: Sequence[Run], summary: dict[str, Any]) -> Path:
    """Write report.html into the folder of the seeds; return its path."""
    path = folder / REPORT_FILE
    write_text(path, render_seeds(folder, runs, summary))
    return path


def render_seeds(folder: Path, runs: Sequence[Run], summary: dict[str, Any]) -> str:
    """Render the page; each number carries its path in summary.json as `data-key`."""
    headline, config = summary["headline"], runs[0].config
    evaluations = {str(run.config.seed): read_metrics(run)["evaluations"] for run in runs}
    histories = {str(run.config.seed): read_history(run) for run in runs}
    drawn = [
        (f"validation {SCORE_NAMES.get(headline, headline)} of each seed", evaluations, headline),
        ("validation loss of each seed", evaluations, "loss"),
        ("training loss of each seed", histories, "loss"),
    ]
    chosen = config.load_best_model_at_end or config.early_stopping_patience is not None
    return render_page(
        "seeds.html.jinja",
        summary,
        title=printable(folder, most=300),
        summary=summary,
        headline=headline,
        scores=summary["scores"],
        folders=[quote(run.path.name) for run in runs],
        chosen=chosen and summary["split"] == "validation",
        figures=[
            figure(caption, plot_series, {f"seed {seed}": line for seed, line in lines.items()}, SCORE_NAMES.get(name, name))
            for caption, of_seeds, name in drawn
            if any((lines := {seed: series(records, name) for seed, records in of_seeds.items()}).values())
        ],
    )  # fmt: skip
