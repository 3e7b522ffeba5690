"""architectures.json: what was found; and the part of docs/architectures.md between the markers."""

import json
from pathlib import Path
from typing import Any

from architectures.checks import COLUMNS, YES
from architectures.tiny import ARCHITECTURES

BEGIN, END = "<!-- found -->\n", "<!-- /found -->"
BAD = ("WRONG", "TRACEBACK")
REFUSED = "refused: "


def read_results(path: Path) -> dict[str, Any]:
    """The results so far: versions, and architecture -> column -> what was found."""
    if not path.exists():
        return {"versions": {}, "architectures": {}}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write them in the order of `ARCHITECTURES`."""
    found = results["architectures"]
    ordered = {kind: found[kind] for kind in ARCHITECTURES if kind in found}
    text = json.dumps({**results, "architectures": ordered}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def write_page(path: Path, results: dict[str, Any]) -> None:
    """Put the results between the markers of the page."""
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(before + BEGIN + describe(results) + END + after, encoding="utf-8")


def describe(results: dict[str, Any]) -> str:
    """The sentences and the table, in Markdown; what is refused or wrong stands below it."""
    found: dict[str, dict[str, str]] = results["architectures"]
    outcomes = [text for columns in found.values() for text in columns.values()]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    trained = sum(columns["trains"] == YES for columns in found.values())
    summary = (
        f"With {versions}: of {len(ARCHITECTURES)} architectures {len(found)} were tried and {trained} "
        f"train. Tracebacks: {_count(outcomes, 'TRACEBACK')}. Wrong results: "
        f"{_count(outcomes, 'WRONG')}. Refused in one line: {_count(outcomes, REFUSED)}."
    )
    notes: dict[str, int] = {}
    lines = [
        "| " + " | ".join(("architecture", *COLUMNS)) + " |",
        "|" + "---|" * (len(COLUMNS) + 1),
        *(
            "| " + " | ".join((kind, *(_cell(columns.get(c, ""), notes) for c in COLUMNS))) + " |"
            for kind, columns in sorted(found.items())
        ),
    ]
    return "\n".join(
        [
            summary,
            "",
            *lines,
            "",
            *(f"{number}. {note}" for note, number in notes.items()),
            "",
        ]
    )


def _count(outcomes: list[str], start: str) -> int:
    return sum(text.startswith(start) for text in outcomes)


def _cell(text: str, notes: dict[str, int]) -> str:
    if text.startswith((REFUSED, *BAD)):
        number = notes.setdefault(text.replace("|", "/"), len(notes) + 1)
        return f"{'no' if text.startswith(REFUSED) else '**no**'} ({number})"
    return text or "-"
