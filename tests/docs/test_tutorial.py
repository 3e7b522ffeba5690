"""The tutorial: the course's own lines, and the difference that Accelerate makes, on a tiny model."""

import json
import os
import random
import re
import shutil
import subprocess
import sys

import pytest
import quote
from blocks import blocks_of
from conftest import OBJECTS, ROOT, SUBJECTS

PAGE = ROOT / "docs" / "tutorial.md"
OWN_LINES = "test_the_tutorials_own_lines_make_the_same_batches"
CONFIG = 'config = pl.TrainConfig(task="mrpc", data_dir=Path("GLUE"), model="demo")\n'


def write_mrpc(path, num_rows, seed):
    """Rows of uneven length; the first word says the label, in four of five rows."""
    draw = random.Random(seed)
    lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    for row in range(num_rows):
        subject = draw.randrange(len(SUBJECTS))
        label = subject % 2 if draw.random() < 0.8 else draw.randrange(2)
        first, second = (" ".join(draw.choices(OBJECTS, k=1 + row % 4)) for _ in range(2))
        lines.append(f"{label}\t{2 * row}\t{2 * row + 1}\t{SUBJECTS[subject]} {first}\t{second}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A small MRPC, 96 rows to train on and 45 others, and a model without dropout."""
    write_mrpc(tmp_path / "GLUE" / "MRPC" / "train.tsv", 96, seed=1)
    write_mrpc(tmp_path / "GLUE" / "MRPC" / "dev.tsv", 45, seed=2)
    shutil.copytree(tiny_model, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    settings = json.loads(config.read_text("utf-8"))
    none = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    config.write_text(json.dumps({**settings, **none}), "utf-8")
    return tmp_path


def run(folder, *words, **environment):
    finished = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def scores_of(printed):
    """The scores that a script printed: once, whatever its number of processes."""
    (scores,) = re.findall(r"^\{'accuracy': .*\}$", printed, re.MULTILINE)
    return scores


def tiny(script, batch_size):
    """A script of the page on the tiny model, its batches small enough for two processes.

    The learning rate is so high that the scores depend on every step.
    """
    assert CONFIG in script
    batch = f'model="model", per_device_train_batch_size={batch_size})'
    script = script.replace(CONFIG, CONFIG.replace('model="demo")', batch))
    return script.replace("lr=5e-5", "lr=3e-3")


@pytest.mark.parametrize("name", ["tutorial.md", "ko/tutorial.md"])
def test_the_difference_has_the_lines_of_the_blocks_above_it(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert quote.renewed_tutorial(page) == page, "run `make quotes`"


@pytest.mark.distributed
def test_the_difference_runs_on_one_and_two_processes_with_the_same_scores(folder):
    page = PAGE.read_text(encoding="utf-8")
    plain = quote.tutorial_script(page)
    accelerated = quote.patched(plain, quote.TUTORIAL_DIFFERENCE.search(page)[2])
    (folder / "plain.py").write_text(tiny(plain, 8), encoding="utf-8")
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch"]
    scores = [scores_of(run(folder, "plain.py"))]
    for processes in (1, 2):
        (folder / "full_training.py").write_text(tiny(accelerated, 8 // processes), "utf-8")
        several = ["--multi_gpu", "--num_processes", "2"] if processes == 2 else []
        printed = run(folder, *launch, *several, "full_training.py", ACCELERATE_USE_CPU="1")
        assert printed.count("DatasetDict({") == processes
        scores.append(scores_of(printed))
    assert scores[0] == scores[1] == scores[2]
    assert "'f1': 0.0" not in scores[0]  # both labels are predicted


@pytest.mark.distributed
def test_the_notebook_launcher_trains_the_function_on_two_processes(folder):
    """By a training_function that calls main of examples/plain_accelerate.py."""
    (block,) = (block for block in blocks_of(PAGE) if "notebook_launcher(" in block.content)
    config = tiny("from pathlib import Path\n\nimport plainloop as pl\n\n" + CONFIG, 8)
    (folder / "cells.py").write_text(config + block.content, encoding="utf-8")
    printed = run(folder, "cells.py", ACCELERATE_USE_CPU="1", OMP_NUM_THREADS="1")
    assert [line[:8] for line in printed.splitlines() if line.startswith("epoch ")] == [
        f"epoch {epoch}:"[:8] for epoch in (1, 2, 3)
    ]


def test_the_tutorials_own_lines_make_the_same_batches(folder, monkeypatch):
    """load_dataset of these rows; tokenize_function, map, DataCollatorWithPadding, remove_columns, rename_column, set_format."""
    import torch
    from torch.utils.data import DataLoader
    from transformers import DataCollatorWithPadding

    import plainloop as pl

    config = pl.TrainConfig(task="mrpc", data_dir=folder / "GLUE", model=str(folder / "model"))
    inputs = pl.load_inputs(config)
    tokenizer = pl.load_tokenizer(inputs.pretrained)
    tokenized = pl.tokenize_splits(inputs.raw, tokenizer, inputs.task.text_columns)
    model_inputs = pl.keep_model_inputs(tokenized, tokenizer)
    ours = pl.create_dataloaders(model_inputs, tokenizer, config, inputs.task)
    monkeypatch.setattr("datasets.load_dataset", lambda *_: inputs.raw)
    names = {
        "tokenizer": tokenizer,
        "DataCollatorWithPadding": DataCollatorWithPadding,
        "DataLoader": DataLoader,
    }
    own = [block for block in blocks_of(PAGE) if (block.run_by or "").endswith(OWN_LINES)]
    assert len(own) == 4
    for block in own:
        exec(block.content, names)
    assert len(names["train_dataloader"]) == len(ours["train"])
    for mine, theirs in zip(ours["validation"], names["eval_dataloader"], strict=True):
        assert {*mine} == {*theirs, "idx"}
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
