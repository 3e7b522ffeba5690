"""Upload a finished run's model, tokenizer, decision rule and card to the Hugging Face Hub."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """Whether only its owner sees it. Default: as the owner's settings say."""


NO_UPLOAD = HubUpload()


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
    """Upload a finished run's model, tokenizer, decision rule and card; print the address.

    Only the main process does. Predictions and report are not uploaded, because they contain texts of the data.

    Args:
        folder: output folder of the run.
        name: repository, from `check_upload`.
        private: whether a new repository is private; None for the owner's default.

    Raises:
        MachineError: the upload failed; the message has the command to repeat it. The run is intact.
    """
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    from huggingface_hub import HfApi

    from plainloop.console import say
    from plainloop.metrics.decision_rule import DECISION_FILE
    from plainloop.run.folder import MODEL_FILES

    api, uploaded = HfApi(), ("README.md", DECISION_FILE, *MODEL_FILES)
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(uploaded),
            commit_message="Fine-tuned with plainloop",
        )
    except client_errors() as error:
        included = [word for pattern in uploaded for word in ("--include", pattern)]
        words = ["hf", "upload", name, str(folder), ".", *included, *["--private"] * bool(private)]
        raise MachineError(
            f"not uploaded: {first_line(error)}",
            where=f"--push-to-hub {name}",
            fix=f"the run is whole; to try again: {shlex.join(words)}",
        ) from error
    say("Uploaded", str(address))


def client_errors() -> tuple[type[Exception], ...]:
    """Exceptions that the Hub client raises; those of its HTTP library are not an OSError."""
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return OSError, ValueError, http_error


def first_line(error: Exception) -> str:
    """First line of an exception's message, or its class name if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
