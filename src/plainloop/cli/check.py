"""`plainloop check`: summarize the data and list the problems in them."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from plainloop.config.settings import TrainConfig


def check(
    config: TrainConfig = TrainConfig(),
    *,
    report: Annotated[Path | None, Parameter(name="--report")] = None,
    embeddings: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> None:
    """Look at the data before any training, with the same flags as plainloop train.

    Shows rows, classes, lengths in tokens, empty and duplicate texts, rows that are in both parts,
    contradicting labels, and the scores of baselines. Findings exit with 2 only if they make training
    impossible.

    Examples:
        plainloop check reviews.csv --model demo

        plainloop check --task cola --data-dir glue --model demo --report check.json

    Args:
        report: JSON file for the results. Default: nothing is written.
        embeddings: Add a baseline of frozen embeddings (30 s).
    """
    from plainloop.atomic_file import json_bytes
    from plainloop.cli.flags import config_files
    from plainloop.run.output_file import check_output, open_output
    from plainloop.training.prepare import input_paths, load_inputs

    if report is not None:
        check_output(report, "--report", [*config_files.get(), *input_paths(config)])
    inputs = load_inputs(replace(config, dry_run=True), refuse=False)
    from plainloop.console import print_line, say
    from plainloop.data.batches.tokenize import check_tokenizer
    from plainloop.data.quality.summary import check_data, refuse_impossible
    from plainloop.model.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(inputs.pretrained)
    check_tokenizer(tokenizer, len(inputs.task.text_columns), config.max_length)
    for line in inputs.found:
        say("Found", line)
    findings = check_data(
        inputs.raw,
        inputs.task,
        tokenizer=tokenizer,
        max_length=config.max_length,
        embed=inputs.check.embed if embeddings else None,
        show=inputs.check.show,
        pair=inputs.check.pair,
    )
    for line in findings.lines():
        print_line(line)
    if report is not None:
        with open_output(report, "--report") as file:
            file.write(json_bytes(findings.to_dict()))
        say("All of it", str(report))
    refuse_impossible(findings.found)
