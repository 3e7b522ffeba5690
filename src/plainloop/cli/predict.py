"""`plainloop predict`: predict files, stdin or GLUE's test sets with a finished run."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from plainloop.cli.flags import unknown_flag
from plainloop.config.read_options import ReadOptions
from plainloop.config.validation import flag
from plainloop.errors import UserError

if TYPE_CHECKING:
    from plainloop.predict.loaded_run import Run

_SEVERAL = Parameter(consume_multiple=True, negative=(), show_default=False)
_OR_STDIN = Parameter(allow_leading_hyphen=True, show_default=False)


def predict(
    run: Path,
    files: Annotated[tuple[str, ...], _OR_STDIN] = (),
    /,
    *,
    file: Annotated[tuple[str, ...], _SEVERAL] = (),
    text: Annotated[tuple[str, ...], _SEVERAL] = (),
    output: Annotated[str | None, Parameter(alias="-o", allow_leading_hyphen=True)] = None,
    text_column: Annotated[tuple[str, ...], _SEVERAL] = (),
    options: ReadOptions = ReadOptions(),
    on_null: Literal["error", "empty"] = "error",
    format: Literal["csv", "tsv", "jsonl", "parquet"] = "csv",  # noqa: A002 - the flag's name
    spreadsheet_safe: Annotated[bool, Parameter(negative=())] = False,
    batch_size: int = 32,
    glue_submission: Path | None = None,
    data_dir: Path | None = None,
    task: str | None = None,
    bf16: Annotated[bool, Parameter(negative=())] = False,
    accept_changed_files: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Predict texts, or every row of a file, with a finished run or what `plainloop export` wrote of it.

    Without --text and files, each line of stdin is a text; a tab separates the two texts of a pair.
    The output has all columns and rows of the file, in the same order. It adds the columns label
    (prediction, if label exists) and probability_NAME for each label; for a regression only
    prediction. The output gets its name only when it is complete.

    Examples:
        plainloop predict runs/reviews --text "I would buy it again."

        plainloop predict runs/reviews new.csv --output predicted.csv

        plainloop predict runs/reviews --file 'shards/*.jsonl' -o predicted.parquet

        cat texts.txt | plainloop predict runs/reviews

        plainloop predict onnx/reviews new.csv --output predicted.csv

        plainloop predict runs/mrpc --glue-submission submission --data-dir glue

    Args:
        run: Folder of a run, or of its seeds, which are averaged; USER/NAME on the hub; or an exported
            folder, or a model file in it, such as model_int8.onnx.
        files: The same as --file.
        file: csv, tsv, json, jsonl, parquet, arrow, a save_to_disk folder, or a glob; - for stdin.
        text: Texts to predict; for a run on pairs the two texts of a row, one after the other.
        output: File to write: csv, tsv, jsonl or parquet, by suffix; - for stdout. Default: stdout.
        text_column: Column of the text, or two for a pair. Default: those of the training.
        on_null: What to do with a row without a text: stop, or take it as empty.
        format: Format of stdout, and of the stdin of --file -.
        spreadsheet_safe: Put a ' before texts that a spreadsheet would execute: = + - @, tab, return.
        batch_size: Batch size; with an exported folder at most 8 on each core.
        glue_submission: Folder for the files that GLUE's server takes, instead of --file.
        data_dir: GLUE's folder, for --glue-submission.
        task: Another task with the same labels, for --glue-submission: ax with a run of mnli.
        bf16: Compute in bfloat16 on a CPU if that measures faster; probabilities differ by hundredths.
        accept_changed_files: Use files of the run that were changed since it was finished, with a warning.
    """
    # cyclopts does not accept - as a value of a flag with several values, so that the - of
    # `--file -` arrives as a positional argument, and with it each flag that is unknown.
    for word in files:
        if word.startswith("-") and word != "-":
            flags = map(flag, inspect.signature(predict).parameters)
            raise unknown_flag(word, flags, "plainloop predict")
    file += files
    reading = {"--text-column": text_column, **{flag(k): v for k, v in asdict(options).items()}}
    if glue_submission is not None:
        streams: dict[str, object] = {"--file": file, "--text": text, "--output": output}
        _check_flags({"with --glue-submission": {**streams, **reading}}, batch_size, data_dir)
    else:
        useless: dict[str, dict[str, object]] = {
            "without --glue-submission": {"--data-dir": data_dir, "--task": task},
            "with --file": {"--text": file and text},
            "without --file": {} if file else reading,
        }
        _check_flags(useless, batch_size)
    output = output or "-"

    from plainloop.console import print_line
    from plainloop.predict.export.exported_folder import is_exported, load_exported
    from plainloop.predict.hub_run import find_run
    from plainloop.predict.input_files import group_texts, open_texts, read_lines
    from plainloop.predict.loaded_run import load_run
    from plainloop.run.machine_limits import explain_resource_errors
    from plainloop.run.manifest import explain_damage
    from plainloop.run.rank_failure import announce_errors, is_rank_zero, launched_processes
    from plainloop.run.signals import StopRequest

    run = find_run(run)
    if launched_processes() > 1:
        _check_shared(run, file, output)
    limits = explain_resource_errors(
        where=str(glue_submission or output),
        what_ran=f"{batch_size} rows in a batch",
        smaller="give a smaller --batch-size",
    )
    damage = explain_damage(run, accept_changed=accept_changed_files)
    again = "run the same command again"
    with StopRequest() as stop, limits, damage, announce_errors(again, stop):
        if is_exported(run):
            _check_flags({"with an exported folder": {"--bf16": bf16}}, batch_size)
            opened = load_exported(run, accept_changed_files=accept_changed_files)
        else:
            opened = load_run(run, accept_changed_files=accept_changed_files, bf16=bf16)
        if glue_submission is not None:
            from plainloop.predict.submissions import write_submissions

            assert data_dir is not None  # noqa: S101
            for path in write_submissions(
                opened, data_dir, glue_submission, task_name=task, batch_size=batch_size
            ):
                print_line(f"Predicted      {path}")
            return
        columns = opened.config.text_column or opened.task.text_columns
        rows = group_texts(text, columns) if text else read_lines(columns)
        with nullcontext(file) if file else open_texts(rows, columns) as paths:
            added = opened.predict_file(
                paths,
                output,
                text_column=text_column,
                options=options if file else ReadOptions(),
                on_null=on_null,
                stream_format=format,
                spreadsheet_safe=spreadsheet_safe,
                batch_size=batch_size,
            )
            if not is_rank_zero():
                return
        _say_done(opened, f"{output}: added {', '.join(added)}")


def _say_done(run: "Run", text: str) -> None:
    """Say on stderr, because stdout may hold the predictions, how they were made."""
    from plainloop.console import print_line
    from plainloop.metrics.decision_rule import format_decision

    if run.decision and (decided := format_decision(run.decision, run.task)):
        print_line(f"Decision       {decided}", sys.stderr)
    if run.bf16:
        print_line(f"Precision      {run.classifier.precision}", sys.stderr)
    print_line(f"Predicted      {text}", sys.stderr)


def _check_shared(run: Path, files: Sequence[str], output: str) -> None:
    """Check that several processes can share a prediction.

    Raises:
        UserError: it is not of files into a file, or with an exported folder.
    """
    from plainloop.predict.export.exported_folder import is_exported

    if not files or "-" in (*files, output) or is_exported(run):
        raise UserError(
            "several processes share the rows of --file, with a run and into an --output",
            where="plainloop predict",
            fix="give both, or start one process",
        )


def _check_flags(
    useless: Mapping[str, Mapping[str, object]], batch_size: int, data_dir: object = True
) -> None:
    """Check the flags of a prediction together.

    Args:
        useless: which other flag is given or not -> flag -> value of those that then do nothing.
        batch_size: rows per batch.
        data_dir: GLUE's folder, if it is needed.

    Raises:
        UserError: every flag that is missing, has no effect or is out of range.
    """
    problems = [
        UserError(f"has no effect {why}", where=name, fix="leave it out")
        for why, values in useless.items()
        for name, value in values.items()
        if value
    ]
    if not data_dir:
        problems.append(
            UserError(
                "is missing", where="--data-dir", fix="give it, or see plainloop predict --help-all"
            )
        )
    if batch_size < 1:
        problems.append(
            UserError(f"{batch_size} is out of range", where="--batch-size", fix="give at least 1")
        )
    if problems:
        raise UserError.together(problems)
