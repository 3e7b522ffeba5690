"""Wheel and sdist: the same content, and a fresh environment that has nothing else runs the demo."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from bag_of_words import best_accuracy
from conftest import ROOT
from test_demo import GAIN_IN_POINTS

from plainloop import __version__

pytestmark = pytest.mark.slow

ADDRESS = "git+https://example.org/plainloop.git"
DATA = [
    *(
        "py.typed",
        "__init__.pyi",
        "data/samples/train.tsv",
        "data/samples/reviews.csv",
        "eject/explanations.yaml",
        "eject/full_script.py",
    ),
    *("report/page.html.jinja", "report/page.css", "report/page.js", "report/seeds.html.jinja"),
]


def run(*words, cwd, **environment):
    finished = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        # Nothing of the checkout: no PYTHONPATH, no setting of these tests.
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with what `python -m build` and `python -m build --wheel` make of the checkout."""
    listed = run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT
    ).split("\0")
    copy = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    folder = tmp_path_factory.mktemp("dist")
    # Without --wheel, the wheel is built from the sdist.
    run(sys.executable, "-m", "build", "--outdir", folder / "from-sdist", cwd=copy)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "direct", cwd=copy)
    return folder


def wheel_in(folder):
    (wheel,) = folder.glob("*.whl")
    return wheel


def content_of(wheel):
    """The SHA-256 of each file but the list of them."""
    with zipfile.ZipFile(wheel) as files:
        return {
            name: hashlib.sha256(files.read(name)).hexdigest()
            for name in files.namelist()
            if not name.endswith("/RECORD")
        }


@pytest.mark.nightly
def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(built):
    content = content_of(wheel_in(built / "direct"))
    assert content_of(wheel_in(built / "from-sdist")) == content


def test_the_wheel_has_the_package_with_its_data_and_nothing_else(built):
    content = content_of(wheel_in(built / "direct"))
    missing = [name for name in DATA if f"plainloop/{name}" not in content]
    assert missing == []
    package = ROOT / "src" / "plainloop"
    wanted = {
        f"plainloop/{path.relative_to(package)}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in content if ".dist-info/" not in name} == wanted


def test_the_sdist_has_what_a_build_needs(built):
    (sdist,) = (built / "from-sdist").glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/plainloop/training/loop.py"} <= names


def test_each_way_of_the_readme_installs_the_package(built, tmp_path):
    """pip install with constraints.txt, from git, from the wheel that make dist writes.

    Without the dependencies, which each way takes from the index. The address is this checkout's.
    """
    (block,) = (
        block
        for block in re.findall(
            r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
        )
        if "make demo" in block
    )
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
    pips = [line for line in lines if line.startswith("pip install")]
    assert len(pips) == 3
    checkout = tmp_path / "checkout"
    run("git", "clone", "--quiet", ROOT, checkout, cwd=tmp_path)
    shutil.copytree(built / "direct", checkout / "dist")
    for number, line in enumerate(pips):
        # pip's NAME @ URL must have a host, which a folder has not.
        of_here = line.replace("[demo,report]", "").replace("plainloop @ ", "")
        of_here = of_here.replace(ADDRESS, f"git+file://{checkout}")
        words = shlex.split(of_here.removeprefix("pip install "))
        target = tmp_path / f"target-{number}"
        options = ["--no-deps", "--no-build-isolation", "--quiet", "--target", target]
        run(sys.executable, "-m", "pip", "install", *options, *words, cwd=checkout)
        samples = target / "plainloop" / "data" / "samples"
        assert {path.name for path in samples.glob("*.csv")} == {"reviews.csv", "new.csv"}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The programs of a fresh environment with the wheel and its extra demo, as a user installs it."""
    place = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "venv", cwd=place)
    programs = place / "venv" / "bin"
    wheel = f"{wheel_in(built / 'from-sdist')}[demo]"
    constraints = ["--constraint", ROOT / "constraints.txt"]
    run(programs / "pip", "install", "--no-compile", *constraints, wheel, cwd=place)
    return programs


@pytest.mark.nightly
def test_a_fresh_environment_tells_its_version_from_outside_of_the_checkout(installed, tmp_path):
    assert run(installed / "plainloop", "--version", cwd=tmp_path).strip() == __version__
    where = "import plainloop; print(plainloop.__file__)"
    imported = run(installed / "python", "-c", where, cwd=tmp_path).strip()
    assert Path(imported).is_relative_to(installed.parent)


@pytest.mark.nightly
def test_a_fresh_environment_runs_the_demo(installed, tmp_path):
    # One thread: threads wait for each other where other programs run beside them.
    said = run(installed / "plainloop", "demo", cwd=tmp_path, OMP_NUM_THREADS="1")
    # The report's plots are an extra, which this environment does not have.
    assert "pip install matplotlib" in said
    metrics = json.loads((tmp_path / "runs/demo/metrics.json").read_text(encoding="utf-8"))
    # Over three seeds: test_demo.py.
    assert 100 * (metrics["saved"]["accuracy"] - best_accuracy()) >= GAIN_IN_POINTS
    assert (tmp_path / "runs/demo/model.safetensors").exists()
    assert (tmp_path / "runs/demo/README.md").exists()
