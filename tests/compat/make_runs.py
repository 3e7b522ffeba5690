"""Make the finished runs that later versions must go on reading.

    python tests/compat/make_runs.py FOLDER [RUN ...]

Writes data, a random model and runs into the folder: `single` (one label, calibrated, with its
checkpoints), `seeds` (two seeds), `multi` (several labels a row) and `listed` (as `single` without
checkpoints, for what only its manifest adds). tests/compat/v0.1.0 was made by this script with the
code of the commit that added it, and v0.1.0-manifest, of `listed` alone. A new version gets a folder of
its own; no file of an old one is made again.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SUBJECTS = ("cat", "dog", "girl", "boy")
VERBS = ("sees", "likes", "hears", "paints", "follows")
OBJECTS = ("car", "tree", "house", "river", "song")
SHARED = ("--model", "model", "--epochs", "2", "--lr", "1e-2", "--logging-steps", "1")
RUNS = {
    "single": ("--train-file", "rows.csv", "--calibrate", "--load-best-model-at-end", *SHARED),
    "seeds": ("--train-file", "rows.csv", "--seeds", "2", "--save-strategy", "no", *SHARED),
    "listed": ("--train-file", "rows.csv", "--calibrate", "--save-strategy", "no", *SHARED),
    "multi": ("--train-file", "tags.jsonl", "--save-strategy", "no", *SHARED),
}


def write_model(folder: Path) -> None:
    """A random 1-layer BERT of 8 columns with a tokenizer of whole words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [*special, "the", "a", *SUBJECTS, *VERBS, *OBJECTS]
    inner = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=32,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(folder: Path) -> None:
    """100 sentences: their subject's kind as a label, their subject and object as tags."""
    rows = [
        (f"the {subject} {verb} a {thing}", subject, thing)
        for subject in SUBJECTS
        for verb in VERBS
        for thing in OBJECTS
    ]
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for text, subject, _ in rows:
            writer.writerow([text, "animal" if subject in SUBJECTS[:2] else "child"])
    with (folder / "tags.jsonl").open("w", encoding="utf-8") as file:
        for text, subject, thing in rows:
            file.write(json.dumps({"text": text, "labels": sorted((subject, thing))}) + "\n")


def main(folder: Path, names: list[str]) -> None:
    """Make data, model and runs. Pages, which can be written again, are left out."""
    folder.mkdir(parents=True)
    write_rows(folder)
    write_model(folder / "model")
    for name in names or RUNS:
        subprocess.run(
            [
                *(sys.executable, "-m", "plainloop", "train", *RUNS[name]),
                *("--output-dir", name, "--quiet"),
            ],
            cwd=folder,  # so that no path of this machine is written
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
    for path in sorted(folder.rglob("*")):
        if path.name in ("report.html", ".lock"):
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
