"""Where a page's numbers come from: a JSON file next to the pages, and the field in it.

A number of speed, score, size or time has its source behind it, `0.758<!-- recorded/demo.json
metrics/saved/accuracy -->`; a table or a block of output has it on the line above,
`<!-- numbers: recorded/imbalance.json rows -->` (all numbers behind the first column, in order) or
`<!-- output: recorded/tutorial.json outputs/0 -->` (the text). `<!-- no source: REASON -->` above a
table says why it has none. A number is compared as it is shown: to its decimals, in per cent where a
per cent sign follows.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
SHOWN = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?: ?%)?"
NUMBER = re.compile(rf"(?<![\w.]){SHOWN}(?![\w]*\d)")
SOURCED = re.compile(rf"({SHOWN})(<!-- ([\w./-]+\.json) (\S+) -->)")
NUMBERS = re.compile(r"(<!-- numbers: (\S+) (\S+) -->\n\n?)((?:\|.*\n)+)")
OUTPUT = re.compile(r"(<!-- output: (\S+) (\S+) -->\n)(?:```text\n.*?```\n)?", re.DOTALL)
TABLE = re.compile(r"(?:^(<!-- .* -->)\n\n?)?((?:^\|.*\n){3,})", re.MULTILINE)
CAPTION = re.compile(r"^\*[^*\n].*\*$", re.MULTILINE)
MEASURED = re.compile(
    r"(?<![\w.])\d[\d,]*(?:\.\d+| ?%| (?:ms|s|min|minutes|seconds|hours|MB|GB|times|samples/s)\b)"
)


def load(name: str) -> Any:
    """A source; performance.json with the ratios that its page shows."""
    content = json.loads((DOCS / name).read_text(encoding="utf-8"))
    if name == "performance.json":
        content["ratios"] = ratios(content["entries"])
    return content


def ratios(entries: dict[str, Any]) -> dict[str, Any]:
    """How many times each other side's samples/s plainloop has, by row, with the least and the most."""
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    from speed.figures import speed_ratio
    from speed.sides import AUTO

    rows = {name.partition("/")[2]: row for name, row in entries.items() if name[:6] == "train/"}
    sides = [side for side in next(iter(rows.values()))["sides"] if side != AUTO]
    by_side = {
        side: {name: speed_ratio(row, AUTO, side) for name, row in rows.items()} for side in sides
    }
    found = {
        side: {**of, "least": min(of.values()), "most": max(of.values())}
        for side, of in by_side.items()
    }
    return {name.replace(" ", "-"): of for name, of in found.items()}


def field(name: str, path: str) -> Any:
    """A value by the keys that lead to it: metrics/saved/accuracy."""
    value = load(name)
    for key in path.split("/"):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def flat(value: Any) -> Iterator[float]:
    """The numbers of nested lists and objects, in order."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from flat(inner)
    elif isinstance(value, int | float):
        yield value


def shown_as(shown: str, value: float) -> str:
    """A value in the form of a number on a page."""
    digits = shown.rstrip(" %")
    if "e" in digits:
        return f"{value:.{len(digits.partition('e')[0].partition('.')[2])}e}"
    percent = shown[len(digits) :]
    sign = "+" if shown[:1] in "+-" else ""  # both are shown, or none: -0.018 to +0.050
    comma = "," if "," in digits else ""
    decimals = len(digits.partition(".")[2])
    return f"{100 * value if percent else value:{sign}{comma}.{decimals}f}{percent}"


def renewed_table(table: str, values: list[float]) -> str:
    """A table with these values for the numbers behind its first column.

    Raises:
        ValueError: it has more or fewer numbers.
    """
    head, rule, *rows = table.splitlines(keepends=True)
    cells = [row.split("|", 2) for row in rows]
    if sum(len(NUMBER.findall(behind)) for *_, behind in cells) != len(values):
        raise ValueError(f"{len(values)} numbers for this table: {table}")
    left = iter(values)
    lines = [
        "|".join([start, first, NUMBER.sub(lambda number: shown_as(number[0], next(left)), behind)])
        for start, first, behind in cells
    ]
    return "".join([head, rule, *lines])


def renewed(page: str) -> str:
    """A page with its numbers as their sources have them now."""
    page = SOURCED.sub(lambda n: shown_as(n[1], field(n[3], n[4])) + n[2], page)
    page = NUMBERS.sub(lambda t: t[1] + renewed_table(t[4], [*flat(field(t[2], t[3]))]), page)
    return OUTPUT.sub(lambda output: output[1] + fenced(field(output[2], output[3])), page)


def fenced(text: str) -> str:
    """A text as a block of a page; of nothing there is none."""
    return f"```text\n{text.rstrip()}\n```\n" if text else ""


def without_source(page: str) -> list[str]:
    """Numbers of speed, score, size or time in tables and captions that name no source."""
    # Written by a benchmark, and compared with its results by tests/benchmarks/test_speed_page.py.
    page = re.sub(r"<!-- (figures|details) -->.*?<!-- /\1 -->", "", page, flags=re.DOTALL)
    page = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    texts = [
        rows.partition("\n")[2]
        for mark, rows in TABLE.findall(page)
        if not mark.startswith(("<!-- numbers: ", "<!-- no source: "))
    ]
    texts += CAPTION.findall(page)
    return [
        number
        for text in texts
        for number in MEASURED.findall(SOURCED.sub("", re.sub(r"`[^`]*`", "", text)))
    ]
