"""Settings files: YAML mappings of setting names to values, such as a run's run.yaml."""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from plainloop.errors import UserError, nearest

PATHS = ("train_file", "validation_file", "test_file", "data_dir", "output_dir")


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [(key.tag, str(key.value)) for key, _ in node.value]
        for at, (tag, name) in enumerate(keys):
            if (tag, name) in keys[:at]:
                mark = node.value[at][0].start_mark
                where = f"{mark.name}, line {mark.line + 1}"
                raise UserError(f"'{name}' is given twice", where=where, fix="keep one of the two")
        return super().construct_mapping(node, deep)


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read a settings file; names and values are not checked.

    The relative paths in a run's own run.yaml start at the folder that the run was made in, which is
    found by its output folder. Those of another file start at the current folder.

    Raises:
        UserError: no such file, not UTF-8, not YAML, or not a mapping.
    """
    if not path.is_file():
        beside = [entry.name for entry in path.parent.glob("*.y*ml")]
        raise UserError(
            "no such file", where=f"--config {path}", fix=nearest(path.name, beside) or "give one"
        )
    try:
        with path.open(encoding="utf-8") as file:
            settings = yaml.load(file, _Loader)  # noqa: S506 - a safe one
    except UnicodeDecodeError:
        raise UserError("not UTF-8", where=str(path), fix="save the file as UTF-8") from None
    except RecursionError:
        raise UserError(
            "nested too deeply", where=str(path), fix="write lines like seed: 42"
        ) from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise UserError(f"not YAML: {what}", where=where, fix="write lines like seed: 42") from None
    if not isinstance(settings, dict):
        raise UserError("not a mapping", where=str(path), fix="write lines like seed: 42")
    if settings.get("eval_strategy") is False:
        settings["eval_strategy"] = "no"  # YAML 1.1 reads an unquoted no as false
    # A run.yaml has every setting. One without this is of a run whose split was by rows.
    if {"task", "train_file", "validation_seed", "ddp_timeout"} <= settings.keys():
        settings.setdefault("group_duplicates", False)
    recorded, folder = Path(str(settings.get("output_dir"))), path.parent.absolute()
    is_here = recorded.is_dir() and recorded.samefile(folder)
    if not is_here and folder.parts[-len(recorded.parts) :] == recorded.parts:
        return rebase(settings, folder.parents[len(recorded.parts) - 1])
    return settings


def rebase(settings: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Let the relative paths of settings start at `base`, the model if it is a folder there."""
    moved = {name: settings[name] for name in PATHS if name in settings}
    if (base / str(settings.get("model"))).is_dir():
        moved["model"] = settings["model"]
    for name, value in moved.items():
        if isinstance(value, str):
            moved[name] = _below(base, value)
        elif isinstance(value, list):
            moved[name] = [_below(base, str(path)) for path in value]
    return {**settings, **moved}


def _below(base: Path, path: str) -> str:
    """A path or pattern that starts at `base`, whose own name is no pattern."""
    return str(Path(glob.escape(str(base))) / path if glob.has_magic(path) else base / path)
