"""Convert the parts of a script into a Jupyter notebook."""

import json
from collections.abc import Mapping
from typing import Any


def to_notebook(title: str, parts: Mapping[str, str]) -> str:
    """Return a notebook as JSON (nbformat 4.5): a Markdown and a code cell for each part.

    Args:
        title: Markdown text of the first cell.
        parts: part name -> source; its leading comment becomes the Markdown cell.
    """
    cells = [_cell("markdown", title, "title")]
    for name, source in parts.items():
        lines = source.rstrip("\n").split("\n")
        count = next(n for n, line in enumerate(lines) if not line.startswith("# "))
        if count:
            text = " ".join(line.removeprefix("# ") for line in lines[:count])
            cells.append(_cell("markdown", text, f"about-{name}"))
        cells.append(_cell("code", "\n".join(lines[count:]).strip("\n"), name))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, text: str, name: str) -> dict[str, Any]:
    cell = {"cell_type": kind, "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})
