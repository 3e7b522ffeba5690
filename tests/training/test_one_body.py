"""train.py's main and fine_tune() are one body: the same statements in the same order."""

import ast

from conftest import ROOT

# What fine_tune() does besides; train.py does nothing that fine_tune() does not.
ONLY_IN_FINE_TUNE = [
    "inputs = inputs or read_inputs(config, train_dataset, eval_dataset)",
    "stop = stop or StopRequest()",
    "check_schedule(config)",
    "if accelerator.is_main_process:",
    "intervals = metrics['analysis'].get(split, {}).get('intervals')",
    "if run.folder and (decision := load_decision(run.folder.path, task)):",
    "return",
]
ONLY_IN_TRAIN_PY = ["inputs = load_inputs(config)", "say = accelerator.on_main_process(print)"]


def statements(path: str, function: str) -> list[str]:
    """Each statement's first line, but for what only prints, docstrings and the prefix `pl.`."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8").replace("pl.", ""))
    body = next(
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function
    )
    found: list[str] = []

    def visit(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef):  # fine_tune's say()
                continue
            if isinstance(node, ast.Return):
                found.append("return")
                continue
            if isinstance(node, ast.Expr):
                printed = isinstance(node.value, ast.Call) and ast.unparse(node.value.func)
                if isinstance(node.value, ast.Constant) or printed in ("say", "console.emit"):
                    continue
            inner = getattr(node, "body", [])
            found.append(ast.unparse(node) if not inner else ast.unparse(node).splitlines()[0])
            visit(inner)

    visit(body.body)
    return found


def without(lines: list[str], exempt: list[str]) -> list[str]:
    """The lines that are left, in their order; each exemption is of one line, and is there."""
    left = list(lines)
    for line in reversed(exempt):  # from the end, where two are the same
        at = len(left) - 1 - left[::-1].index(line)
        del left[at]
    return left


def test_fine_tune_and_train_py_have_the_same_statements_in_the_same_order():
    script = without(statements("train.py", "main"), ONLY_IN_TRAIN_PY)
    function = statements("src/plainloop/training/fine_tune.py", "fine_tune")
    assert len(script) > 30
    assert without(function, ONLY_IN_FINE_TUNE) == script


def test_the_script_stays_short_and_does_not_call_fine_tune():
    source = (ROOT / "train.py").read_text(encoding="utf-8")
    assert "fine_tune" not in source
    assert len(source.splitlines()) <= 120
