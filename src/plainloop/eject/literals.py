"""Values as Python source, laid out as ruff's formatter would."""

import unicodedata
from typing import Any

LINE_LENGTH = 100
_INDENT = "    "


def literal(value: Any) -> str:
    """A text, number, or a flat list or dictionary of these, as one line of Python.

    Texts stand in double quotes, or in single ones where that needs fewer escapes.
    """
    if isinstance(value, dict):
        items = (f"{literal(key)}: {literal(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        # Python's way to escape, since JSON writes what is beyond 16 bits as two surrogates.
        body = repr(f'"{value}')[2:-1].replace("\\'", "'")
        if body.count('"') > body.count("'"):
            return "'" + body.replace("'", "\\'") + "'"
        return '"' + body.replace('"', '\\"') + '"'
    return repr(value).replace("e+", "e")


def constant(name: str, value: Any, comment: str = "") -> str:
    """The definition of a constant: `NAME = value  # comment`, or several lines where it is longer."""
    line = f"{name} = {literal(value)}"
    above = ""
    if comment:
        if width(f"{line}  # {comment}") <= LINE_LENGTH:
            return f"{line}  # {comment}"
        above = f"# {comment}\n"
    if width(line) <= LINE_LENGTH:
        return above + line
    if isinstance(value, dict):
        items = [f"{literal(key)}: {literal(item)}" for key, item in value.items()]
        return f"{above}{name} = {{\n" + "".join(f"{_INDENT}{item},\n" for item in items) + "}"
    if isinstance(value, (list, tuple)):
        items = list(map(literal, value))
        return f"{above}{name} = [\n" + "".join(f"{_INDENT}{item},\n" for item in items) + "]"
    if width(_INDENT + literal(value)) <= LINE_LENGTH:
        return f"{above}{name} = (\n{_INDENT}{literal(value)}\n)"
    return above + line


def width(line: str) -> int:
    """Columns of a line, as ruff counts them: two for a wide character, such as Chinese ones."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)
