"""Put plainloop's own functions and classes into a script, in place of the imports that name them."""

import ast
import inspect
import re
from importlib import import_module

OF_CHECKERS = re.compile(r"  # (type: ignore|noqa)\S*")


def inline(source: str) -> str:
    """Replace each `from plainloop.x import f` of a script by the source of f, and of what f uses there.

    Args:
        source: a script, which itself imports what f needs of other packages.
    """
    lines, tree = source.splitlines(), ast.parse(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in reversed(tree.body):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("plainloop."):
            names = {alias.name for alias in node.names} & used
            lines[node.lineno - 1 : node.end_lineno] = _definitions(str(node.module), names)
    return "\n".join(lines) + "\n"


def _definitions(module: str, names: set[str]) -> list[str]:
    """Return the lines that define some names of a module, in the module's order."""
    source = inspect.getsource(import_module(module))
    known = {defined_by(node): node for node in ast.parse(source).body}
    while True:
        nodes = [ast.walk(known[name]) for name in names]
        used = {node.id for walk in nodes for node in walk if isinstance(node, ast.Name)}
        if names == (names := names | used & known.keys()):
            break
    texts = [ast.get_source_segment(source, node) or "" for n, node in known.items() if n in names]
    return OF_CHECKERS.sub("", "\n\n\n".join(texts)).splitlines()


def defined_by(node: ast.stmt) -> str:
    """Return the name of the function, class or constant that a statement defines, or an empty string."""
    return node.name if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else constant_of(node)


def constant_of(node: ast.stmt) -> str:
    """Return the name of the constant that a statement defines, or an empty string."""
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        name = ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
        return name if name.isupper() else ""
    return ""
