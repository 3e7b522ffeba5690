"""The script with what transformers.Trainer does in each part of it."""

import textwrap
from importlib.resources import files

import yaml

from plainloop.eject.script import Script

MARK = "#| "
"""How a line of explanation begins; without these lines the script is left."""
WIDTH = 96  # characters of an explanation's line, without the mark


def explain_parts(script: Script) -> str:
    """The script with, above each part, what the Trainer does there; it still runs."""
    explanations = read_explanations()
    parts = {}
    for name, source in script.parts.items():
        said = [text for held, text in explanations.get(name, {}).items() if held in source]
        lines = [line for text in said for line in textwrap.wrap(f"Trainer: {text}", WIDTH)]
        parts[name] = "".join(f"{MARK}{line}\n" for line in lines) + source
    return Script(script.path, script.title, parts, script.beside).source


def read_explanations() -> dict[str, dict[str, str]]:
    """Part -> what it must hold for it to be said -> what is said."""
    text = (files("plainloop.eject") / "parts" / "explanations.yaml").read_text(encoding="utf-8")
    explanations: dict[str, dict[str, str]] = yaml.safe_load(text)
    return explanations
