"""Python literals of values, formatted as ruff would format them."""

import unicodedata
from typing import Any

LINE_LENGTH = 100
_INDENT = "    "


def literal(value: Any) -> str:
    """Format a string, number, flat list or flat dictionary as one line of Python.

    Strings are in double quotes, or in single quotes if that needs fewer escapes.
    """
    if isinstance(value, dict):
        items = (f"{literal(key)}: {literal(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        # repr and not json.dumps, which writes characters beyond 16 bits as two surrogates. The
        # leading double quote makes repr choose single quotes, so that no " is escaped.
        body = repr(f'"{value}')[2:-1].replace("\\'", "'")
        if body.count('"') > body.count("'"):
            return "'" + body.replace("'", "\\'") + "'"
        return '"' + body.replace('"', '\\"') + '"'
    return repr(value).replace("e+", "e")


def constant(name: str, value: Any, comment: str = "") -> str:
    """Format a constant as `NAME = value  # comment`, on several lines if one is too long."""
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
    """Display width of a line as ruff counts it: 2 columns for a wide (such as Chinese) character."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)
