"""`plainloop predict`: predict files, stdin or GLUE's test sets with a finished run."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from plainloop.config.read_options import ReadOptions
from plainloop.errors import UserError

_SEVERAL = Parameter(consume_multiple=True, negative=(), show_default=False)
_STREAM = Parameter(allow_leading_hyphen=True, show=False)


def predict(
    run: Path,
    stdin: Annotated[Literal["-"] | None, _STREAM] = None,
    /,
    *,
    file: Annotated[tuple[str, ...], _SEVERAL] = (),
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
    """Predict every row of a file with a finished run.

    All columns are kept, in the same order of rows; added are label (prediction, if there is a
    column label) and probability_NAME for each label; for a regression prediction alone. The output
    has its name only when it is whole.

    Examples:
        plainloop predict runs/reviews --file new.csv --output predicted.csv

        plainloop predict runs/reviews --file 'shards/*.jsonl' --output predicted.parquet

        cat new.csv | plainloop predict runs/reviews --file - --output - > predicted.csv

        plainloop predict runs/mrpc --glue-submission submission --data-dir glue

        plainloop predict runs/mnli --glue-submission submission --data-dir glue --task ax

    Args:
        run: Folder of the run.
        stdin: The - of --file -.
        file: csv, tsv, json, jsonl, parquet, arrow, a save_to_disk folder, or a glob; - for stdin.
        output: File to write: csv, tsv, jsonl or parquet, by suffix; - for stdout.
        text_column: Column of the text, or two for a pair. Default: those of the training.
        on_null: What to do with a row without a text: stop, or take it as empty.
        format: Format of stdin and stdout.
        spreadsheet_safe: Put a ' before texts that a spreadsheet would run: = + - @, tab, return.
        batch_size: Rows that run at once.
        glue_submission: Folder for the files that GLUE's server takes, instead of --file.
        data_dir: GLUE's folder, for --glue-submission.
        task: Another task with the same labels, for --glue-submission: ax with a run of mnli.
        bf16: Compute in bfloat16 on a CPU where that measures faster; probabilities differ by hundredths.
        accept_changed_files: Use files of the run that were changed since it was finished, with a warning.
    """
    # cyclopts does not accept - as a value of a flag with several values, so that the - of
    # `--file -` arrives as a positional argument.
    file += (stdin,) if stdin else ()
    of_files = {"--file": file, "--output": output}
    if glue_submission is None:
        _check_flags("without", of_files, {"--data-dir": data_dir, "--task": task}, batch_size)
    else:
        useless = {**of_files, "--text-column": text_column}
        _check_flags("with", {"--data-dir": data_dir}, useless, batch_size)

    from plainloop.console import print_line
    from plainloop.predict.loaded_run import load_run
    from plainloop.run.machine_limits import explain_resource_errors
    from plainloop.run.manifest import explain_damage
    from plainloop.run.signals import StopRequest

    limits = explain_resource_errors(
        where=str(glue_submission or output),
        what_ran=f"{batch_size} rows in a batch",
        smaller="give a smaller --batch-size",
    )
    damage = explain_damage(run, accept_changed=accept_changed_files)
    with StopRequest(), limits, damage:
        opened = load_run(run, accept_changed_files=accept_changed_files, bf16=bf16)
        if glue_submission is not None:
            from plainloop.predict.submissions import write_submissions

            assert data_dir is not None  # noqa: S101
            for path in write_submissions(
                opened, data_dir, glue_submission, task_name=task, batch_size=batch_size
            ):
                print_line(f"Predicted      {path}")
            return
        assert output is not None  # noqa: S101
        added = opened.predict_file(
            file,
            output,
            text_column=text_column,
            options=options,
            on_null=on_null,
            stream_format=format,
            spreadsheet_safe=spreadsheet_safe,
            batch_size=batch_size,
        )
        # To stderr, because stdout may hold the predictions.
        if opened.decision:
            from plainloop.metrics.decision_rule import format_decision

            decided = format_decision(opened.decision, opened.task)
            print_line(f"Decision       {decided}", sys.stderr)
        if bf16:
            print_line(f"Precision      {opened.classifier.precision}", sys.stderr)
        print_line(f"Predicted      {output}: added {', '.join(added)}", sys.stderr)


def _check_flags(
    with_or_without: str,
    needed: Mapping[str, object],
    useless: Mapping[str, object],
    batch_size: int,
) -> None:
    """Check the flags that prediction with or without --glue-submission needs.

    Args:
        with_or_without: the word in the message, before --glue-submission.
        needed: flag -> value of the flags that are required.
        useless: flag -> value of the flags that would have no effect.
        batch_size: rows per batch.

    Raises:
        UserError: every flag that is missing, has no effect or is out of range.
    """
    problems = [
        UserError("is missing", where=flag, fix="give it, or see plainloop predict --help")
        for flag, value in needed.items()
        if not value
    ]
    problems += [
        UserError(
            f"has no effect {with_or_without} --glue-submission", where=flag, fix="leave it out"
        )
        for flag, value in useless.items()
        if value
    ]
    if batch_size < 1:
        problems.append(
            UserError(f"{batch_size} is out of range", where="--batch-size", fix="give at least 1")
        )
    if problems:
        raise UserError.together(problems)
