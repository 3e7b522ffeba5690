"""Run fingerprint: the settings, tokenized rows, machine and versions that the numbers depend on."""

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from plainloop.config.marks import MAY_DIFFER, OF_CALL
from plainloop.config.settings import TrainConfig, marked
from plainloop.data.row_hash import hash_rows
from plainloop.errors import CheckpointError
from plainloop.model.matrix_products import Products

if TYPE_CHECKING:
    from datasets import DatasetDict

MAY_DIFFER_ON_RESUME = marked(OF_CALL, MAY_DIFFER)
"""The settings that no number of a run depends on, as their fields declare."""
PACKAGES = ("torch", "transformers", "accelerate")


def run_fingerprint(
    config: TrainConfig,
    model_inputs: "DatasetDict",
    device: torch.device,
    num_processes: int,
    products: Products,
    *,
    mixed_precision: str = "no",
) -> dict[str, Mapping[str, Any]]:
    """Everything that a run's numbers depend on, by group; a resumed run must have the same."""
    settings = config.to_dict()
    settings["model"] = model_places(config.model, config.run_path)
    return {
        "settings": {name: settings[name] for name in settings if name not in MAY_DIFFER_ON_RESUME},
        # What the loaders give, from whatever files and cache it comes.
        "inputs": {split: hash_rows(model_inputs[split]) for split in ("train", "validation")},
        "machine": {
            "device": device.type,
            "processes": num_processes,
            "threads": torch.get_num_threads(),
            "products": products,
            "mixed_precision": mixed_precision,  # the launcher's, too, which no setting shows
        },
        "versions": {name: version(name) for name in PACKAGES},
    }


def model_places(model: str, folder: Path) -> list[str]:
    """A model's folder as it is found from the run's, and from the root; or its name on the hub.

    The first stays when both are moved, the second when the run alone is.
    """
    if not Path(model).is_dir():
        return [model]
    return [os.path.relpath(model, folder), str(Path(model).resolve())]


def check_fingerprint(
    saved: dict[str, Any], ours: dict[str, Any], path: Path, *, force: bool
) -> list[str]:
    """Compare the fingerprint in a checkpoint with this run's.

    Args:
        saved: fingerprint in the checkpoint, from `run_fingerprint`.
        ours: fingerprint of this run.
        path: checkpoint, for the message.
        force: return the differences instead of raising.

    Returns:
        A line for each difference.

    Raises:
        CheckpointError: they differ, and `force` is not set.
    """
    # Compared as JSON, in which the saved one's tuples have become lists.
    saved, ours = (json.loads(json.dumps(side)) for side in (saved, ours))
    for side in (saved, ours):
        side.setdefault("machine", {}).setdefault("products", "default")  # 0.1.0 had no choice
    # Nor did it save the launcher's precision.
    saved["machine"].setdefault("mixed_precision", ours["machine"].get("mixed_precision"))
    ours["machine"].setdefault("mixed_precision", None)
    settings = ours.get("settings", {})
    # A version without a setting had what is now its default.
    defaults = {name: value for name, value in TrainConfig().to_dict().items() if name in settings}
    saved["settings"] = {**defaults, **saved.get("settings", {})}
    places = saved["settings"].get("model") or []
    if isinstance(places, str):  # until 0.1.0 it was saved as it was given
        places = [places, *model_places(places, path.parents[1])]
    if {*places} & {*settings.get("model", [])}:
        saved["settings"]["model"] = settings["model"]
    differences = []
    if "rows" in saved:
        differences = [
            "it was saved by plainloop 0.1.0, whose rows cannot be compared with those of this version"
        ]
        saved.pop("rows")
        ours.pop("inputs")
    differences += [
        f"{key} was {saved.get(group, {}).get(key)!r}, is {ours.get(group, {}).get(key)!r}"
        for group in sorted(saved.keys() | ours.keys())
        for key in sorted(saved.get(group, {}).keys() | ours.get(group, {}).keys())
        if saved.get(group, {}).get(key) != ours.get(group, {}).get(key)
    ]
    if differences and not force:
        raise CheckpointError(
            f"this run is not the one that was saved: {'; '.join(differences)}",
            where=str(path),
            fix="resume with the same command, or --force to go on with other numbers",
        )
    return differences
