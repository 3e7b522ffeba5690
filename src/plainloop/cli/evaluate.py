"""`plainloop evaluate`: score a finished run."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from plainloop.config.read_options import ReadOptions


def evaluate(
    run: Path,
    files: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    /,
    *,
    file: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    options: ReadOptions = ReadOptions(),
    slice_column: str | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    accept_changed_files: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Score a finished run on a labelled file, or again on its own validation rows.

    Examples:
        plainloop evaluate runs/reviews

        plainloop evaluate runs/reviews labelled.csv --output scores.json

        plainloop evaluate runs/reviews labelled.csv --slice-column language

        plainloop evaluate runs/mrpc --file glue/MRPC/dev.tsv

    Args:
        run: Folder of the run.
        files: The same as --file.
        file: Labelled rows with the columns of the training file, or in the task's layout.
        slice_column: Column of the same file: the score for the rows of each value, worst first.
        output: JSON file for the scores of each split or file.
        accept_changed_files: Use files of the run that were changed since it was finished, with a warning.
    """
    file += files
    from plainloop.atomic_file import json_bytes
    from plainloop.data.files.paths import find_files
    from plainloop.predict.evaluate_run import describe_labels, evaluate_slices
    from plainloop.predict.loaded_run import load_run
    from plainloop.run.machine_limits import explain_resource_errors
    from plainloop.run.manifest import explain_damage
    from plainloop.run.output_file import check_output, open_output
    from plainloop.run.signals import StopRequest
    from plainloop.training.prepare import input_paths

    with StopRequest(), explain_damage(run, accept_changed=accept_changed_files):
        opened = load_run(run, accept_changed_files=accept_changed_files)
        if output is not None:
            check_output(output, inputs=find_files(file) or input_paths(opened.config))
        rows = opened.config.per_device_eval_batch_size
        with explain_resource_errors(
            where=str(run if output is None else output),
            what_ran=f"{rows} rows in a batch, as in the training",
            smaller="free memory: another batch size would not give the training's scores",
        ):
            found = evaluate_slices(opened, file, options, slice_column)
            if output is not None:
                results = {
                    split: scores | ({"slices": [*map(asdict, slices)]} if slices else {})
                    for split, (scores, slices) in found.items()
                }
                with open_output(output) as written:
                    written.write(json_bytes(results))
    from plainloop.console import print_line, say
    from plainloop.metrics.decision_rule import format_decision
    from plainloop.report.slice_table import format_slices
    from plainloop.training.progress import describe_scores

    if opened.decision:
        own = "" if file else "; validation rows, which chose it, as trained"
        say("Decision", f"{format_decision(opened.decision, opened.task)}{own}")
    for split, (of_split, slices) in found.items():
        title = split.capitalize() if split.isidentifier() else split
        say(title, describe_scores(of_split))
        for line in describe_labels(of_split):
            print_line(line)
        if slices:
            say("Slices", f"by {slice_column}")
            for line in format_slices(slices, opened.task.metrics[0]):
                print_line(line)
