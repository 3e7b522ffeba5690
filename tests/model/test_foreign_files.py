"""A stranger's model folder: only safetensors and JSON are read, no code runs, and errors are one line."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from plainloop.config.tasks import Task
from plainloop.errors import UserError
from plainloop.model.foreign_files import check_model_files
from plainloop.model.load import load_model
from plainloop.model.pretrained import resolve_model
from plainloop.model.tokenizer import load_tokenizer

TASK = Task("mine", ("text",), ("no", "yes"), ("accuracy",))
INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tiny_model, tmp_path):
    """A model folder of links, as in the hub's cache."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def change(folder, name, **values):
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(content | values), encoding="utf-8")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def index(*files):
    return {"metadata": {}, "weight_map": {f"weight.{n}": file for n, file in enumerate(files)}}


def to_pickle(folder, name, content=None):
    weights = folder / "model.safetensors"
    torch.save(load_file(weights) if content is None else content, folder / name)
    weights.unlink()


def test_links_to_safetensors_are_followed(model):
    check_model_files(model)
    assert load_model(str(model), TASK)


def test_shards_are_read(model):
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    (model / "elsewhere").mkdir()
    save_file(weights, model / "elsewhere" / "blob")
    (model / "model-1.safetensors").symlink_to(model / "elsewhere" / "blob")
    names = dict.fromkeys(weights, "model-1.safetensors")
    change(model, INDEX, metadata={}, weight_map=names)
    _, new = load_model(resolve_model(str(model)), TASK)
    assert new == ["classifier.bias", "classifier.weight"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pytorch_model.bin", {}),
        ("pytorch_model.bin", {INDEX: index("pytorch_model.bin")}),
        ("other.safetensors.bin", {INDEX: index("a.safetensors", "other.safetensors.bin")}),
        ("adapter_model.bin", {"config.json": {"transformers_weights": "adapter_model.bin"}}),
        (
            "x.pt",
            {
                "config.json": {"transformers_weights": "x.safetensors.index.json"},
                "x.safetensors.index.json": index("x.pt"),
            },
        ),
    ],
)
def test_pickle_is_never_opened_whatever_names_it(model, tmp_path, name, changes):
    to_pickle(model, name, Bomb(str(tmp_path / "ran")))
    for file, values in changes.items():
        change(model, file, **values)
    with pytest.raises(UserError, match=r"pickle, .*python -c \"import torch;") as caught:
        resolve_model(str(model))
    assert name in str(caught.value)
    with pytest.raises(UserError):  # also where nobody has looked before
        load_model(str(model), TASK)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("in_index", [False, True])
def test_the_command_converts_the_weights_to_the_last_bit(model, in_index):
    wanted = load_file(model / "model.safetensors")
    to_pickle(model, "pytorch_model.bin")
    if in_index:
        change(model, INDEX, **index("pytorch_model.bin"))
    with pytest.raises(UserError) as caught:
        resolve_model(str(model))
    command = caught.value.fix.partition(": ")[2]
    command = command.replace("python", sys.executable, 1)
    subprocess.run(["bash", "-c", command], cwd=model, check=True)
    assert resolve_model(str(model)) == str(model)
    found = load_file(model / "model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_torch_load_is_as_before_after_a_model_was_loaded(model, tmp_path):
    before = torch.load
    load_model(str(model), TASK)
    assert torch.load is before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_attn_implementation": "someone/kernel"}, "runs code from the hub"),
        ({"attn_implementation": "someone/kernel@main:f"}, "runs code from the hub"),
        ({"_attn_implementation": {"": "someone/kernel"}}, "runs code from the hub"),
        ({"text_config": {"_experts_implementation": "a/b"}}, "runs code from the hub"),
        ({"transformers_weights": 5}, "no safetensors file"),
        ({"transformers_weights": "../x.safetensors"}, r"\.\./x\.safetensors is missing"),
    ],
)
def test_settings_that_run_code_or_name_other_weights_are_refused(model, values, message):
    change(model, "config.json", **values)
    with pytest.raises(UserError, match=message):
        resolve_model(str(model))


@pytest.mark.parametrize("name", ["config.json", INDEX])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", "\0", "[" * 100_000, '{"a":' * 100_000]
)
def test_a_file_that_is_no_json_object_is_refused(model, name, text):
    if name == INDEX:
        (model / "model.safetensors").unlink()
    (model / name).unlink(missing_ok=True)
    (model / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"{name} cannot be read") as caught:
        resolve_model(str(model))
    assert "\n" not in str(caught.value)


def test_a_missing_shard_and_an_index_of_nothing_are_refused(model):
    (model / "model.safetensors").unlink()
    for content, message in (
        (index("a.safetensors"), "a.safetensors is missing"),
        ({}, "model.safetensors is missing"),
    ):
        (model / INDEX).write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            resolve_model(str(model))


@contextlib.contextmanager
def refused():
    with pytest.raises(UserError) as caught:
        yield
    assert "\n" not in str(caught.value)


@contextlib.contextmanager
def allowed_line():
    """Nothing is raised, or an error of one line."""
    with contextlib.suppress(UserError), refused():
        yield
        raise UserError("nothing was raised")


WRONG = {
    "config.json": [
        *("hidden_size", "hidden_act", "max_position_embeddings", "model_type", "dtype"),
        *("architectures", "id2label", "auto_map", "num_hidden_layers", "pad_token_id"),
        "quantization_config",
    ],
    "tokenizer_config.json": ["model_max_length", "pad_token", "tokenizer_class", "auto_map"],
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in WRONG for key in WRONG[name]])
@pytest.mark.parametrize("value", [None, "x", -1, [1], {"a": 1}], ids=str)
def test_a_wrong_type_is_a_line_or_loads(model, name, key, value):
    change(model, name, **{key: value})
    with allowed_line():
        load_tokenizer(resolve_model(str(model)))
        load_model(str(model), TASK)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "[" * 100_000])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_a_line(model, name, text):
    (model / name).unlink()
    (model / name).write_text(text, encoding="utf-8")
    with allowed_line() if (name, text) == ("tokenizer_config.json", "{}") else refused():
        load_tokenizer(str(model))


def test_a_tokenizer_without_its_vocabulary_is_refused(model):
    (model / "tokenizer.json").unlink()
    change(model, "tokenizer_config.json", tokenizer_class="BertTokenizer")
    with pytest.raises(UserError, match=r"its files are missing or another"):
        load_tokenizer(str(model))
