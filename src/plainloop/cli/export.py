"""`plainloop export`: write a run as an ONNX folder that predicts without torch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

_SWITCH = Parameter(negative=())


def export(
    run: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    int8: bool = True,
    accept: Annotated[bool, _SWITCH] = False,
    accept_changed_files: Annotated[bool, _SWITCH] = False,
) -> None:
    """Write a finished run as an ONNX folder, which predicts without torch on a CPU.

    The folder has model.onnx, model_int8.onnx, the tokenizer, the labels, the thresholds, a script of
    40 lines, and export.json. First both models predict the run's validation rows: export.json has the
    labels that changed and the difference of each metric. An int8 model is an error if a metric falls
    by more than 1.0 point, or if the 95 % interval of the difference is below 0.

    Examples:
        plainloop export runs/reviews -o onnx/reviews

        plainloop predict onnx/reviews new.csv -o predicted.csv

        plainloop predict onnx/reviews/model_int8.onnx new.csv -o predicted.csv

    Args:
        run: Folder of the run.
        output: Folder to create.
        int8: Write the int8 model, too.
        accept: Write the int8 model even if it is worse.
        accept_changed_files: Use files of the run that were changed since it was finished, with a warning.
    """
    from plainloop.console import print_line, say
    from plainloop.errors import UserError
    from plainloop.predict.export.export_run import export_run
    from plainloop.predict.export.proof import describe_proof
    from plainloop.predict.loaded_run import load_run
    from plainloop.run.machine_limits import explain_resource_errors
    from plainloop.run.manifest import explain_damage
    from plainloop.run.signals import StopRequest

    if accept and not int8:
        raise UserError("has no effect with --no-int8", where="--accept", fix="leave it out")
    limits = explain_resource_errors(where=str(output), what_ran="the exported model")
    with StopRequest(), limits, explain_damage(run, accept_changed=accept_changed_files):
        opened = load_run(run, accept_changed_files=accept_changed_files)
        exported = export_run(opened, output, int8=int8, accept=accept)
    for name, proof in exported.proofs.items():
        first, *lines = describe_proof(proof, exported.rows)
        say(name, first)
        for line in lines:
            print_line(f"{'':<14} {line}")
        if note := exported.notes[name]:
            print_line(f"{'':<14} {note}")
    say("Run", str(exported.run))
    say("Written", str(output))
