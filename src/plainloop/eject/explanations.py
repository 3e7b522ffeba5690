"""`--explain`: annotate each part of a script with what transformers.Trainer does there."""

import textwrap
from dataclasses import replace
from importlib.resources import files

import yaml

from plainloop.eject.script import Script

MARK = "#| "
"""Prefix of an explanation line; removing these lines gives the plain script."""
WIDTH = 96  # characters per line, without the mark


def explain_parts(script: Script) -> str:
    """Return the source with an explanation above each part, as comments; it still runs."""
    explanations = read_explanations()
    parts = {}
    for name, source in script.parts.items():
        said = [text for held, text in explanations.get(name, {}).items() if held in source]
        lines = [line for text in said for line in textwrap.wrap(f"Trainer: {text}", WIDTH)]
        parts[name] = "".join(f"{MARK}{line}\n" for line in lines) + source
    return replace(script, parts=parts).source


def read_explanations() -> dict[str, dict[str, str]]:
    """Read part name -> code that the part must contain -> explanation."""
    text = (files("plainloop.eject") / "explanations.yaml").read_text(encoding="utf-8")
    explanations: dict[str, dict[str, str]] = yaml.safe_load(text)
    return explanations
