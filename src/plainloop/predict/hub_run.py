"""Find the folder of a run: a local one, or that of an upload, which is downloaded from the hub."""

import os
import sys
from pathlib import Path

from plainloop.console import print_line, shows_bars
from plainloop.errors import UserError, printable, printable_path
from plainloop.metrics.decision_rule import DECISION_FILE
from plainloop.model.pretrained import go_offline_if_unreachable
from plainloop.run.atomic import MANIFEST_FILE
from plainloop.run.folder import CONFIG_FILE, MODEL_FILES
from plainloop.run.rank_failure import is_rank_zero

UPLOADED_FILES = (CONFIG_FILE, MANIFEST_FILE, DECISION_FILE, *MODEL_FILES)
"""What `upload_run` uploads to predict with; nothing else is downloaded."""


def find_run(path: str | Path) -> Path:
    """Find the folder of a run, and download it if it is USER/NAME on the hub; a line says so.

    A local folder comes first: nothing is looked up if there is a folder USER.

    Raises:
        UserError: the hub has no such run, or cannot be reached and the run is not in its cache.
    """
    folder = Path(path)
    if len(folder.parts) != 2 or folder.exists() or folder.parent.exists():  # noqa: PLR2004
        return folder
    name = folder.as_posix()
    go_offline_if_unreachable()
    from huggingface_hub import constants, errors, hf_hub_download, snapshot_download, utils

    if not shows_bars():
        utils.disable_progress_bars()  # type: ignore[attr-defined]
    # The variable is read at import, which may have been before it was set.
    offline = constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1"
    fix = "check the name; for a private one: hf auth login"
    try:
        # First, so that no weights of another model are downloaded, and all files are of one commit.
        settings = Path(hf_hub_download(name, CONFIG_FILE, local_files_only=offline))
        found = snapshot_download(
            name,
            revision=settings.parent.name,
            allow_patterns=list(UPLOADED_FILES),
            ignore_patterns="*/*",
            local_files_only=offline,
        )
    except errors.LocalEntryNotFoundError:
        what = "no such folder, and the hub cannot be reached to download a run of that name"
        fix = "give the folder of a run, or connect once so that it is cached"
    except errors.RepositoryNotFoundError:
        what = "no such folder, and no such model on the hub"
    except errors.EntryNotFoundError:
        what = f"not a run: the hub's model has no {CONFIG_FILE}, which --push-to-hub uploads"
        fix = "give a run, or load it with from_pretrained"
    except client_errors() as error:
        what = f"no such folder, and not downloaded from the hub: {printable(first_line(error))}"
    else:
        if is_rank_zero():
            commit = f"commit {settings.parent.name[:7]}"
            print_line(f"Run            {name} on the hub, {commit}", sys.stderr)
        return Path(found)
    raise UserError(what, where=printable_path(folder), fix=fix)


def client_errors() -> tuple[type[Exception], ...]:
    """Exceptions that the Hub client raises; those of its HTTP library are not an OSError."""
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return OSError, ValueError, http_error


def first_line(error: Exception) -> str:
    """First line of an exception's message, or its class name if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
