"""A run that was uploaded is loaded from the hub by its name; here from a stand-in of it."""

import json

import pytest
from huggingface_hub import constants

from plainloop.predict.hub_run import find_run
from plainloop.predict.loaded_run import load_run

pytestmark = pytest.mark.slow

NAME = "someone/run"


@pytest.fixture
def uploaded(upload):
    """The folder of a run that was uploaded."""
    return upload(calibrate=True, max_length=32)


@pytest.fixture
def predict(run_command, hub_environment):
    """Predict one row with the run of a name."""

    def predict(name, *more, expect=0, **changed):
        words = ["-m", "plainloop", "predict", name, "--text", "a cat", "the dog", *more]
        return run_command(*words, expect=expect, **(hub_environment | changed))

    return predict


def test_it_predicts_as_the_local_run_and_is_not_downloaded_twice(
    uploaded, predict, hub, hub_environment, monkeypatch
):
    hub.files |= {"model.bin": b"x", "tokenizer/x.json": b"{}", "modeling.py": b"x"}
    expected = predict(uploaded)
    found = predict(NAME)
    assert found.stdout == expected.stdout
    first, *rest = found.stderr.splitlines()
    assert first == f"Run            {NAME} on the hub, commit 1111111"
    assert rest == expected.stderr.splitlines()
    asked = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert {"run.yaml", "model.safetensors", "manifest.json", "decision_rule.json"} <= asked
    assert asked <= {*hub.files} - {"README.md", "model.bin", "x.json", "modeling.py"}
    # Offline, and from Python, it is that of the cache.
    again = predict(NAME, HF_HUB_OFFLINE="1")
    assert (again.stdout, again.stderr) == (found.stdout, found.stderr)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{hub_environment['HF_HOME']}/hub")
    assert load_run(NAME).predict([("a cat", "the dog")])


def test_a_local_folder_of_the_name_comes_first(uploaded, predict, hub, tmp_path):
    hub.asked.clear()
    (tmp_path / "someone").mkdir()
    [line] = predict(NAME, expect=2).stderr.splitlines()
    assert line.startswith(f"error: {NAME}: no such folder; ")
    (tmp_path / "someone" / "run").symlink_to(uploaded)
    assert "on the hub" not in predict(NAME).stderr
    assert hub.asked == []


def test_a_file_that_is_not_as_it_was_uploaded_is_refused(uploaded, predict, hub):
    hub.files["config.json"] = hub.files["config.json"].replace(b"paraphrase", b"Paraphrase")
    [_, line] = predict(NAME, expect=3).stderr.splitlines()
    assert "config.json: SHA-256 differs" in line


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("someone/else", {}, "no such model on the hub; check"),
        (NAME, {}, "not a run: the hub's model has no run.yaml"),
        (NAME, {"HF_HUB_OFFLINE": "1"}, "the hub cannot be reached"),
        (NAME, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub cannot be reached"),
    ],
    ids=["no such repository", "no run", "offline", "unreachable"],
)
def test_what_cannot_be_downloaded_is_one_line(predict, hub, name, changed, said):
    hub.name = name
    hub.files["model.safetensors"] = b"x"
    [line] = predict(NAME, expect=2, **changed).stderr.splitlines()
    assert line.startswith(f"error: {NAME}: ")
    assert said in line
    assert not any("safetensors" in path for path in hub.asked)


def test_pickled_weights_are_refused_although_the_manifest_has_them(uploaded, predict, hub):
    weights = hub.files.pop("model.safetensors")
    hub.files["pytorch_model.bin"] = weights
    manifest = json.loads(hub.files["manifest.json"])
    del manifest["files"]["model.safetensors"]
    hub.files["manifest.json"] = json.dumps(manifest).encode()
    predict(NAME, expect=2)
    assert not any(path.endswith(".bin") for path in hub.asked)


def test_only_two_words_with_a_slash_are_a_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("run", "./run", "/nowhere/run", "../run", "a/b/c"):
        assert str(find_run(path)) == path.removeprefix("./")
