"""examples/export_onnx.py: onnxruntime gives the model's logits, without torch or transformers."""

import csv
import json

import numpy as np
import onnxruntime
import pytest
from conftest import ROOT, write_pairs
from export_onnx import TOLERANCE, encode, export
from tiny import run_tiny
from tokenizers import Tokenizer

from plainloop.errors import UserError
from plainloop.predict.loaded_run import load_run

pytestmark = pytest.mark.slow

SETTINGS = {
    "pairs": {},
    "one text": {"text_column": ("sentence1",)},
    "adapters": {"lora_rank": 2, "text_column": ("sentence1",)},
    "short inputs": {"max_length": 9},
}


@pytest.fixture
def texts(tmp_path):
    """60 rows of a file, with a long one and an empty one."""
    file = tmp_path / "rows.tsv"
    write_pairs(file, 60, seed=5)
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [
            (row["sentence1"], row["sentence2"]) for row in csv.DictReader(lines, delimiter="\t")
        ]
    return [*rows, ("", "the cat"), ("the dog sees a tree " * 50, "not " * 300)]


@pytest.mark.parametrize("name", SETTINGS)
def test_onnxruntime_gives_the_models_logits_and_labels(name, tiny_model, tmp_path, texts):
    settings = {"text_column": ("sentence1", "sentence2"), **SETTINGS[name]}
    run_tiny(
        tmp_path / "run",
        task=None,
        train_file=(str(tmp_path / "rows.tsv"),),
        model=str(tiny_model),
        max_steps=4,
        learning_rate=1e-3,
        **settings,
    )
    run = load_run(tmp_path / "run")
    rows = texts if len(run.task.text_columns) == 2 else [first for first, _ in texts]
    output = tmp_path / "onnx" / "run"
    assert export(run, output) <= TOLERANCE
    assert {path.name for path in output.iterdir()} == {
        *("model.onnx", "tokenizer.json", "config.json")
    }
    tokenizer = Tokenizer.from_file(str(output / "tokenizer.json"))
    session = onnxruntime.InferenceSession(output / "model.onnx")
    names = [value.name for value in session.get_inputs()]
    logits = np.concatenate(
        [
            session.run(["logits"], encode(tokenizer, batch, names))[0]
            for batch in (rows[:1], rows[1:8], rows[8:])
        ]
    )
    columns = list(zip(*rows, strict=True)) if isinstance(rows[0], tuple) else [rows]
    expected = run.classifier.logits(columns, batch_size=8)
    assert np.abs(expected).max() > 0.1  # else any zeros would do
    assert np.abs(logits - expected).max() <= TOLERANCE
    labels = json.loads((output / "config.json").read_text(encoding="utf-8"))["id2label"]
    answers = [labels[str(label)] for label in logits.argmax(axis=1)]
    assert answers == [answer["label"] for answer in run.predict(rows)]


def test_a_run_that_averages_windows_and_a_folder_that_exists_are_refused(
    tiny_model, tiny_data, tmp_path
):
    settings = {"model": str(tiny_model), "data_dir": tiny_data, "max_steps": 1}
    windows = run_tiny(tmp_path / "windows", max_length=9, stride=1, **settings)
    with pytest.raises(UserError, match="--stride"):
        export(load_run(windows.folder), tmp_path / "onnx")
    plain = run_tiny(tmp_path / "plain", **settings)
    with pytest.raises(UserError, match="exists"):
        export(load_run(plain.folder), tmp_path)


def test_the_command_leaves_nothing_where_the_logits_differ(
    tiny_model, tiny_data, tmp_path, monkeypatch
):
    monkeypatch.setattr("export_onnx.TOLERANCE", -1.0)
    result = run_tiny(tmp_path / "run", model=str(tiny_model), data_dir=tiny_data, max_steps=1)
    with pytest.raises(UserError, match="differ by"):
        export(load_run(result.folder), tmp_path / "onnx" / "run")
    assert [*(tmp_path / "onnx").iterdir()] == []


def test_what_is_no_run_ends_in_one_line(run_command):
    words = ("nothing", "-o", "onnx")
    said = run_command(ROOT / "examples" / "export_onnx.py", *words, expect=2)
    assert said.stderr == "error: nothing: no such folder; give the folder of a run\n"
