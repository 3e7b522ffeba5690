"""Check a model folder before Transformers reads it: its weights are safetensors, and no code runs."""

import json
from pathlib import Path
from typing import Any

from plainloop.errors import UserError, printable, printable_path

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def check_model_files(folder: Path) -> None:
    """Check the configuration and the names of the weight files, as Transformers finds them.

    Links are followed, as those in the hub's cache.

    Raises:
        UserError: a JSON file is damaged; the weights are missing or are not safetensors; or the
            configuration asks for code from the hub.
    """
    where = f"--model {printable_path(folder)}"
    config = _read_object(folder / "config.json", where)
    has_weights, has_index = ((folder / name).is_file() for name in (WEIGHTS, INDEX))
    default = INDEX if has_index and not has_weights else WEIGHTS
    files = [str(config.get("transformers_weights") or default)]
    if files[0].endswith(".index.json"):
        shards = _read_object(folder / files[0], where).get("weight_map")
        files = sorted(map(str, shards.values())) if isinstance(shards, dict) else []
    elif not (folder / files[0]).is_file():
        files = [path.name for path in sorted(folder.glob("pytorch_model*.bin"))] or files
    pickles = sorted({file for file in files if not file.endswith(".safetensors")})
    if pickles:
        raise UserError(
            f"{printable(pickles[0])} is no safetensors file but pickle, which could run code",
            where=where,
            fix="if you trust it, convert it in that folder: "
            f'python -c "import torch; from safetensors.torch import save_file; save_file({{k: v.clone() '
            f"for f in {pickles} for k, v in torch.load(f, weights_only=True).items()}}, "
            f"'{WEIGHTS}', {{'format': 'pt'}})\"",
        )
    missing = [file for file in files or [WEIGHTS] if not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"no weights: {printable(missing[0])} is missing",
            where=where,
            fix="copy it there, or give the folder of a finished run",
        )


def _read_object(path: Path, where: str) -> dict[str, Any]:
    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Each object in the file, at any depth."""
        for key, value in pairs:
            if key.endswith("_implementation") and "/" in str(value):
                raise UserError(
                    f"{path.name} runs code from the hub: {key} {printable(value)}",
                    where=where,
                    fix=f"delete {key} from {path.name}",
                )
        return dict(pairs)

    reason = "not an object"
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=check)
        if isinstance(content, dict):
            return content
    except (OSError, ValueError, RecursionError) as error:
        reason = printable(error)
    raise UserError(
        f"{path.name} cannot be read: {reason}", where=where, fix="copy or download it again"
    )
