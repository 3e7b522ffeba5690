"""Imports go one way between folders, no file can run foreign code, what starts at once is light."""

import ast
import pstats
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "src" / "plainloop"
SOURCES = sorted(HOUSE.rglob("*.py"))
# A folder imports only from itself and from those before it.
FOLDERS = (
    "errors",
    "atomic_file",
    "console",
    "config",
    "metrics",
    "data",
    "model",
    "run",
    "training",
    "predict",
    "eject",
    "report",
    "experiments",
    "cli",
)
LARGEST_FILE = 450  # lines: beyond it a file probably holds two concepts
FULL_SCRIPT, LARGEST_SCRIPT = HOUSE / "eject" / "full_script.py", 520  # what one file must hold


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(HOUSE).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_the_top_holds_the_listed_folders():
    special = {"__init__.py", "__init__.pyi", "__main__.py", "__pycache__", "py.typed"}
    top = {path.stem for path in HOUSE.iterdir() if path.name not in special}
    assert top == set(FOLDERS)
    assert len(top) <= 14


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_folder_imports_only_from_those_before_it(path):
    own = module_of(path).partition(".")[0]
    if own in ("__init__", "__main__"):
        return
    used = {
        name.split(".")[1]
        for name in imports_of(path)
        if name.startswith("plainloop.") and name != "plainloop.__version__"
    }
    assert used <= set(FOLDERS[: FOLDERS.index(own) + 1])


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_module_imports_the_trainer_or_reads_pickle(path):
    names = imports_of(path)
    samplers = (
        "transformers.trainer_pt_utils"  # a module of its own, which does not load the Trainer
    )
    of_trainer = [name for name in names if "transformers.trainer" in name.lower()]
    assert [name for name in of_trainer if not name.startswith(samplers)] == []
    assert "pickle" not in names
    text = path.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    called = {ast.unparse(call.func) for call in calls}
    assert not called & {"torch.load", "torch.save", "eval", "exec"}
    assert not any(keyword.arg == "shell" for call in calls for keyword in call.keywords)


def test_files_hold_one_concept():
    for path in SOURCES:
        largest = LARGEST_SCRIPT if path == FULL_SCRIPT else LARGEST_FILE
        assert len(path.read_text(encoding="utf-8").splitlines()) <= largest, path
    script = (ROOT / "train.py").read_text(encoding="utf-8").splitlines()
    assert len(script) <= 120


@pytest.mark.parametrize(
    ("command", "most_calls"),
    [(["-c", "import plainloop"], 5_000), (["-m", "plainloop", "--help"], 400_000)],
    ids=["import", "help"],
)
def test_what_starts_at_once_imports_nothing_heavy_and_computes_little(
    command, most_calls, tmp_path
):
    heavy = ("torch", "transformers", "accelerate", "datasets", "sklearn", "pyarrow", "numpy")
    probe = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in probe.stderr.splitlines()}
    assert not imported & set(heavy)
    # Calls and not seconds: these are the same however fast and busy the machine is.
    script = tmp_path / "script.py"
    script.write_text("import plainloop\n", encoding="utf-8")
    words = [str(script)] if command[0] == "-c" else command
    profile = [sys.executable, "-m", "cProfile", "-o", tmp_path / "profile", *words]
    subprocess.run(profile, capture_output=True, check=True)
    assert pstats.Stats(str(tmp_path / "profile")).total_calls < most_calls
