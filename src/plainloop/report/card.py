"""Model card of a run: README.md with the Hub's YAML metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from plainloop.atomic_file import write_text
from plainloop.config.flag_types import OPTIMIZER_NAMES
from plainloop.errors import UserError, printable
from plainloop.metrics.analysis import HALF
from plainloop.metrics.decision_rule import DECISION_FILE
from plainloop.model.pretrained import DEMO_MODEL, resolve_model
from plainloop.predict.loaded_run import Run
from plainloop.report.content import SCORE_NAMES, UNITS, describe_time, main_split
from plainloop.report.page import read_history, read_metrics

CARD_FILE = "README.md"
KIND = {
    "single_label_classification": "gives a text one of the labels",
    "multi_label_classification": "gives a text any number of the labels",
    "regression": "gives a text a number",
}


def write_card(run: Run) -> Path:
    """Write README.md into the folder of a finished run; return its path.

    Raises:
        UserError: metrics.json is damaged or has no analysis.
    """
    path = run.path / CARD_FILE
    write_text(path, render_card(run))
    return path


def render_card(run: Run) -> str:
    """Render the card: the Hub's metadata, the model, scores, usage, limits and training.

    All numbers come from metrics.json. The card does not guess the licence, languages or intended
    use, which only the user knows; it asks to add them.
    """
    metrics = read_metrics(run)
    labels = ", ".join(code(name) for name in run.task.label_names)
    pair = len(run.task.text_columns) > 1
    call = '{"text": "...", "text_pair": "..."}' if pair else '"..."'
    rows = metrics.get("data", {}).get("rows", {})
    config = run.config
    licence = base_licence(config.model)
    time = describe_time(metrics, read_history(run))
    training = (
        f"{metrics['steps']:,} optimizer steps with {OPTIMIZER_NAMES[config.optim]}, "
        f"learning rate {config.learning_rate:g} "
        f"({config.lr_scheduler_type}), {config.per_device_train_batch_size} rows a batch, seed "
        f"{config.seed}{f'; {time}' if time else ''}. Its settings, numbers and report stay in the folder "
        "it was trained in."
    )
    return "\n".join(
        [
            "---",
            describe_for_hub(run, metrics).strip(),
            "---",
            f"# {printable(run.path.name)}",
            "",
            f"This model {KIND[run.task.problem_type]}{': ' + labels if labels else ''}. It was "
            f"fine-tuned from {code(config.model)} with plainloop on {code(run.task.name)}"
            + (f", {rows['train']:,} rows" if "train" in rows else "")
            + ".",
            "",
            "## Scores",
            "",
            *list_scores(metrics),
            "",
            "## Use",
            "",
            "```python",
            "from transformers import pipeline",
            "",
            'classify = pipeline("text-classification", model="path/to/this/folder")',
            f"classify({call})",
            "```",
            "",
            *describe_decision(metrics, run.task.problem_type, call),
            "## Limits",
            "",
            f"- It was trained on {'pairs of texts' if pair else 'single texts'} of the data above."
            + (
                f" It reads at most {config.max_length} tokens of a text."
                if config.max_length
                else ""
            )
            + " It was not evaluated on texts of another kind, language or time.",
            "- The intervals are for other rows of the same kind. They do not cover other seeds.",
            "- Its licence cannot permit more than those of its base model and its data"
            + (f"; that of {code(config.model)} is {code(licence)}." if licence else "."),
            "- To be added by you: the language, the licence, the intended uses and those out of scope.",
            "",
            "## Training",
            "",
            training,
            "",
        ]
    )


def base_licence(model: str) -> str | None:
    """Read a base model's licence from its own card, in its folder or the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.repocard import metadata_load

    try:
        if is_local(model):
            path: Any = Path(resolve_model(model), CARD_FILE)
        else:
            path = try_to_load_from_cache(model, CARD_FILE)
        licence = (metadata_load(path) or {}).get("license")
    except (UserError, OSError, ValueError, TypeError, yaml.YAMLError, RecursionError):
        return None  # there is no such card, or what it holds is no metadata
    return licence if isinstance(licence, str) else None


def list_scores(metrics: Mapping[str, Any]) -> list[str]:
    """Format the main split's scores and intervals as the lines of a Markdown table."""
    split = main_split(metrics)
    if split is None:
        return ["It was not evaluated."]
    of = metrics["analysis"][split]
    lines = [
        f"On {of['rows']:,} {split} rows:",
        "",
        f"| metric | score | {of['intervals']['level']:.0%} interval |",
        "|---|---|---|",
    ]
    for name, score in of["scores"].items():
        if "/" in name:
            continue
        ends = of["intervals"]["scores"].get(name)
        unit = f" ({UNITS[name]})" if name in UNITS else ""
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
        lines.append(f"| {SCORE_NAMES.get(name, name)}{unit} | {score:.4f} | {interval} |")
    return lines


def apply_decision(decision: Mapping[str, Any], problem_type: str, call: str) -> list[str]:
    """Return the lines of Python that decide by decision_rule.json what a pipeline's logits mean."""
    lines = [
        f'rule = json.loads(Path("path/to/this/folder/{DECISION_FILE}").read_text("utf-8"))',
        f'[scores] = classify([{call}], top_k=None, function_to_apply="none")',
    ]
    logits = 'one["score"] / rule["temperature"]'
    if problem_type == "multi_label_classification":
        return [
            *lines,
            f'p = {{one["label"]: 1 / (1 + math.exp(-{logits})) for one in scores}}',
            f'limits = rule["thresholds"] or dict.fromkeys(p, {HALF})',
            "answer = [label for label in p if p[label] > limits[label]]",
        ]
    lines.append(f'odds = {{one["label"]: math.exp({logits}) for one in scores}}')
    if not decision["thresholds"]:
        return [*lines, "answer = max(odds, key=odds.get)"]
    other = "(odds.keys() - {label}).pop()"
    return [
        *lines,
        '[(label, limit)] = rule["thresholds"].items()',
        f"answer = label if odds[label] / sum(odds.values()) > limit else {other}",
    ]


def describe_decision(metrics: Mapping[str, Any], problem_type: str, call: str) -> list[str]:
    """Describe the thresholds and temperature, which users of transformers must apply themselves."""
    decision = metrics.get("decision")
    if decision is None:
        return []
    what = (
        f"Chosen on the {decision['chosen_on']:,} validation rows, in `{DECISION_FILE}`. `plainloop "
        "predict` applies it; `pipeline` and `from_pretrained` do not:"
    )
    how = (
        "Scores before and after it. The validation rows are cross-fitted: each of "
        f"{decision['folds']} folds is decided by what the others choose."
    )
    lines = ["## Decision", "", what, ""]
    if decision["temperature"] is not None:
        lines.append(f"- Divide the logits by the temperature {decision['temperature']:.6g}.")
    lines += [
        f"- Answer {code(name)} where its probability is above {threshold:.6g}."
        for name, threshold in (decision["thresholds"] or {}).items()
    ]
    code_lines = apply_decision(decision, problem_type, call)
    lines += [
        *("", "```python", "import json, math", "from pathlib import Path", ""),
        *(*code_lines, "```"),
    ]
    level = f"{decision['intervals']['level']:.0%}"
    lines += [
        *("", how, ""),
        f"| rows | metric | before | after | difference, {level} interval |",
        "|---|---|---|---|---|",
    ]
    for split, of in decision["splits"].items():
        for name, before in of["before"]["scores"].items():
            ends = of["difference"]["intervals"].get(name)
            interval = f", {ends[0]:+.4f} to {ends[1]:+.4f}" if ends else ""
            lines.append(
                f"| {split} | {SCORE_NAMES.get(name, name)} | {before:.4f} | "
                f"{of['after']['scores'][name]:.4f} | {of['difference']['scores'][name]:+.4f}{interval} |"
            )
    return [*lines, ""]


def describe_for_hub(run: Run, metrics: Mapping[str, Any]) -> str:
    """Return the Hub's metadata of the card as YAML, with the scores of the main split."""
    from huggingface_hub import EvalResult, ModelCardData

    task, config = run.task, run.config
    hub_data, configuration = find_hub_data(run)
    split = main_split(metrics)
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=hub_data or printable(task.name),
            dataset_name=printable(task.name),
            dataset_config=configuration,
            dataset_split=split,
            metric_type=name,
            metric_value=metrics["analysis"][split]["scores"][name],
        )
        for name in (task.metrics if split else ())
        if name in metrics["analysis"][split]["scores"]
    ]
    card = ModelCardData(
        base_model=None if is_local(config.model) else config.model,
        datasets=[hub_data] if hub_data else None,
        eval_results=results or None,
        library_name="transformers",
        metrics=[name for name in task.metrics if name != "per_label"],
        model_name=printable(run.path.name),
        pipeline_tag="text-classification",
        tags=["plainloop"],
    )
    return str(card.to_yaml())


def find_hub_data(run: Run) -> tuple[str | None, str | None]:
    """Name and configuration of the data set on the Hub that a run was trained on, if it was."""
    name, _, configuration = (run.config.dataset or "").partition(":")
    if not name and run.task.hub and run.config.data_dir is None:
        return run.task.hub
    return name or None, configuration or None


def describe_results(run: Run) -> str | None:
    """Return the main score as the YAML of a file in .eval_results, which succeeds `model-index`.

    None if the run was not evaluated, or not on a data set of the Hub, whose name the format requires.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    metrics = read_metrics(run)
    split, (hub_data, configuration) = main_split(metrics), find_hub_data(run)
    if split is None or hub_data is None:
        return None
    of, metric = metrics["analysis"][split], run.task.metrics[0]
    ends = of["intervals"]["scores"].get(metric)
    interval = (
        f", {of['intervals']['level']:.0%} interval {ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
    )
    entry = EvalResultEntry(
        dataset_id=hub_data,
        task_id=configuration or "default",
        value=of["scores"][metric],
        date=metrics["environment"].get("date"),
        notes=f"{metric} on {of['rows']:,} {split} rows{interval}",
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)


def is_local(model: str) -> bool:
    """Whether a model is the embedded one or a local folder, and not a name on the Hub.

    A name that starts like a path counts as local even if the folder no longer exists.
    """
    return model == DEMO_MODEL or model[:1] in "./~" or Path(model).exists()


def code(text: str) -> str:
    """Format untrusted text as Markdown inline code; backticks become quotation marks."""
    return f"`{printable(text).replace('`', chr(0x2019))}`"
