"""Upload a finished run's model, tokenizer, decision rule and card to the Hugging Face Hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cyclopts import Parameter

from plainloop.config.flag_types import RUN
from plainloop.errors import MachineError, UserError


@Parameter(name="*", group=RUN.group)
@dataclass(frozen=True, kw_only=True)
class HubUpload:
    """Whether and where to upload."""

    push_to_hub: bool = False
    """Upload model, tokenizer, thresholds and card to the hub at the end; no row of the data, no log."""

    hub_model_id: str | None = None
    """Name on the hub, as in NAME or USER/NAME. Default: the run folder's name."""

    hub_private_repo: bool | None = None
    """Whether the repository is private. Default: the owner's setting on the hub."""


NO_UPLOAD = HubUpload()
RESULTS_FILE = ".eval_results/plainloop.yaml"


def check_upload(wanted: HubUpload, folder: Path, seeds: Sequence[int] = ()) -> str | None:
    """Check before a training that its result can be uploaded.

    Args:
        wanted: the upload flags.
        folder: output folder of the run.
        seeds: seeds of a `--seeds` training, which cannot be uploaded.

    Returns:
        The repository, as USER/NAME; None if nothing is to be uploaded.

    Raises:
        UserError: the flags do not fit, the Hub cannot be reached, there is no valid token, or the
            repository name is invalid.
    """
    if not wanted.push_to_hub:
        if wanted.hub_model_id is not None or wanted.hub_private_repo is not None:
            raise UserError(
                "nothing is uploaded",
                where="--hub-model-id" if wanted.hub_model_id is not None else "--hub-private-repo",
                fix="add --push-to-hub",
            )
        return None
    if seeds:
        raise UserError(
            "uploads one run, and not several seeds",
            where="--push-to-hub",
            fix="leave out one of both",
        )
    from huggingface_hub import HfApi, constants, utils
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    from plainloop.predict.hub_run import client_errors, first_line

    where = "--push-to-hub"
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set", where=where, fix="leave out one of both")
    try:
        user = HfApi().whoami()["name"]
    except LocalTokenNotFoundError:
        raise UserError("no token for the hub", where=where, fix="hf auth login") from None
    except HfHubHTTPError as error:
        raise UserError(
            f"the hub does not say who uploads: {first_line(error)}",
            where=where,
            fix="hf auth login",
        ) from None
    except client_errors() as error:
        raise UserError(
            f"the hub cannot be reached: {first_line(error)}", where=where, fix="try again later"
        ) from None
    name = wanted.hub_model_id or folder.resolve().name
    name = name if "/" in name else f"{user}/{name}"
    try:
        utils.validate_repo_id(name)  # type: ignore[attr-defined]
    except HFValidationError as error:
        raise UserError(
            f"no name on the hub: {first_line(error)}", where="--hub-model-id", fix="give another"
        ) from None
    return name


def upload_run(folder: Path, name: str, *, private: bool | None) -> None:
    """Upload what `load_run` needs of a finished run, its card and its scores; print the address.

    Only the main process does. Predictions and report are not uploaded, because they contain texts of the data.

    Args:
        folder: output folder of the run.
        name: repository, from `check_upload`.
        private: whether a new repository is private; None for the owner's default.

    Raises:
        MachineError: the upload failed. The run is intact.
    """
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    from huggingface_hub import HfApi

    from plainloop.console import say
    from plainloop.predict.hub_run import client_errors, first_line
    from plainloop.run.folder import VERIFIED_FILES

    api = HfApi()
    try:
        with TemporaryDirectory(prefix="plainloop-") as temporary:
            _write_upload(folder, Path(temporary))
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name,
                folder_path=temporary,
                delete_patterns=list(VERIFIED_FILES),  # of an earlier run of this name
                commit_message="Fine-tuned with plainloop",
            )
    except client_errors() as error:
        raise MachineError(
            f"not uploaded: {first_line(error)}",
            where=f"--push-to-hub {name}",
            fix="the run is complete; to upload again: the same command with --resume",
        ) from error
    say("Uploaded", str(address))


def _write_upload(folder: Path, upload: Path) -> None:
    """Fill a folder with the files to upload, large ones as links, and their manifest.

    Its run.yaml has what predictions depend on: no path of this machine.
    """
    import yaml

    from plainloop.metrics.decision_rule import DECISION_FILE
    from plainloop.predict.export.exported_folder import SETTINGS
    from plainloop.predict.loaded_run import load_run
    from plainloop.report.card import CARD_FILE, describe_results
    from plainloop.run.folder import CONFIG_FILE, MODEL_FILES
    from plainloop.run.manifest import write_manifest

    run = load_run(folder)
    for pattern in (CARD_FILE, DECISION_FILE, *MODEL_FILES):
        for path in folder.resolve().glob(pattern):
            (upload / path.name).symlink_to(path)
    settings = run.config.to_dict()
    kept = {name: settings[name] for name in (*SETTINGS, "num_train_epochs")}  # of each run.yaml
    (upload / CONFIG_FILE).write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    write_manifest(upload)
    if results := describe_results(run):
        (upload / ".eval_results").mkdir()
        (upload / RESULTS_FILE).write_text(results, encoding="utf-8")
