"""Reduce a script to what one run does. Works on the text, so that comments and layout stay."""

import ast
import re
from collections.abc import Mapping
from importlib.resources import files
from itertools import pairwise
from operator import eq, gt, is_not, ne
from typing import Any

from plainloop.eject.inline import constant_of, defined_by, inline
from plainloop.eject.literals import LINE_LENGTH, constant

FULL_SCRIPT = files("plainloop.eject") / "full_script.py"
INDENT = 4
DEFINITION = (ast.FunctionDef, ast.ClassDef)
OPERATIONS: dict[Any, Any] = {
    ast.Eq: eq,
    ast.NotEq: ne,
    ast.Gt: gt,
    ast.IsNot: is_not,
    ast.In: lambda a, b: a in b,
}
ONE_BATCH = {
    "for micro_batches in optimizer_steps(train_dataloader):": "for batch in train_dataloader:",
    "        (batch,) = micro_batches\n": "",
}
"""Lines of the full script -> those of a script that does not accumulate gradients."""


def render(settings: Mapping[str, Any]) -> dict[str, str]:
    """Reduce `full_script.py` to what a run does.

    Args:
        settings: constant of that script -> value in the run; constants that the script computes
            from others may be missing.

    Returns:
        Part, as a line `# %% NAME` begins it -> source.
    """
    source = FULL_SCRIPT.read_text(encoding="utf-8")
    settings = with_derived(source, settings)
    source = keep_branches(source, settings)
    if not settings["ACCUMULATES"]:
        for written, of_one_batch in ONE_BATCH.items():
            source = source.replace(written, of_one_batch)
    source = drop_unused(inline(fill_in(source, settings)))
    _, *parts = re.split(r"^# %% (\w+)\n", source, flags=re.MULTILINE)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {name: space(text) for name, text in pairs if text.strip()}


def with_derived(source: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Add the constants that a script computes from its settings."""
    known = dict(settings)
    for node in ast.parse(source).body:
        name, needed = constant_of(node), _names_in(node, ast.Load)
        is_derived = name not in {"", *known} and set() < needed <= known.keys()
        if isinstance(node, ast.Assign) and is_derived:
            known[name] = _value(node.value, known)
    return known


def keep_branches(source: str, settings: Mapping[str, Any]) -> str:
    """Decide the conditions that depend on settings alone, and keep the branch that is on.

    Args:
        source: a script. Such an `if`, `elif` or `x if y else z` has its condition on one line. An
            argument `**NAME`, which is left out if the setting is empty, is not the first on its line,
            or has one of its own.
        settings: name -> value.
    """
    given = source.splitlines()
    lines: list[str | None] = list(given)
    nodes = [
        (node, node.value if isinstance(node, ast.keyword) else node.test)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.If, ast.IfExp)) or (isinstance(node, ast.keyword) and not node.arg)
    ]
    # From the end, so that what is within a branch is decided before the branch.
    for node, condition in sorted(nodes, key=lambda pair: pair[0].lineno, reverse=True):
        if not _names_in(condition) <= settings.keys():
            continue
        is_on = bool(_value(condition, settings))
        at = node.lineno - 1
        if isinstance(node, ast.If):
            _keep_branch(node, given, lines, is_on=is_on)
        elif isinstance(node, ast.IfExp):
            kept = ast.get_source_segment(source, node.body if is_on else node.orelse)
            before, after = given[at][: node.col_offset], given[at][node.end_col_offset :]
            if re.search(r"\W\($", before) and after.startswith(")"):
                before, after = before[:-1], after[1:]
            lines[at] = f"{before}{kept}{after}"
        elif not is_on:
            argument = f", **{ast.unparse(condition)}"
            lines[at] = given[at].replace(argument, "") if argument in given[at] else None
    return "\n".join(line for line in lines if line is not None) + "\n"


def _keep_branch(node: ast.If, given: list[str], lines: list[str | None], *, is_on: bool) -> None:
    start, end = node.lineno - 1, node.end_lineno or 0
    header_of_else = re.compile(rf" {{{node.col_offset}}}(else:|elif )")
    body_end = end
    if node.orelse:
        candidates = range(start + 1, node.orelse[0].lineno)
        body_end = next(n for n in reversed(candidates) if header_of_else.match(given[n]))
    is_elif = body_end < end and given[body_end].lstrip().startswith("elif")
    kept = range(start + 1, body_end) if is_on else range(body_end + (not is_elif), end)
    for n in range(start, end):
        line = lines[n]
        if line is None or n not in kept:
            lines[n] = None
        elif is_on or not is_elif:
            lines[n] = line[INDENT:]
        elif n == body_end:
            lines[n] = line.replace("elif", "if", 1)


def fill_in(source: str, settings: Mapping[str, Any]) -> str:
    """Write the settings' values into the constants of a script; comments stay.

    A constant without a value is taken out: nothing that is left may use it.
    """
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if name := constant_of(node):
            comment = lines[node.lineno - 1].partition("  # ")[2]
            filled = [constant(name, settings[name], comment)] if name in settings else []
            lines[node.lineno - 1 : node.end_lineno] = filled
    return "\n".join(lines) + "\n"


def drop_unused(source: str) -> str:
    """Take out the imports, constants and top-level functions and classes that nothing in a script uses."""
    while True:
        tree, lines = ast.parse(source), source.splitlines()
        used = _names_in(tree, ast.Load)
        for node in reversed(tree.body):
            start = node.lineno - 1
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                kept = [alias for alias in node.names if (alias.asname or alias.name) in used]
                if kept != node.names:
                    node.names = kept
                    lines[start : node.end_lineno] = _import_lines(node) if kept else []
            elif defined_by(node) not in {"", *used}:
                if isinstance(node, DEFINITION):
                    while re.match("# (?!%%)", lines[start - 1]):  # the comment above it
                        start -= 1
                del lines[start : node.end_lineno]
        if source == (source := "\n".join(lines) + "\n"):
            return source


def _import_lines(node: ast.stmt) -> list[str]:
    line = ast.unparse(node)
    if len(line) <= LINE_LENGTH:
        return [line]
    module, _, names = line.partition(" import ")
    return [f"{module} import (", *(f"    {name}," for name in names.split(", ")), ")"]


def space(source: str) -> str:
    """Leave one blank line at most, and two around top-level functions."""
    lines = re.sub(r"\n{3,}", "\n\n", source.strip("\n")).splitlines()
    body = ast.parse("\n".join(lines)).body
    for node, following in reversed([*pairwise(body)]):
        if isinstance(node, DEFINITION) or isinstance(following, DEFINITION):
            lines.insert(node.end_lineno or 0, "")
    return "\n".join(lines) + "\n"


def _names_in(node: ast.AST, context: type[ast.expr_context] = ast.expr_context) -> set[str]:
    names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, context)}


def _value(node: ast.expr, settings: Mapping[str, Any]) -> Any:
    """Compute a condition of literals and settings, with comparisons, `not`, `and` and `or`."""
    match node:
        case ast.Name():
            return settings[node.id]
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, settings)
        case ast.BoolOp():
            values = [_value(value, settings) for value in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.Compare(ops=[operation], comparators=[right]):
            return OPERATIONS[type(operation)](_value(node.left, settings), _value(right, settings))
    return ast.literal_eval(node)
