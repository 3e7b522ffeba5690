"""plainloop export: the folder gives the run's logits and labels, by plainloop and by its script."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import OBJECTS, SUBJECTS, VERBS
from safetensors.torch import load_file, save_file
from tiny import run_tiny
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

from plainloop.errors import UserError
from plainloop.predict.export import export_run as module
from plainloop.predict.export.export_run import export_run
from plainloop.predict.export.exported_folder import load_exported
from plainloop.predict.export.graph import OPSET
from plainloop.predict.loaded_run import load_run

FILES = {
    *("model.onnx", "tokenizer.json", "config.json", "decision_rule.json", "predict.py"),
    *("export.json", "manifest.json"),
}
PAIR = {"text_column": ("first", "second")}
KINDS = {
    "one text": {"label_column": "animal"},
    "pairs, cut": {"label_column": "same", "max_length": 12, **PAIR},
    "threshold and temperature": {
        "label_column": "same",
        "threshold_metric": "f1",
        "calibrate": True,
        **PAIR,
    },
    "several labels": {"label_column": "seen"},
    "thresholds of several labels": {"label_column": "seen", "threshold_metric": "f1_macro"},
    "a value": {"label_column": "value", "problem_type": "regression"},
    "adapters": {"label_column": "animal", "lora_rank": 2},
    "windows": {"label_column": "animal", "max_length": 9, "stride": 2},
}


def write_rows(path, num_rows, seed):
    """Rows with a label of each kind, of uneven length."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            animals = draw.sample(SUBJECTS[:3], 2)
            tail = [f"and {draw.choice(VERBS)} a {draw.choice(OBJECTS)}" for _ in range(number % 6)]
            row = {
                "first": f"the {animals[0]} {draw.choice(VERBS)} {' '.join(tail)}",
                "second": f"a {animals[number % 2]} {draw.choice(VERBS)}",
                "animal": animals[0],
                "same": ["different", "same"][number % 2 == 0],
                "seen": animals[: number % 3],
                "value": len(tail) + draw.random(),
            }
            file.write(json.dumps(row) + "\n")
    return path


def train(folder, model, **settings):
    settings = {"text_column": ("first",), "max_steps": 30, "learning_rate": 3e-3, **settings}
    rows = write_rows(folder / "rows.jsonl", 120, seed=5)
    run_tiny(
        folder / "run",
        task=None,
        train_file=(str(rows),),
        model=str(model),
        validation_fraction=0.4,
        save_strategy="no",
        **settings,
    )
    return load_run(folder / "run")


def run_script(folder, *words):
    """What predict.py prints, in a Python that has neither torch nor transformers nor plainloop."""
    hidden = folder.parent / "hidden"
    hidden.mkdir(exist_ok=True)
    for name in ("torch", "transformers", "plainloop"):
        (hidden / f"{name}.py").write_text(f"raise ImportError('no {name} here')", "utf-8")
    check = subprocess.run(
        [sys.executable, "-c", "import torch"],
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        check=False,
    )
    assert b"no torch here" in check.stderr
    return subprocess.run(
        [sys.executable, folder / "predict.py", *words],
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_predicts_what_the_run_does(kind, tiny_model, tmp_path):
    run = train(tmp_path, tiny_model, **KINDS[kind])
    output = tmp_path / "new" / "onnx"
    exported = export_run(run, output, int8=False)
    assert {path.name for path in output.iterdir()} == FILES
    assert [*(tmp_path / "new").iterdir()] == [output]
    (version,) = (each.version for each in onnx.load(output / "model.onnx").opset_import)
    content = json.loads((output / "export.json").read_text(encoding="utf-8"))
    assert version == OPSET == content["opset"]
    assert content["proof"]["rows"] == exported.rows >= 40
    proof = exported.proofs["float32"]
    assert proof.labels_changed == (None if kind == "a value" else 0)
    assert proof.largest_difference < 1e-5
    # Rows of equal texts have logits some 1e-7 apart, and so any order of ranks.
    scores = {name: score for name, score in proof.scores.items() if name != "spearmanr"}
    assert scores
    assert all(abs(score.difference) < 1e-5 for score in scores.values())

    reader = load_exported(output)
    texts = [
        *("", "the cat", "the dog sees a tree " * 50, "nurse unknown words and the girl"),
        *(f"the {name} sees" for name in SUBJECTS),
    ]
    pairs = len(run.task.text_columns) == 2
    rows = [(text, texts[-1 - at]) for at, text in enumerate(texts)] if pairs else texts
    columns = list(zip(*rows, strict=True)) if pairs else [rows]
    expected = run.classifier.logits(columns, 32)
    assert np.abs(expected).max() > 0.1  # else any zeros would do
    assert np.abs(reader.predictor.logits(columns, 32) - expected).max() < 1e-4
    ours, theirs = run.predict(rows), reader.predict(rows)
    assert run.decision == (reader.decision if run.decision else None)
    shown = []
    for one, two in zip(ours, theirs, strict=True):
        assert one.keys() == two.keys()
        assert two["scores"] == pytest.approx(one["scores"], abs=1e-5)
        if kind == "a value":
            assert two["label"] == pytest.approx(one["label"], abs=1e-5)
        else:
            assert {**two, "scores": {}} == {**one, "scores": {}}
        shown.append(str(two.get("label", two.get("labels"))))

    if pairs:
        assert [run_script(output, *row)[0] for row in rows[:3]] == shown[:3]
    elif kind == "a value":
        said = [float(value) for value in run_script(output, *rows)]
        assert said == pytest.approx([float(value) for value in shown], abs=1e-5)
    else:
        assert run_script(output, *rows) == shown


@pytest.mark.slow
def test_an_int8_model_that_is_worse_is_refused_and_leaves_nothing(tiny_model, tmp_path):
    run = train(tmp_path, tiny_model, label_column="animal", max_steps=80)
    # One hidden value becomes 3,000 times as large, and the weights that read it as much smaller: the
    # same model in float32. In int8 the others, which share its scale, become 0.
    weights = load_file(run.path / "model.safetensors")
    norm = "bert.encoder.layer.1.output.LayerNorm"
    for name in (f"{norm}.weight", f"{norm}.bias"):
        weights[name][0] *= 3000
    weights["bert.pooler.dense.weight"][:, 0] /= 3000
    save_file(weights, run.path / "model.safetensors", {"format": "pt"})
    bad = load_run(run.path, accept_changed_files=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"int8 is worse .* labels change, accuracy .*--accept"):
        export_run(bad, tmp_path / "new" / "onnx")
    assert sorted(tmp_path.rglob("*")) == before

    exported = export_run(bad, tmp_path / "onnx", accept=True)
    score = exported.proofs["int8"].scores["accuracy"]
    assert score.first > 0.8
    assert score.difference < -0.1
    content = json.loads((tmp_path / "onnx" / "export.json").read_text(encoding="utf-8"))
    assert any(fall.startswith("accuracy ") for fall in content["proof"]["accepted"])
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == FILES | {"model_int8.onnx"}
    assert exported.proofs["float32"].labels_changed == 0


@pytest.mark.slow
def test_the_embedded_model_end_to_end(run_command, tiny_data, tmp_path):
    words = ("--task", "demo", "--data-dir", tiny_data, "--model", "demo", "--max-steps", "2")
    run_command("-m", "plainloop", "train", *words, "-o", "run")
    said = run_command("-m", "plainloop", "export", "run", "-o", "onnx/run", "--accept").stdout
    lines = [line.strip() for line in said.splitlines()]
    assert lines[0].startswith("float32        0 of 21 labels changed")
    assert any(line.startswith("int8 ") and "of 21 labels changed" in line for line in lines)
    assert sum(line.startswith("21 validation rows prove little") for line in lines) == 2
    assert lines[-1] == "Written        onnx/run"
    folder = tmp_path / "onnx" / "run"
    sizes = [(folder / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")]
    assert sizes[1] < 0.3 * sizes[0]

    file = ("--file", tiny_data / "test.tsv", "-o")
    run_command("-m", "plainloop", "predict", "run", *file, "run.jsonl")
    for model in ("run", "run/model_int8.onnx"):
        run_command("-m", "plainloop", "predict", f"onnx/{model}", *file, "onnx.jsonl")
        rows = [
            [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
            for name in ("run.jsonl", "onnx.jsonl")
        ]
        assert len(rows[0]) == 13
        most = 1e-5 if model == "run" else 0.1
        for one, two in zip(*rows, strict=True):
            assert one.keys() == two.keys()
            name = "probability_paraphrase"
            assert two[name] == pytest.approx(one[name], abs=most)
            assert model != "run" or (two["prediction"] == one["prediction"])
    script = run_script(folder, "The cat sees a tree.", "A dog hears the song.")
    words = ("--text", "The cat sees a tree.", "A dog hears the song.", "--format", "jsonl")
    answer = json.loads(run_command("-m", "plainloop", "predict", "run", *words).stdout)
    assert script == [answer["label"]]
    assert len((folder / "predict.py").read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.slow
def test_a_decoder_is_exported_and_a_model_that_cannot_be_is_named(
    tiny_model, tmp_path, monkeypatch
):
    config = GPT2Config(
        vocab_size=90, eos_token_id=3, bos_token_id=2, n_embd=8, n_layer=1, n_head=2, n_positions=16
    )
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "model")
    run = train(tmp_path, tmp_path / "model", label_column="same", max_steps=2, max_length=16)
    export_run(run, tmp_path / "onnx", int8=False)
    texts = ["a b c", "h", "a a b b c d e f g h a b"]
    logits = load_exported(tmp_path / "onnx").predictor.logits([texts], 32)
    assert np.abs(logits - run.classifier.logits([texts], 32)).max() < 1e-5

    def fail(*words, **settings):
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(UserError, match=r"torch.onnx cannot export GPT2.*: no kernel for this; "):
        export_run(run, tmp_path / "second")
    monkeypatch.undo()
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="logits differ by"):
        export_run(run, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_what_cannot_be_exported_is_refused_before_the_model_is_loaded(
    run, tiny_model, tmp_path, monkeypatch
):
    pairs = load_run(run(max_length=12, stride=1, max_steps=1).folder)
    with pytest.raises(UserError, match="--stride: a pair's windows"):
        export_run(pairs, tmp_path / "onnx")
    plain = load_run(run(max_steps=1).folder)
    with pytest.raises(UserError, match=f"--output {tmp_path}: exists already"):
        export_run(plain, tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=f"--output {file}/a/b: {file} is not a folder"):
        export_run(plain, file / "a" / "b")
    monkeypatch.setattr(module, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"no_such_package; pip install no_such_package"):
        export_run(plain, tmp_path / "onnx")
    assert "classifier" not in vars(pairs) | vars(plain)
    assert not (tmp_path / "onnx").exists()
