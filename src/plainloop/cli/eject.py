"""`plainloop eject`: write a run as a standalone script or notebook."""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from plainloop.cli.flags import config_files, parse_config
from plainloop.config.flag_types import RUN
from plainloop.config.settings import TrainConfig
from plainloop.console import print_line
from plainloop.errors import UserError

NOTEBOOK_SUFFIX = ".ipynb"
_SWITCH = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class _ScriptConfig(TrainConfig):
    output_dir: Annotated[Path | None, RUN] = None  # without -o, which is --script in this command
    """Folder that the script writes to. Default: runs/TASK, or runs/ and the script's name."""


def eject(
    run: Path | None = None,
    /,
    *,
    script: Annotated[Path | None, Parameter(alias="-o", show_default=False)] = None,
    notebook: Annotated[bool, _SWITCH] = False,
    explain: Annotated[bool, _SWITCH] = False,
    accept_changed_files: Annotated[bool, _SWITCH] = False,
    config: _ScriptConfig = _ScriptConfig(),
) -> None:
    """Write a run as one plain script, which needs no plainloop and gives the same numbers.

    Give the folder of a run, or the flags of plainloop train. The script needs torch, transformers,
    accelerate, datasets and numpy; for LoRA also peft, for the model demo its package. It writes to
    --output-dir, or, if that folder has a run, to runs/ and the script's name. In this command -o is the script.

    Examples:
        plainloop eject --task mrpc --data-dir glue --model demo -o train_mrpc.py

        plainloop eject runs/reviews -o train_reviews.py

        plainloop eject --config runs/reviews/run.yaml --seed 43 -o train_43.py

        plainloop eject runs/reviews --notebook -o train_reviews.ipynb

        plainloop eject runs/reviews --explain | less

    Args:
        run: Folder of a run, whose settings are taken.
        script: File to write; --overwrite replaces an existing one.
        notebook: Write a notebook; its name ends in .ipynb.
        explain: Print the script with, next to each part, what the Trainer does there.
        accept_changed_files: Use files of the run that were changed since it was finished, with a warning.
    """
    from plainloop.run.folder import CONFIG_FILE
    from plainloop.run.manifest import verify_run

    if run is not None:
        verify_run(run, accept_changed=accept_changed_files)()
    _check_words(run, script, config, notebook=notebook, explain=explain)
    overwrite = config.overwrite
    settings: TrainConfig = config
    if run is not None:
        settings = parse_config(
            ["--config", str(run / CONFIG_FILE)], program="plainloop eject", description=""
        )

    # Checked before torch is imported, so that errors are reported within a second.
    from plainloop.eject.refusals import check_settings
    from plainloop.run.output_file import check_output
    from plainloop.training.prepare import input_paths, load_inputs

    check_settings(settings)
    read = [*config_files.get(), *input_paths(settings)]
    if script is not None:
        check_output(script, "--script", read)
    inputs = load_inputs(replace(settings, dry_run=True))
    from plainloop.eject.explanations import explain_parts
    from plainloop.eject.script import make_script

    ejected = make_script(settings, script or Path("train.py"), inputs)
    if script is not None:
        ejected.write(overwrite=overwrite, inputs=read)
        for path in [*ejected.data_paths, script]:
            # To stderr, because --explain prints the script to stdout.
            print_line(f"Written        {path}", sys.stderr)
    if explain:
        print(explain_parts(ejected), end="")


def _check_words(
    run: Path | None, script: Path | None, config: TrainConfig, *, notebook: bool, explain: bool
) -> None:
    from plainloop.run.folder import CONFIG_FILE, is_run

    problems = []
    if script is None and not explain:
        problems.append(
            UserError("is missing", where="--script", fix="-o FILE.py, or --explain to print it")
        )
    if notebook and explain:
        problems.append(
            UserError("--notebook and --explain cannot be combined", fix="use one of them")
        )
    wanted = NOTEBOOK_SUFFIX if notebook else ".py"
    if script is not None and script.suffix != wanted:
        fix = f"name it {script.with_suffix(wanted).name}"
        if script.suffix == NOTEBOOK_SUFFIX:
            fix += ", or add --notebook"
        problems.append(UserError(f"does not end in {wanted}", where=f"--script {script}", fix=fix))
    if run is not None and not is_run(run):
        problems.append(
            UserError(
                f"not the folder of a run (no {CONFIG_FILE} that plainloop wrote)",
                where=str(run),
                fix="give the --output-dir of plainloop train, or its flags",
            )
        )
    if run is not None and asdict(replace(config, overwrite=False)) != asdict(TrainConfig()):
        problems.append(
            UserError(
                "a run's folder and flags of plainloop train cannot be combined",
                where=str(run),
                fix=f"--config {run / CONFIG_FILE} takes its settings, which flags beat",
            )
        )
    if problems:
        raise UserError.together(problems)
