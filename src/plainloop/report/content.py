"""Content of the HTML report: figures, tables and listed rows, as variables of its template."""

import base64
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plainloop.config.settings import LESS_IS_BETTER, TrainConfig
from plainloop.eject.refusals import check_settings, check_task_and_model
from plainloop.errors import UserError, printable
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.predict.loaded_run import Run
from plainloop.report import plots
from plainloop.run.folder import CONFIG_FILE, run_settings

LEAKS, LEAKED_SHARE = ("in_train_too", "shared_side"), 0.01
FEW_ROWS, FEW_OF_A_CLASS, MOST_CLASSES_NAMED = 30, 5, 5
MOST_CHARACTERS = 1000  # per text; longer ones are cut
SCORE_NAMES = {
    "f1": "F1",
    "f1_micro": "micro F1",
    "f1_macro": "macro F1",
    "f1_weighted": "weighted F1",
    "log_loss": "log loss",
    "roc_auc": "area under ROC",
    "average_precision": "average precision",
    "matthews_correlation": "Matthews' correlation",
    "pearson": "Pearson's correlation",
    "spearmanr": "Spearman's correlation",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "cost": "mean cost",
    "expected_calibration_error": "expected calibration error",
    "r2": "R²",
}
UNITS = {
    "log_loss": "nats",
    "rmse": "units of the label",
    "mae": "units of the label",
    "r2": "share of the variance",
}
VERDICTS = {
    "significantly better": "the model is significantly better than the baseline, whose score is "
    "outside the confidence interval",
    "better": "the model scores better than the baseline, but not significantly: the baseline's score "
    "is inside the confidence interval",
    "untested": "the model scores better than the baseline; without a confidence interval it is not "
    "known whether significantly",
    "not better": "the model is not better than the baseline",
}
"""Verdict of `compare_with_baselines` -> sentence in the page and on the terminal."""
CONSTANT = "for every row: it has not learned to distinguish the classes."
CHOSEN = (
    "The checkpoint was selected on these rows, so the score is optimistic; a test file gives an "
    "unbiased one (--test-file)."
)
COLUMNS = ("row", "label", "predicted", "probability", "probability of the label")
KINDS = ("precision", "recall", "f1")
# What HTML does not have: control characters except white space, and lone surrogates. Bidirectional
# controls stay, since each text has a <bdi>, which they cannot leave.
UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def describe_run(
    run: Run, metrics: dict[str, Any], history: list[dict[str, Any]]
) -> dict[str, Any]:
    """Collect the variables of the report's template.

    Args:
        run: a finished run.
        metrics: contents of metrics.json, from `read_metrics`.
        history: records of history.jsonl, from `read_history`.
    """
    task = run.task
    split = main_split(metrics)
    where = shlex.quote(str(run.path))
    settings = run_settings(run.config)
    changed = [name for name in run.config.changed() if name in settings]
    context: dict[str, Any] = {
        "title": printable(run.path, most=300),
        "task": printable(task.name),
        "model": printable(run.config.model, most=300),
        "main": split,
        "training_plots": draw_training(run, metrics, history),
        "training_time": describe_time(metrics, history),
        "data": metrics.get("data", {}),
        "decision": metrics.get("decision"),
        "decided": {
            name: printable(name) for name in (metrics.get("decision") or {}).get("thresholds") or {}
        },
        "cv": metrics.get("cv"),
        "settings": {
            title: {name: printable(settings[name], most=500) for name in names}
            for title, names in (
                ("changed, or found in the data", changed),
                ("default", [name for name in settings if name not in changed]),
            )
        },
        "environment": metrics["environment"],
        "commands": [
            ("The same run again, bit for bit where the machine and the versions are the same:",
             f"plainloop train --config {where}/{CONFIG_FILE} --output-dir {where}-again"),
            ("Resume it, if it was interrupted:",
             f"plainloop train --config {where}/{CONFIG_FILE} --resume"),
            ("Its scores again, and its predictions for a file:",
             f"plainloop evaluate {where}\nplainloop predict {where} --file new.csv --output predicted.csv"),
            *([("As one plain script, without plainloop:", f"plainloop eject {where} -o train_it.py")]
              if can_be_ejected(run) else []),
            ("This page again:", f"plainloop report {where}"),
        ],
    }  # fmt: skip
    if split is not None:
        context |= describe_split(run, metrics, split)
    names = {
        "metrics": "Metrics",
        "training": "Training",
        "confusion": "Confusion matrix",
        "labels": "Per-class metrics",
        "curves": "Values" if context.get("values") else "Curves",
        "calibration": "Calibration",
        "decision": "Decision",
        "lengths": "Length",
        "mistakes": "Mistakes",
        "uncertain": "Least certain",
        "suspects": "Suspected labels",
        "cv": "Suspected training labels",
        "data": "Data",
        "settings": "Settings",
        "environment": "Environment",
        "commands": "Commands",
    }
    absent = set()
    if split is None:
        absent = {*names} - {"training", "data", "settings", "environment", "commands"}
    elif context["values"]:
        absent = {"confusion", "labels", "calibration", "uncertain", "suspects"}
    elif not context["crossed"]:
        absent = {"confusion"}
    absent |= {"decision", "cv"} - metrics.keys()
    if "cv" in metrics:
        rows = RowPredictions.load(run.path / "cv", "train")
        label_names = [printable(name) for name in task.label_names]
        suspected = metrics["cv"]["suspected"]
        context["cv_listed"] = list_rows(suspected, rows, label_names, values=False)
        context.setdefault("columns", COLUMNS)
    context["sections"] = [(id_, name) for id_, name in names.items() if id_ not in absent]
    return context


def can_be_ejected(run: Run) -> bool:
    """Whether `plainloop eject` supports the run's settings, task and model."""
    try:
        check_settings(run.config)
        check_task_and_model(run.config, run.task, run.config.model)
    except UserError:
        return False
    return True


def main_split(metrics: Mapping[str, Any]) -> str | None:
    """Return the split to report on: test if there is one, because it was not used for selection.

    None if the run was not evaluated.
    """
    analysis = metrics["analysis"]
    return "test" if "test" in analysis else next(iter(analysis), None)


def describe_split(run: Run, metrics: dict[str, Any], split: str) -> dict[str, Any]:
    """Collect the template's variables for the main split."""
    task, config, of = run.task, run.config, metrics["analysis"][split]
    rows = RowPredictions.load(run.path, split, run.decision)
    values = task.problem_type == "regression"
    headline = next(name for name in task.metrics if name in of["scores"])
    names = [printable(name) for name in task.label_names]
    baselines = metrics.get("data", {}).get("baselines", {})
    length_key = "mean_absolute_error" if values else "accuracy"
    if values:
        ranking = [
            figure("predicted values against labels", plots.plot_values, rows),
            figure("errors", plots.plot_errors, rows),
            figure("absolute error by length of the texts", plots.plot_errors_by_length, rows),
        ]
    else:
        ranking = [
            figure(caption, plots.plot_ranking, rows, task, kind)
            for caption, kind in (
                ("precision-recall curve", "precision_recall"),
                ("ROC curve", "roc"),
            )
        ]
    constant = of.get("constant")
    return {
        "split": split,
        "splits": metrics["analysis"],
        "of": of,
        "path": ["analysis", split],
        "headline": headline,
        "values": values,
        "several": task.problem_type == "multi_label_classification",
        "constant": None if constant is None else shown_label(constant, names),
        "constant_means": CONSTANT,
        "caveats": caveats(metrics, split),
        "chosen": CHOSEN if chose_how_long(config, split) else None,
        "baseline": compare_with_baselines(of, baselines, headline) if split == "validation" else None,
        "baselines": baselines,
        "baseline_scores": list(dict.fromkeys(key for each in baselines.values() for key in each)),
        "crossed": of.get("confusion"),
        "label_names": names,
        "raw_label_names": task.label_names,
        "kinds": KINDS,
        "ranking_plots": ranking,
        "calibration_plot": None
        if values
        else figure("calibration; larger dots: more rows", plots.plot_calibration, of["calibration"]["bins"]),
        "length_plot": figure(
            f"{length_key.replace('_', ' ')} by length of the texts",
            plots.plot_lengths,
            of["lengths"],
            length_key,
            length_key.replace("_", " "),
        ),
        "length_key": length_key,
        "length_name": length_key.replace("_", " "),
        "columns": ["row", "label", "predicted", "error"]
        if values
        else COLUMNS,
        "listed": {
            kind: list_rows(of.get(kind, []), rows, names, values=values)
            for kind in ("worst", "uncertain", "suspected")
        },
    }  # fmt: skip


def compare_with_baselines(
    of: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]], headline: str
) -> dict[str, str] | None:
    """Compare the headline score with the best baseline.

    Args:
        of: analysis of a split, from metrics.json.
        baselines: baseline -> metric -> score.
        headline: name of the headline metric.

    Returns:
        name of the best baseline; verdict, one of `VERDICTS`: "significantly better" if the model's
        entire 95 % interval is better than the baseline's score; means, the verdict's sentence. None
        if no baseline has the headline metric.
    """
    scored = {name: scores[headline] for name, scores in baselines.items() if headline in scores}
    if not scored:
        return None
    sign = -1 if headline in LESS_IS_BETTER else 1
    name = max(scored, key=lambda name: sign * scored[name])
    ends = of["intervals"]["scores"].get(headline)
    verdict = "not better"
    if sign * of["scores"][headline] > sign * scored[name]:
        verdict = "untested"
        if ends:
            is_outside = min(sign * end for end in ends) > sign * scored[name]
            verdict = "significantly better" if is_outside else "better"
    return {"name": name, "verdict": verdict, "means": VERDICTS[verdict]}


def caveats(metrics: Mapping[str, Any], split: str) -> list[str]:
    """Sentences on why a split's score is too high or uncertain: leakage, few rows."""
    of = metrics["analysis"][split]
    rows = of["rows"]
    notes = [
        f"Leakage, so the score is probably optimistic: {finding['message']}."
        for finding in metrics.get("data", {}).get("findings", ())
        if finding.get("kind") in LEAKS
        and finding["message"].startswith(f"{split}: ")
        and finding["count"] >= LEAKED_SHARE * rows
    ]
    if rows < FEW_ROWS:
        notes.append(f"{rows} rows are too few for a reliable score: see its confidence interval.")
    support = {
        key.partition("/")[2]: int(count)
        for key, count in of["scores"].items()
        if key.startswith("support/")
    }
    few = [f"{printable(name)} ({n})" for name, n in support.items() if n < FEW_OF_A_CLASS]
    if few:
        more = f" (+{len(few) - MOST_CLASSES_NAMED} more)" if len(few) > MOST_CLASSES_NAMED else ""
        notes.append(
            f"Classes with fewer than {FEW_OF_A_CLASS} {split} rows, whose metrics are not reliable: "
            f"{', '.join(few[:MOST_CLASSES_NAMED])}{more}."
        )
    return notes


def chose_how_long(config: TrainConfig, split: str) -> bool:
    """Whether a split was used to choose the best checkpoint or to stop early."""
    chooses = config.load_best_model_at_end or config.early_stopping_patience is not None
    return chooses and split == "validation"


def draw_training(
    run: Run, metrics: Mapping[str, Any], history: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """Draw the training curves, from history.jsonl and the evaluations in metrics.json.

    Returns:
        The figures of `figure`, without those that have no points.
    """
    evaluations = metrics["evaluations"]

    loss_unit = "squared units of the label" if run.task.problem_type == "regression" else "nats"
    losses = {
        "training loss": series(history, "loss"),
        "validation loss": series(evaluations, "loss"),
    }
    # The record of the last step is of a shorter interval, whose speed is mostly overhead.
    in_full = [record for record in history if record["step"] % run.config.logging_steps == 0]
    scores, errors = (
        {
            SCORE_NAMES.get(name, name): series(evaluations, name)
            for name in run.task.metrics
            if (name in LESS_IS_BETTER) is are_errors and series(evaluations, name)[0]
        }
        for are_errors in (False, True)
    )
    drawn = [
        ("loss", {name: line for name, line in losses.items() if line[0]}, f"loss, {loss_unit}"),
        ("validation scores", scores, "score"),
        ("validation errors", errors, UNITS["rmse"] if "rmse" in run.task.metrics else "nats"),
        ("learning rate", {"": series(history, "learning_rate")}, "learning rate"),
        ("gradient norm before clipping", {"": series(history, "grad_norm")}, "gradient norm"),
        ("speed", {"": series(in_full or history, "samples_per_second")}, "samples / second"),
    ]
    return [
        figure(caption, plots.plot_series, lines, unit)
        for caption, lines, unit in drawn
        if any(steps for steps, _ in lines.values())
    ]


def describe_time(metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """Describe how long the optimizer steps took, evaluations not counted, and the date of the end.

    The history has each record's rows per second, and with the epoch how many rows these were.
    """
    rows, env = metrics.get("data", {}).get("rows", {}).get("train", 0), metrics["environment"]
    seconds, before = 0.0, 0.0
    for record in history:
        seconds += (record["epoch"] - before) * rows / record["samples_per_second"]
        before = record["epoch"]
    took = f"{seconds / 60:,.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"  # noqa: PLR2004
    count = f"{env['num_processes']} processes, " if env["num_processes"] > 1 else ""
    parts = [f"about {took} on {count}device {env['device']} without evaluations"] if rows else []
    return ", ".join(parts + ([f"finished on {env['date']}"] if "date" in env else []))


def series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Return the optimizer steps and the values of the records that have this value."""
    known = [record for record in records if record.get(name) is not None]
    return [record["step"] for record in known], [record[name] for record in known]


def figure(caption: str, plot: Callable[..., None], *content: Any) -> dict[str, str]:
    """Draw a plot as an image for the page.

    The SVG is embedded as an <img> data URI, so that its styles and ids cannot clash with the page's
    and scripts in it cannot run.

    Args:
        caption: text below the image.
        plot, content: arguments of `draw`.

    Returns:
        caption; source, the data URI; hover, the values of its points as JSON.
    """
    svg, values = plots.draw(plot, *content)
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return {"caption": caption, "source": source, "hover": json.dumps(values)}


def list_rows(
    listed: Sequence[Mapping[str, Any]], rows: RowPredictions, names: Sequence[str], *, values: bool
) -> list[dict[str, Any]]:
    """Add texts and label names to a list of rows in metrics.json.

    Args:
        listed: records with the row's number and labels.
        rows: predictions of the split, with the texts.
        names: label names by label id.
        values: whether the labels are numbers (regression).

    Returns:
        One dictionary per row: at, its position in the list; place, as a person finds the row in its
        file, such as "line 9"; is_value; texts; and for
        classification label and predicted, by name.
    """
    place = {number: at for at, number in enumerate(rows.idx.tolist())}
    found = []
    for at, row in enumerate(listed):
        texts = [readable(column[place[row["row"]]]) for column in rows.texts.values()]
        found.append({"at": at, "is_value": values, "texts": texts})
        # A metrics.json of an earlier version has no place.
        found[-1]["place"] = readable(row.get("place") or f"row {row['row'] + 1}")
        if not values:
            found[-1] |= {key: shown_label(row[key], names) for key in ("label", "predicted")}
    return found


def shown_label(label: int | list[int], names: Sequence[str]) -> str:
    """Return the name of a label id, or the names of a multi-hot list, joined by commas."""
    if isinstance(label, int):
        return names[label]
    return ", ".join(name for name, has in zip(names, label, strict=True) if has) or "none"


def readable(text: str) -> str:
    """Cut a text for the page, and replace the characters that HTML does not have."""
    cut = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
    return UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", cut)
