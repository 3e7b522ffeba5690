"""Settings files: YAML mappings of setting names to values, such as a run's run.yaml."""

from pathlib import Path
from typing import Any

import yaml

from plainloop.errors import UserError, nearest


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read a settings file; names and values are not checked.

    Raises:
        UserError: no such file, not UTF-8, not YAML, or not a mapping.
    """
    if not path.is_file():
        beside = [entry.name for entry in path.parent.glob("*.y*ml")]
        raise UserError(
            "no such file", where=f"--config {path}", fix=nearest(path.name, beside) or "give one"
        )
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError("not UTF-8", where=str(path), fix="save the file as UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise UserError(f"not YAML: {what}", where=where, fix="write lines like seed: 42") from None
    if not isinstance(settings, dict):
        raise UserError("not a mapping", where=str(path), fix="write lines like seed: 42")
    if settings.get("eval_strategy") is False:
        settings["eval_strategy"] = "no"  # YAML 1.1 reads an unquoted no as false
    return settings
