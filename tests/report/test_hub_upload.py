"""A run's way to the hub: a server on this machine speaks the part of the Hub's HTTP API in use."""

import re

import pytest
import yaml

from plainloop.metrics.decision_rule import DECISION_FILE

SECRETS = ("predictions", "report.html", "history", "checkpoints", ".lock", "metrics")
MADE = ("run.yaml", "manifest.json")  # not as they are in the run's folder


@pytest.fixture
def words(tiny_model, tiny_data):
    short = ["--max-steps", "1", "--output-dir", "run", "--push-to-hub"]
    paths = ["--model", tiny_model, "--data-dir", tiny_data]
    return [str(word) for word in ["-m", "plainloop", "train", "--task", "demo", *paths, *short]]


@pytest.fixture
def train(words, hub_environment, run_command):
    """Run a short training that uploads, with more words and another environment."""

    def train(*more, expect=0, **changed):
        kept = [word for word in words if f"--no-{word[2:]}" not in more]
        return run_command(*kept, *more, expect=expect, **(hub_environment | changed))

    return train


@pytest.mark.slow
def test_model_tokenizer_and_card_are_uploaded_and_nothing_that_holds_the_data(
    train, hub, tmp_path
):
    finished = train("--hub-private-repo", "--calibrate")
    assert finished.stderr == ""
    assert f"Uploaded       {hub.address}/someone/run" in finished.stdout
    [created] = hub.created
    assert created["name"] == "run"
    assert created.get("visibility") == "private" or created.get("private") is True
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} | {
        DECISION_FILE
    } <= hub.files.keys()
    assert [name for name in hub.files if name.startswith(SECRETS)] == []
    assert not any("/" in name for name in hub.files), "no .eval_results: the rows are from files"
    for name in hub.files.keys() - {*MADE}:
        assert hub.files[name] == (tmp_path / "run" / name).read_bytes()
    settings = yaml.safe_load(hub.files["run.yaml"])
    assert settings["task"] == "demo"
    assert not any("/" in str(value) for value in settings.values()), "no path of this machine"
    rows = (tmp_path / "run" / "report.html").read_bytes()
    assert b"The nurse" in rows or b"The cat" in rows
    texts = hub.files["README.md"] + hub.files["config.json"]
    named = re.findall(rb"[\w.-]+\.(?:json|jsonl|yaml|html|parquet|safetensors)\b", texts)
    assert b"decision_rule.json" in named
    assert {name.decode() for name in named} <= hub.files.keys(), "the card names what is there"
    assert b"The nurse" not in texts
    assert b"The cat" not in texts
    assert (tmp_path / "run" / "run.yaml").read_text("utf-8").count("hub") == 0


@pytest.mark.nightly
def test_a_failed_upload_leaves_the_run_whole_and_says_how_to_repeat_it(train, hub, tmp_path):
    hub.fails, hub.name = True, "other/name"
    finished = train("--hub-model-id", "other/name", expect=4)
    [said] = finished.stderr.splitlines()
    assert said.startswith("error: --push-to-hub other/name: not uploaded: ")
    assert said.endswith("the run is complete; to upload again: the same command with --resume")
    assert (tmp_path / "run" / "README.md").exists()
    assert hub.files == {}
    hub.fails = False
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert "Uploaded" in train("--hub-model-id", "other/name", "--resume").stdout
    assert hub.files["model.safetensors"] == weights


def test_an_upload_replaces_the_run_that_was_there(upload, hub):
    upload(calibrate=True)
    assert DECISION_FILE in hub.files
    hub.files["notes.md"] = b"of a person"
    upload()
    assert DECISION_FILE not in hub.files
    assert hub.files["notes.md"] == b"of a person"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "more", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, [], "--push-to-hub: HF_HUB_OFFLINE is set; "),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, [], "--push-to-hub: the hub cannot be reached: "),
        ({"HF_TOKEN": None}, [], "--push-to-hub: no token for the hub; hf auth login"),
        ({"HF_TOKEN": "hf_wrong"}, [], "--push-to-hub: the hub does not say who uploads: "),
        ({}, ["--hub-model-id", "a/b/c"], "--hub-model-id: no name on the hub: "),
        ({}, ["--seeds", "2"], "--push-to-hub: uploads one run, and not several seeds; "),
        ({}, ["--no-push-to-hub", "--hub-model-id", "a"], "--hub-model-id: nothing is uploaded; "),
    ],
)
def test_what_cannot_be_uploaded_is_a_line_before_the_training(
    train, changed, more, said, tmp_path
):
    finished = train(*more, expect=2, **changed)
    [line] = finished.stderr.splitlines()
    assert line.startswith(f"error: {said}")
    assert list(tmp_path.iterdir()) == []
