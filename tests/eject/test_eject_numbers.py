"""A script gives plainloop's numbers: losses, gradients, rates and weights bit for bit."""

import hashlib
import json
import runpy
import subprocess
from pathlib import Path

import datasets
import pytest
import torch
from conftest import python, write_pairs
from datasets import ClassLabel, Dataset, DatasetDict
from runs import SHARP, make_runs, single_texts
from tiny import run_tiny
from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import get_task
from plainloop.eject.script import make_script

CLOSE = 1e-12  # relative: scores are of numpy here and of scikit-learn there; losses are equal


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data):
    return make_runs(tmp_path_factory.mktemp("files"), tiny_data)


def compare(settings, model: Path | str, folder: Path) -> int:
    """Train with plainloop and with the script, each in a place of its own; the steps compared."""
    settings = {"model": str(model), "logging_steps": 1, **settings}
    ours = run_tiny(folder / "ours", execution="padded", **{"task": None, **settings})
    given = {name: value for name, value in settings.items() if name != "task" or value}
    config = TrainConfig(output_dir=folder / "theirs", **given)
    script = make_script(config, folder / "train_it.py")
    script.write()
    finished = subprocess.run(
        [python(), str(script.path)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "Training: 100%" in finished.stderr or settings.get("early_stopping_patience")
    lines = (folder / "theirs" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    theirs = [json.loads(line) for line in lines]
    compared = ("step", "loss", "grad_norm", "learning_rate")
    assert theirs == [{name: record[name] for name in compared} for record in ours.history]
    if settings.get("eval_strategy") != "no":
        metrics = json.loads((folder / "theirs" / "metrics.json").read_text(encoding="utf-8"))
        compare_scores(metrics.pop("evaluations"), ours.metrics["evaluations"])
        for split, scores in metrics.items():
            compare_scores([scores], [ours.metrics[split]])
    assert same_weights(folder)
    for name in ("config.json", "tokenizer.json"):
        assert (folder / "ours" / name).read_bytes() == (folder / "theirs" / name).read_bytes()
    return len(theirs)


def compare_scores(theirs, ours):
    assert len(theirs) == len(ours) > 0
    for their, our in zip(theirs, ours, strict=True):
        assert their.get("step") == our.get("step")
        assert their["loss"] == our["loss"]
        assert len(their) > 1 + ("step" in their)
        assert their == {name: pytest.approx(our[name], rel=CLOSE) for name in their}


@pytest.mark.slow
def test_every_kind_of_run_gives_the_same_bits(runs, tiny_model, tmp_path):
    compared = {}
    for name, settings in runs.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        compared[name] = compare(settings, tiny_model, folder)
    print(f"{len(compared)} runs compared, {sum(compared.values())} logged steps: {compared}")
    assert compared.keys() == runs.keys()
    assert all(compared.values())
    assert compared["pair"] == 12
    # It stopped before its 12 epochs of 6 steps, and logged the steps since the last record.
    assert 1 < compared["early stopping"] < 12 * 6 // 4


@pytest.mark.slow
def test_a_decoder_without_a_padding_token_gives_the_same_bits(runs, tiny_model, tmp_path):
    decoder = tmp_path / "decoder"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_model / "tokenizer.json"),
        eos_token="[PAD]",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(decoder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=48, eos_token_id=0
    )
    GPT2ForSequenceClassification(config).save_pretrained(decoder)
    assert compare(runs["single text"] | {"dropout": 0.2}, decoder, tmp_path) > 0
    script = (tmp_path / "train_it.py").read_text(encoding="utf-8")
    assert 'TOKENIZER_SETTINGS = {"model_max_length": 48, "pad_token": "[PAD]"}' in script
    assert '"resid_pdrop": 0.2' in script


@pytest.mark.slow
def test_mrpc_itself_gives_the_same_bits(glue_beginning, tmp_path):
    settings = {"task": "mrpc", "data_dir": glue_beginning, "num_train_epochs": 1}
    settings["max_train_samples"] = 30
    assert compare(settings, "demo", tmp_path) == 4


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mrpc", "mnli"])
def test_rows_from_the_hub_give_the_same_bits(task, tiny_model, tmp_path, monkeypatch):
    layout = get_task(task)
    splits = ["validation"] if task == "mrpc" else ["validation_matched", "validation_mismatched"]
    fake = DatasetDict()
    for seed, split in enumerate(["train", *splits, "test"]):
        write_pairs(tmp_path / "pairs.tsv", 20, seed=seed)
        lines = (tmp_path / "pairs.tsv").read_text(encoding="utf-8").splitlines()[1:]
        first, second, labels = zip(*(line.split("\t") for line in lines), strict=True)
        columns = dict(zip(layout.text_columns, (first, second), strict=True))
        numbers = [-1] * 20 if split == "test" else list(map(int, labels))
        fake[split] = Dataset.from_dict({**columns, "label": numbers, "idx": range(20)})
        names = list(layout.label_names)
        fake[split] = fake[split].cast_column("label", ClassLabel(names=names))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: DatasetDict(fake))
    settings = {"task": task, "model": str(tiny_model), "logging_steps": 1, **SHARP}
    ours = run_tiny(tmp_path / "ours", execution="padded", **settings)
    script = make_script(TrainConfig(output_dir=tmp_path / "theirs", **settings), tmp_path / "t.py")
    script.write()
    assert f'DATASET_NAME = "nyu-mll/glue"\nDATASET_CONFIG_NAME = "{task}"\n' in script.source
    runpy.run_path(str(script.path))
    metrics = json.loads((tmp_path / "theirs" / "metrics.json").read_text(encoding="utf-8"))
    compare_scores(metrics.pop("evaluations"), ours.metrics["evaluations"])
    assert list(metrics) == splits[1:]
    for split, scores in metrics.items():
        compare_scores([scores], [ours.metrics[split]])
    assert same_weights(tmp_path)


@pytest.mark.slow
def test_a_data_set_of_the_hub_gives_the_same_bits(tiny_model, tmp_path, monkeypatch):
    texts, kinds = zip(*single_texts(), strict=True)
    names = ["human", "other", "animal"]
    rows = Dataset.from_dict({"text": texts, "kind": [names.index(kind) for kind in kinds]})
    rows = rows.cast_column("kind", ClassLabel(names=names))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: DatasetDict(train=rows))
    assert compare({"dataset": "someone/kinds", **SHARP}, tiny_model, tmp_path) == 10
    assert {path.name for path in (tmp_path / "train_it-data").iterdir()} == {
        *("train.parquet", "validation.parquet")
    }


def same_weights(folder: Path) -> bool:
    hashes = [
        {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (folder / name).glob("*.safetensors")
        }
        for name in ("ours", "theirs")
    ]
    return hashes[0] == hashes[1] != {}
