"""HTML report of a run: one self-contained page."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainloop.atomic_file import write_text
from plainloop.errors import UserError
from plainloop.metrics.slices import explain_slices
from plainloop.predict.loaded_run import Run
from plainloop.report.content import SCORE_NAMES, UNITS, describe_run, readable
from plainloop.report.slice_table import score_saved_slices
from plainloop.run.folder import HISTORY_FILE, METRICS_FILE, load_metrics

if TYPE_CHECKING:
    from markupsafe import Markup

REPORT_FILE = "report.html"
INSTALL = "pip install matplotlib"


def can_draw() -> bool:
    """Whether matplotlib is installed, which draws the plots (the extra "report")."""
    return find_spec("matplotlib") is not None


def write_report(run: Run, slice_column: str | None = None) -> Path:
    """Write report.html into the folder of a finished run; return its path.

    Raises:
        UserError: metrics.json is damaged or has no analysis.
    """
    path = run.path / REPORT_FILE
    write_text(path, render_report(run, slice_column))
    return path


def render_report(run: Run, slice_column: str | None = None) -> str:
    """Render the page from the run's files, with every text from the data escaped.

    Each number carries its path in metrics.json as `data-key`; only the scores of slices are computed
    here, if a column is given.
    """
    metrics = read_metrics(run)
    content = describe_run(run, metrics, read_history(run))
    if slice_column is not None and content["main"]:
        content["slices"] = slices = score_saved_slices(run, content["main"], slice_column)
        content |= {"slice_column": slice_column, "slice_note": explain_slices(slices)}
        content["sections"].insert(1, ("slices", "Slices"))
    return render_page("page.html.jinja", metrics, **content, readable=readable)


def render_page(template: str, numbers: Mapping[str, Any], **content: Any) -> str:
    """Render a page from a template of this package.

    Args:
        template: file name of the template.
        numbers: contents of the JSON file with the page's numbers; see `number_from`.
        content: variables of the template; every string is escaped.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    here = files("plainloop.report")
    css, script = (here.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(here.joinpath(template).read_text("utf-8")).render(
        **content,
        number=number_from(numbers),
        score_name=lambda name: SCORE_NAMES.get(name, name),
        unit=lambda name: UNITS.get(name, ""),
        css=Markup(css),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        policy=content_security_policy(css, script),
    )


def content_security_policy(css: str, script: str) -> str:
    """Content-Security-Policy that allows only this style, this script and data: images.

    The page contains texts of the data. If escaping failed, the browser still would run no script of
    theirs and load nothing from the network.
    """
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def read_metrics(run: Run) -> dict[str, Any]:
    """Read metrics.json.

    Raises:
        UserError: it is damaged, or has no analysis to report.
        CheckpointError: a file of the run was changed.
    """
    run.verify()
    metrics = load_metrics(run.path)
    if "analysis" not in metrics:
        raise UserError(
            "has no analysis of the predictions",
            where=str(run.path / METRICS_FILE),
            fix="it is of an older version: train the run again",
        )
    return metrics


def read_history(run: Run) -> list[dict[str, Any]]:
    """Read the records of history.jsonl."""
    lines = (run.path / HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def number_from(metrics: Mapping[str, Any]) -> "Callable[..., Markup]":
    """Create the template's function `number`, which shows a number of metrics.json by its path.

    The element has path and format as attributes, so that it can be compared with the file.
    """
    from markupsafe import Markup

    def number(path: Sequence[str | int], form: str = ".4f") -> Markup:
        value: Any = metrics
        for key in path:
            value = value[key]
        return Markup('<data value="{}" data-key="{}" data-form="{}">{}</data>').format(
            value, json.dumps(path), form, format(value, form)
        )

    return number
