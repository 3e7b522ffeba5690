"""The folder that `plainloop export` writes: its files, and how it is opened to predict."""

import json
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from plainloop.errors import CheckpointError, UserError, printable, printable_path
from plainloop.predict.loaded_run import Run, read_task, to_config
from plainloop.run.atomic import find_corruption

MODEL_FILE = "model.onnx"
INT8_FILE = "model_int8.onnx"
EXPORT_FILE = "export.json"
SETTINGS = (
    *("task", "problem_type", "text_column", "label_separator", "header"),
    *("max_length", "stride"),
)
"""The settings of a run that its predictions depend on."""

logger = logging.getLogger(__name__)


def is_exported(path: Path) -> bool:
    """Whether a path is an exported folder, or a model file in one."""
    return (_folder_of(path) / EXPORT_FILE).is_file()


def load_exported(path: Path, *, accept_changed_files: bool = False) -> Run:
    """Open an exported folder as the run that it was exported from.

    It can predict, and nothing else. torch is not imported.

    Args:
        path: the folder, whose model.onnx predicts; or a model file in it, such as model_int8.onnx.
        accept_changed_files: use files that differ from the folder's manifest, with a warning.

    Raises:
        UserError: onnxruntime or the model file is missing, as int8 if it was not exported.
        CheckpointError: a file of the folder was changed or is damaged.
    """
    check_packages(printable_path(path), ["onnxruntime"])
    folder = _folder_of(path)
    model = folder / MODEL_FILE if path.is_dir() else path
    if not model.is_file():
        fix = "plainloop export writes it, without --no-int8"
        raise UserError("no such file", where=printable_path(model), fix=fix)
    if change := find_corruption(folder):
        if not accept_changed_files:
            raise CheckpointError(
                f"changed since the run was exported: {printable(change, most=300)}",
                where=printable_path(folder),
                fix="export the run again; if you changed it on purpose, give --accept-changed-files",
            )
        logger.warning("%s: accepted: %s", printable_path(folder), printable(change))
    content = json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8"))
    config = to_config(content["settings"], folder / EXPORT_FILE)
    return Run(folder, config, read_task(folder, config), onnx=model)


def check_packages(where: str, names: Sequence[str]) -> None:
    """Check that the packages of the extra export are installed.

    Raises:
        UserError: one is not.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        fix = f"pip install {' '.join(missing)}"
        raise UserError(f"needs the package {missing[0]}", where=where, fix=fix)


def _folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent
