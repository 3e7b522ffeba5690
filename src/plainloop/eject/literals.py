"""Python literals of values, formatted as ruff would format them."""

import unicodedata
from typing import Any

LINE_LENGTH = 100
_INDENT = "    "


class Code(str):
    """An expression of Python, in place of a value."""

    __slots__ = ()


def literal(value: Any) -> str:
    """Format an expression, string, number, flat list or flat dictionary as one line of Python.

    Strings are in double quotes, or in single quotes if that needs fewer escapes.
    """
    if isinstance(value, dict):
        items = (f"{literal(key)}: {literal(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Code):
        return value
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
    if comment and width(f"{line}  # {comment}") <= LINE_LENGTH:
        return f"{line}  # {comment}"
    if width(line) > LINE_LENGTH:
        if isinstance(value, (dict, list, tuple)):
            line = f"{name} = {_on_lines(value, '')}"
        elif width(_INDENT + literal(value)) <= LINE_LENGTH:
            line = f"{name} = (\n{_INDENT}{literal(value)}\n)"
    return f"# {comment}\n{line}" if comment else line


def _on_lines(value: Any, indent: str) -> str:
    """Format a list or dictionary with an item a line, and an item that is too long likewise."""
    is_dict, inner = isinstance(value, dict), indent + _INDENT
    lines = []
    for key, item in value.items() if is_dict else enumerate(value):
        start = f"{inner}{literal(key)}: " if is_dict else inner
        line = f"{start}{literal(item)},"
        if width(line) > LINE_LENGTH and isinstance(item, (dict, list, tuple)):
            line = f"{start}{_on_lines(item, inner)},"
        lines.append(line)
    opening, closing = "{}" if is_dict else "[]"
    return "\n".join([opening, *lines, f"{indent}{closing}"])


def width(line: str) -> int:
    """Display width of a line as ruff counts it: 2 columns for a wide (such as Chinese) character."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)
