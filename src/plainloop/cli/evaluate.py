"""`plainloop evaluate`: score a finished run."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def evaluate(
    run: Path,
    /,
    *,
    file: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    encoding: str | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    accept_changed_files: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Score a finished run on a labelled file, or again on its own validation rows.

    Examples:
        plainloop evaluate runs/reviews

        plainloop evaluate runs/reviews --file labelled.csv --output scores.json

        plainloop evaluate runs/mrpc --file glue/MRPC/dev.tsv

    Args:
        run: Folder of the run.
        file: Labelled rows with the columns of the training file, or in the task's layout.
        encoding: Encoding of text files, as in latin-1 or cp949. Default: UTF-8.
        output: JSON file for the scores of each split or file.
        accept_changed_files: Use files of the run that were changed since it was finished, with a warning.
    """
    from plainloop.predict.evaluate_run import describe_labels, evaluate_run
    from plainloop.predict.loaded_run import load_run
    from plainloop.predict.output_files import check_output, open_output
    from plainloop.run.machine_limits import explain_resource_errors
    from plainloop.run.signals import StopRequest

    with StopRequest():
        opened = load_run(run, accept_changed_files=accept_changed_files)
        if output is not None:
            check_output(output)
        rows = opened.config.per_device_eval_batch_size
        with explain_resource_errors(
            where=str(run if output is None else output),
            room="make room",
            what_ran=f"{rows} rows in a batch, as in the training",
            smaller="free memory: another batch size would not give the training's scores",
        ):
            scores = evaluate_run(opened, file, encoding=encoding)
            if output is not None:
                with open_output(str(output)) as written:
                    written.write(json.dumps(scores, indent=2, allow_nan=False).encode() + b"\n")
    from plainloop.metrics.decision_rule import format_decision
    from plainloop.training.progress import describe_scores

    if opened.decision:
        own = "" if file else "; validation rows, which chose it, as trained"
        print(f"{'Decision':<14} {format_decision(opened.decision, opened.task)}{own}")
    for split, of_split in scores.items():
        title = split.capitalize() if split.isidentifier() else split
        print(f"{title:<14} {describe_scores(of_split)}")
        for line in describe_labels(of_split):
            print(line)
