"""A finished run's manifest: no command uses a file that is not the one that was trained."""

import contextlib
import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
from tiny import run_tiny

from plainloop.cli.app import app
from plainloop.cli.flags import run_app
from plainloop.errors import CheckpointError, PlainloopError, UserError
from plainloop.predict.loaded_run import load_run
from plainloop.run import manifest

FAILPOINTS = Path(__file__).parent.parent / "crash" / "failpoints.py"
LISTED = {
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("run.yaml", "history.jsonl", "metrics.json", "decision_rule.json"),
    *("predictions/validation.parquet", "predictions/test.parquet"),
}
COMMANDS = {
    "predict": ("predict", "run", "--file", "rows.tsv", "--output", "out.csv"),
    "evaluate": ("evaluate", "run", "--output", "out.json"),
    "compare": ("compare", "run", "other", "--output", "out.json"),
    "report": ("report", "run"),
    "eject": ("eject", "run", "-o", "train.py"),
}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


CHANGES = {
    "one bit": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "another run's": lambda path: path.write_bytes(path.read_bytes().swapcase()),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.fixture(scope="module")
def made(tiny_model, tiny_data, tmp_path_factory):
    """A run with every kind of file."""
    return run_tiny(
        tmp_path_factory.mktemp("made") / "run",
        data_dir=tiny_data,
        model=str(tiny_model),
        max_steps=2,
        calibrate=True,
        save_strategy="no",
        test_file=(str(tiny_data / "test.tsv"),),
    ).folder


@pytest.fixture
def copy(made, tiny_data, tmp_path, monkeypatch):
    """A copy of it, beside another and rows to predict, in the current folder."""
    shutil.copytree(made, tmp_path / "run")
    shutil.copytree(made, tmp_path / "other")
    rows = (tiny_data / "test.tsv").read_text(encoding="utf-8").splitlines()
    unlabelled = [line.rpartition("\t")[0] for line in rows]
    (tmp_path / "rows.tsv").write_text("\n".join(unlabelled) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def content(folder):
    return {
        path.relative_to(folder): path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def test_the_manifest_lists_every_file_that_is_read(made):
    assert (
        json.loads((made / "manifest.json").read_text(encoding="utf-8"))["files"].keys() == LISTED
    )


@pytest.mark.parametrize(
    "commands",
    [[*COMMANDS], *(pytest.param([name], marks=pytest.mark.nightly) for name in COMMANDS)],
)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_refused_by_name(copy, commands, change):
    """By each command in turn, at night each file by each command; before anything is written."""
    for name, command in zip(sorted(LISTED), itertools.cycle(commands), strict=False):
        backup = (copy / name).read_bytes()
        CHANGES[change](copy / name)
        before = content(copy.parent)
        with pytest.raises(CheckpointError, match=f"{name}: ") as caught:
            run_app(app, [*COMMANDS[command]])
        assert caught.value.exit_code == 3
        assert "\n" not in str(caught.value)
        assert content(copy.parent) == before
        shutil.rmtree(copy / name) if change == "a folder" else (copy / name).unlink(
            missing_ok=True
        )
        (copy / name).write_bytes(backup)
    for command in commands:
        use(command)


def use(command, *words):
    """Run a command that succeeds, but for eject, which has no calibrated run."""
    refused = pytest.raises(UserError, match="--calibrate: is not ejected")
    with refused if command == "eject" else contextlib.nullcontext():
        run_app(app, [*COMMANDS[command], *words])


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "vocab.txt", "decision.json", "predictions/train.parquet"]
)
def test_a_file_that_the_training_did_not_write_is_refused(copy, name):
    (copy / name).write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{name}: not in manifest.json"):
        load_run(copy)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", "[" * 100_000),
        *('{"files": {}}', '{"files": {"run.yaml": {"bytes": "x"}}}'),
    ],
)
def test_a_damaged_manifest_is_refused(copy, text):
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"manifest\.json: "):
        load_run(copy)


def test_a_manifest_names_no_file_outside_of_its_run(copy):
    path = copy / "manifest.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    listed["files"]["../other/run.yaml"] = listed["files"]["run.yaml"]
    path.write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"\.\./other/run\.yaml: missing"):
        load_run(copy)


def test_a_link_to_the_same_file_is_the_same_file(copy):
    (copy / "model.safetensors").rename(copy.parent / "elsewhere")
    (copy / "model.safetensors").symlink_to(copy.parent / "elsewhere")
    assert load_run(copy).predict([("a cat", "a dog")])


def test_a_run_without_a_manifest_is_used_with_one_warning(copy, caplog):
    wanted = load_run(copy).predict([("a cat", "a dog")])
    assert caplog.messages == []
    (copy / "manifest.json").unlink()
    assert load_run(copy).predict([("a cat", "a dog")]) == wanted
    [message] = caplog.messages
    assert "no manifest.json to verify its files by" in message


def test_a_change_on_purpose_is_accepted_with_a_warning(copy, caplog):
    rule = copy / "decision_rule.json"
    rule.write_text('{"version": 1, "temperature": 5, "thresholds": null}', encoding="utf-8")
    use("predict", "--accept-changed-files")
    [message] = caplog.messages
    assert "accepted: decision_rule.json: " in message
    assert load_run(copy, accept_changed_files=True).decision.temperature == 5
    for name in ("evaluate", "compare", "report", "eject"):
        caplog.clear()
        use(name, "--accept-changed-files")
        assert caplog.messages == [message], name


@pytest.mark.parametrize("large", [100, manifest.LARGE])
def test_a_training_does_not_start_from_weights_that_were_changed(copy, monkeypatch, large):
    monkeypatch.setattr(manifest, "LARGE", large)
    flip(copy / "model.safetensors")
    before = content(copy.parent)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: SHA-256 differs"):
        run_app(app, ["train", "--task", "demo", "--model", "run", "--output-dir", "new"])
    assert content(copy.parent) == before


def test_large_files_are_compared_in_a_thread_before_they_are_used(copy, monkeypatch, caplog):
    monkeypatch.setattr(manifest, "LARGE", 100)
    assert load_run(copy).predict([("a cat", "a dog")])
    flip(copy / "model.safetensors")
    opened = load_run(copy)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: SHA-256 differs"):
        opened.predict([("a cat", "a dog")])
    for words in COMMANDS.values():
        with pytest.raises(CheckpointError, match=r"model\.safetensors: SHA-256 differs"):
            run_app(app, [*words])
    assert caplog.records == []


def test_a_folder_of_something_else_is_no_run(made, tmp_path):
    (tmp_path / "manifest.json").write_text('{"files": {"a.js": "x"}, "name": "page"}', "utf-8")
    with pytest.raises(PlainloopError, match="not a run") as caught:
        load_run(tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "words", "has_manifest"),
    [
        ("plainloop.run.folder:RunFolder.save_metrics/after/2/2", (), False),
        ("plainloop.run.manifest:write_manifest/before/2/1", (), False),
        *(
            pytest.param(*case, marks=pytest.mark.nightly)
            for case in (
                ("plainloop.run.manifest:write_manifest/after/2/1", (), True),
                ("plainloop.run.manifest:write_manifest/before/0/4", ("--cv", "2"), False),
                ("plainloop.run.manifest:write_manifest/after/0/4", ("--cv", "2"), True),
            )
        ),
        ("plainloop.metrics.row_predictions:RowPredictions.save/after/0/4", ("--cv", "2"), False),
    ],
)
def test_a_run_that_was_killed_beside_its_manifest_is_used(
    run_command, tmp_path, tiny_data, tiny_model, *, place, words, has_manifest
):
    train = ["train", "--task", "demo", "--data-dir", tiny_data, "--model", tiny_model, *words]
    train += ["--max-steps", "2", "-o", "run"]
    crash = {"CRASH_AT": f"finish/{place}", "CRASH_LOG": str(tmp_path / "fell")}
    run_command(FAILPOINTS, *train, expect=-9, **crash)
    assert (tmp_path / "fell").exists()
    assert (tmp_path / "run" / "manifest.json").exists() is has_manifest
    rows = tiny_data / "test.tsv"
    predict = ["predict", "run", "--file", rows, "-o"]
    said = run_command("-m", "plainloop", *predict, "killed.csv").stderr
    assert ("to verify its files by" in said) is not has_manifest
    run_command("-m", "plainloop", *train, "--resume")
    said = run_command("-m", "plainloop", *predict, "resumed.csv").stderr
    assert "to verify its files by" not in said
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "resumed.csv").read_bytes()
