"""Every block of the site is run: here, page by page, or by the test that the page names.

`<!-- not run: REASON -->` before a block exempts it, of which there may be few;
`<!-- run by: tests/FILE.py::test_name -->` names another test. What each page finds in its folder is
in samples.py; `<!-- starts without runs -->` in a page leaves its finished runs out.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import CODE, NO_CODE, TRANSLATIONS, Block, blocks_of
from conftest import ROOT, python
from samples import write_samples

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN_HERE = {
    block.page for block in BLOCKS if block.language in CODE and not (block.not_run or block.run_by)
}.difference(TRANSLATIONS)  # their blocks are the English page's: test_translations.py
RUN_IN_CI = [
    *(ROOT / "docs" / name for name in ("tutorial.md", "your-data.md")),
    ROOT / "docs" / "how-to" / "change-the-loop.md",
]
MOST_NOT_RUN = 0.05
# Of a command that another test runs: these say what it is about. Where its rows come from, and
# where it writes, is that test's own.
ELSEWHERE = {"--task", "--data-dir", "--model", "--output-dir", "--train-file", "--script"}
SCRIPTS = re.compile(r"[\w-]+\.py\b")
SUBCOMMANDS = re.compile(r"(?:plainloop|accelerate|-m) ([a-z]+)")
FLAGS = re.compile(r"(?<= )--[a-z][\w-]*")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_block_has_a_language():
    known = CODE | NO_CODE
    assert [str(block) for block in BLOCKS if block.language not in known] == []
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), page


def test_every_block_is_run_but_for_a_few_that_say_why():
    code = [block for block in BLOCKS if block.is_code]
    not_run = [f"{block}: {block.not_run}" for block in code if block.not_run]
    shown = [
        str(block)
        for block in code
        if block.language not in CODE and not (block.run_by or block.not_run)
    ]
    assert shown == [], "what a command printed is no code here: name the test that runs it"
    print(f"{len(not_run)} of {len(code)} blocks are not run:", *not_run, sep="\n  ")
    assert len(not_run) <= MOST_NOT_RUN * len(code), not_run


def recipe_of(target: str) -> str:
    """What `make TARGET` runs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None, f"make {target}"
    return recipe[1]


def distinguishing_words(block: Block) -> set[str]:
    """The scripts, subcommands and flags of a block's commands; what Python calls."""
    if block.language == "python":
        return set(re.findall(r"(\w+)\(", block.content))
    lines = block.content.replace("\\\n", " ").splitlines()
    if block.language not in CODE:
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    commands = "\n".join(line.partition(" #")[0] for line in lines)
    commands = re.sub(r"^make (\w+)", lambda made: recipe_of(made[1]), commands, flags=re.MULTILINE)
    flags = set(FLAGS.findall(commands)) - ELSEWHERE
    return {*SCRIPTS.findall(commands), *SUBCOMMANDS.findall(commands), *flags}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.run_by], ids=str)
def test_a_block_that_another_test_runs_is_there_with_its_words(block):
    path, _, test = block.run_by.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    nodes = [*ast.walk(ast.parse(source))]
    assert test in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    places = ((ROOT / path).parent, ROOT / "examples", ROOT / "benchmarks")
    beside = [place / f"{name}.py" for name in imported for place in places]
    beside += [ROOT / "notebooks" / name for name in re.findall(r"[\w-]+\.ipynb", source)]
    beside += [ROOT / path for path in re.findall(r"src/plainloop/[\w/]+\.py", source)]
    source += "".join(path.read_text(encoding="utf-8") for path in beside if path.exists())
    words = distinguishing_words(block)
    assert words
    dashed = source.replace("_", "-")
    plain = [word.strip("-").removesuffix(".py").replace("_", "-") for word in words]
    missing = [word for word in plain if word not in dashed]
    assert missing == []


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder


@pytest.fixture
def folder(samples, tmp_path):
    """A folder of its own, since a page may change what it finds; gone after it, with its models."""
    folder = tmp_path / "page"
    shutil.copytree(samples, folder)
    for name in ("train.py", "examples"):
        (folder / name).symlink_to(ROOT / name)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.nightly] * (page not in RUN_IN_CI))
        for page in sorted(RUN_HERE)
    ],
    ids=name_of,
)
def test_a_pages_blocks_run_from_top_to_bottom(page, folder):
    if "<!-- starts without runs -->" in page.read_text(encoding="utf-8"):
        shutil.rmtree(folder / "runs")
    program = Path(__file__).parent / "run_page.py"
    finished = subprocess.run(
        [python(), program, page],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(python()).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MPLBACKEND": "agg",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stdout
