"""The plainloop command line app, with the commands train and demo."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from plainloop import __version__
from plainloop.cli.check import check
from plainloop.cli.compare import compare
from plainloop.cli.eject import eject
from plainloop.cli.evaluate import evaluate
from plainloop.cli.export import export
from plainloop.cli.predict import predict
from plainloop.cli.report import report
from plainloop.config.flag_types import WHOLE
from plainloop.config.settings import TrainConfig
from plainloop.console import LogFormat
from plainloop.errors import UserError
from plainloop.report.hub_upload import NO_UPLOAD, HubUpload, check_upload, upload_run

app = App(
    name="plainloop",
    version=__version__,
    help="Fine-tune text classifiers with a training loop that you can read on one screen.",
)


def train(
    config: TrainConfig = TrainConfig(),
    *,
    seeds: Annotated[
        tuple[int, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    cv: Annotated[int | None, WHOLE] = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    log_format: LogFormat = "text",
    hub: HubUpload = NO_UPLOAD,
) -> None:
    """Fine-tune and evaluate a classifier; save it with its metrics, history and a report.

    --config FILE reads settings from a YAML file such as a run's run.yaml; flags beat it.

    Examples:
        plainloop train reviews.csv

        plainloop train --task demo --model demo

        plainloop train --task mrpc --model bert-base-uncased --lr 3e-5 --epochs 2

        plainloop train --config runs/mrpc/run.yaml --seed 43 -o runs/mrpc-43

        plainloop train --task mrpc --model demo --seeds 3 -o runs/mrpc

    Args:
        seeds: Number of seeds to train, from --seed on, or a list of seeds; each run has its own folder.
        cv: Number of folds: after the training, cross-validate with N more models to find label errors
            in the training rows.
        quiet: Print plain lines only, as into a pipe: no progress bar, table or curve.
        log_format: Format of stdout: text, or one JSON object per line.
    """
    # Commands import what they need when they run, so that --help is fast. The data are read before
    # torch is imported, so that an error in them is reported within a second.

    from plainloop.console import outliving_readers, printing, say
    from plainloop.run.folder import keep_locks
    from plainloop.run.machine_limits import explain_training_errors
    from plainloop.run.rank_failure import is_rank_zero
    from plainloop.run.signals import StopRequest

    with (
        outliving_readers(),
        printing(log_format, quiet=quiet),
        StopRequest() as stop,
        keep_locks(),
    ):
        if is_rank_zero() and (source := ", ".join(config.train_file) or config.dataset):
            say("Reading", source)
        from plainloop.training.prepare import read_inputs  # takes as long as all above

        if seeds:
            if cv is not None:
                raise UserError("is of one run", where="--cv", fix="leave out --seeds")
            check_upload(hub, config.run_path, seeds)
            from plainloop.experiments.seeds import train_seeds

            train_seeds(config, seeds, stop)
            return
        inputs = read_inputs(config)
        from plainloop.experiments.cross_validation import check_folds, find_label_errors

        if cv is not None:
            check_folds(inputs, cv)
        name = check_upload(hub, config.run_path)
        from plainloop.report.end_of_training import write_pages
        from plainloop.training.fine_tune import fine_tune

        with explain_training_errors(config):
            if fine_tune(config, inputs, stop):
                if cv is not None:
                    find_label_errors(inputs, cv, stop)
                write_pages(inputs.config.run_path)
                if name:
                    upload_run(inputs.config.run_path, name, private=hub.hub_private_repo)


def demo(
    *,
    output_dir: Annotated[Path, Parameter(alias="-o")] = Path("runs/demo"),
    seed: int = 42,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    log_format: LogFormat = "text",
) -> None:
    """Fine-tune the embedded model on the embedded sentence pairs, with no network, in minutes.

    It is the same as: plainloop train --task demo --model demo --epochs 2 --overwrite

    Args:
        output_dir: Folder of the run; an existing run in it is replaced.
        seed: Random seed of the new head, the dropout and the order of the rows.
        quiet: Print plain lines only, as into a pipe: no progress bar, table or curve.
        log_format: Format of stdout: text, or one JSON object per line.
    """
    train(
        TrainConfig(
            task="demo",
            model="demo",
            num_train_epochs=2,
            seed=seed,
            output_dir=output_dir,
            overwrite=True,
        ),
        quiet=quiet,
        log_format=log_format,
    )


# --help and the reference list them in the order of use.
IN_ORDER: tuple[Callable[..., None], ...] = (
    demo,
    check,
    train,
    predict,
    evaluate,
    report,
    compare,
    export,
    eject,
)
for place, command in enumerate(IN_ORDER):
    app.command(command, sort_key=place)
app.register_install_completion_command(help="Complete commands and flags in this shell.")
