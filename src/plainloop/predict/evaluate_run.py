"""evaluate_run(): evaluate a finished run again, on its own splits or on labelled files."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from plainloop.config.read_options import ReadOptions
from plainloop.config.validation import check_config
from plainloop.console import say
from plainloop.data.custom.columns import Columns, match_name
from plainloop.data.custom.dataset import read_rows
from plainloop.data.custom.decimal_commas import with_decimal_points
from plainloop.data.custom.label_checks import items_of
from plainloop.data.custom.label_column import plain_labels
from plainloop.data.custom.labels import Labels, are_label_numbers
from plainloop.data.custom.one_hot import join_one_hot
from plainloop.data.files.tables import Source
from plainloop.data.glue import read_glue_tsv, to_dataset
from plainloop.errors import UserError, printable, printable_path
from plainloop.metrics.row_predictions import PredictionCollector
from plainloop.metrics.scorer import Scores
from plainloop.metrics.slices import Slice, score_slices
from plainloop.predict.loaded_run import Run
from plainloop.predict.slice_column import read_labelled_files, read_slice_column
from plainloop.run.folder import CONFIG_FILE
from plainloop.training.prepare import load_inputs

if TYPE_CHECKING:
    from datasets import DatasetDict


def evaluate_run(
    run: Run, files: Sequence[str | Path] = (), options: ReadOptions = ReadOptions()
) -> dict[str, Scores]:
    """Evaluate a run's model as in its training, with the same batches and metrics.

    The run's thresholds and temperature are applied, but not to its validation rows: these were
    used to choose them, so the scores would be too good.

    Args:
        run: from `load_run`.
        files: labelled files with the columns of the training file, concatenated; for a GLUE task
            one file in its layout. Default: the run's evaluation splits, read and split again.
        options: how to read the files. Default: their own encoding, separator and header.

    Returns:
        Split -> metric -> score; for files, the key is the name of the first. On the run's own
        splits the scores equal metrics.json, bit for bit on the same machine with the same number
        of threads. The exception is LoRA, whose adapters are merged into the weights on loading.

    Raises:
        UserError: the files are invalid; the message lists the rows.
    """
    return {split: scores for split, (scores, _) in evaluate_slices(run, files, options).items()}


def evaluate_slices(
    run: Run,
    files: Sequence[str | Path] = (),
    options: ReadOptions = ReadOptions(),
    column: str | None = None,
) -> dict[str, tuple[Scores, list[Slice]]]:
    """Evaluate as `evaluate_run`, and score the rows of each value of a column of the same files.

    Raises:
        UserError: also if the column cannot be used, before the model is loaded.
    """
    if run.seeds:
        run.verify()  # raises: they can only predict
    given = [name for name, value in asdict(options).items() if value is not None]
    if given and not (files and run.task.layout is None):
        rows = f"a run of --task {run.task.name}" if files else "the run's own rows"
        what = f"has no effect with {rows}"
        raise UserError(what, where=f"--{given[0]}", fix="leave it out")
    raw = _read_files(run, files, options) if files else read_own_splits(run)
    values = {} if column is None else read_slice_column(run, raw, column, files, options)
    import torch

    from plainloop.data.batches.loaders import create_dataloaders
    from plainloop.data.batches.tokenize import keep_model_inputs, tokenize_splits
    from plainloop.metrics.task_metric import TaskMetric
    from plainloop.model.matrix_products import use_products
    from plainloop.training.evaluation import evaluate

    config, task, classifier = run.config, run.task, run.classifier
    tokenized = tokenize_splits(
        raw, classifier.tokenizer, task.text_columns, config.max_length, stride=config.stride
    )
    dataloaders = create_dataloaders(
        keep_model_inputs(tokenized, classifier.tokenizer),
        classifier.tokenizer,
        config,
        task,
    )
    accelerator = classifier.accelerator
    model = accelerator.prepare_model(classifier.model, evaluation_mode=True)
    found = {}
    for split, own_loader in dataloaders.items():
        chose = split == "validation" and not files
        decision = None if chose else run.decision
        metric = TaskMetric(task.metrics, task.problem_type, task.label_names, decision)
        dataloader = accelerator.prepare(own_loader)
        collected = PredictionCollector() if values else None
        half = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=config.bf16)
        with use_products(classifier.products), half:
            scores = (
                evaluate(model, dataloader, metric, accelerator=accelerator, rows=collected) or {}
            )
        slices = []
        if collected:
            predictions = collected.finish(raw[split], task, decision)
            slices = score_slices(predictions, values[split], task)
        found[split] = scores, slices
    return found


def describe_labels(scores: Scores) -> list[str]:
    """Format the per-label scores, with keys such as f1/positive, as the lines of a table."""
    kinds = list(dict.fromkeys(key.partition("/")[0] for key in scores if "/" in key))
    names = list(dict.fromkeys(key.partition("/")[2] for key in scores if "/" in key))
    if not names:
        return []
    shown = [printable(name) for name in names]
    width = max(map(len, shown))
    lines = ["  ".join([" " * width, *(f"{kind:>9}" for kind in kinds)])]
    for name, label in zip(names, shown, strict=True):
        cells = [scores.get(f"{kind}/{name}") for kind in kinds]
        texts = [
            f"{value:9.0f}" if kind == "support" else f"{value:9.4f}"
            for kind, value in zip(kinds, cells, strict=True)
            if value is not None
        ]
        lines.append("  ".join([f"{label:<{width}}", *texts]))
    return lines


def read_own_splits(run: Run) -> "DatasetDict":
    """Read the run's evaluation splits in the same way as the training."""
    if not (run.config.task or run.config.train_file or run.config.dataset):
        raise UserError(
            "its rows were given in Python and are in no file",
            where=printable_path(run.path),
            fix="give labelled rows: plainloop evaluate --file",
        )
    config = replace(
        run.config,
        # The saved model: the base model may be gone, or have other labels.
        model=str(run.path),
        lora_rank=None,
        lora_alpha=None,
        merge_lora=False,
        dry_run=True,  # writes nothing, so it accepts an output folder that holds a run
    )
    try:
        check_config(config)
    except UserError as error:
        raise error.within(run.path / CONFIG_FILE) from None
    raw = load_inputs(config, refuse=False).raw
    del raw["train"]
    return raw


def _read_files(run: Run, files: Sequence[str | Path], options: ReadOptions) -> "DatasetDict":
    if run.task.layout is None:
        source = read_labelled_files(run, files, options)
        for note in source.notes:
            say("Found", note)
        label = run.config.label_column
        if isinstance(label, tuple):
            source, label = join_one_hot(source, label)
        if run.config.label_separator is None:
            source = with_decimal_points(source, label or "")
        columns = Columns(run.config.text_column, label, ())
        table = read_rows(source, columns, _labels_of(run, source, label), run.config)
    else:
        if len(files) > 1:
            raise UserError(
                f"task {run.task.name} takes one",
                where=f"--file {files[1]}",
                fix="evaluate each alone",
            )
        table = read_glue_tsv(Path(files[0]), run.task)
    from datasets import DatasetDict

    return DatasetDict({Path(files[0]).name: to_dataset(table, run.task)})


def _labels_of(run: Run, source: Source, label: str | None) -> Labels:
    """Return the run's labels, `numbered` if the file holds label ids only and no label names."""
    config, names, kind = run.config, run.task.label_names, run.task.problem_type
    labels = Labels(kind, names, config.label_separator, "the run's own")
    column = match_name(label or "", source.table.column_names)
    if not names or column not in source.table.column_names:
        return labels
    plain = plain_labels(source, column, problem_type=kind, known=names, drop=True)
    items, _ = items_of(plain, column, kind, labels.separator)
    found = {*items.drop_null().unique().to_pylist()}
    return replace(labels, numbered=are_label_numbers(found, names) and not found <= {*names})
