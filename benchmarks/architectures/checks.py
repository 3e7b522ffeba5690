"""The checks of one architecture: training, equality with a plain loop, loading, prediction, and so on."""

import contextlib
import csv
import io
import json
import os
import random
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
    pipeline,
)

from architectures.tiny import WORDS, clear_dropout, save_checkpoint, sentence
from plainloop.cli.flags import parse_config
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.batches.loaders import EpochRandomSampler
from plainloop.eject.script import make_script
from plainloop.errors import PlainloopError
from plainloop.model.load import load_model
from plainloop.model.padding import sparse_encoder
from plainloop.model.unpadded.forwards import why_padded
from plainloop.predict.loaded_run import load_run
from plainloop.training.fine_tune import fine_tune

STEPS, BATCH_SIZE, LEARNING_RATE = 6, 4, 1e-3
LABELS = ["neg", "pos"]
ROWS = {"train": 26, "dev": 9}
LONG_TEXT = 140
"""Words; every tiny model has positions for fewer tokens, if it has a limit."""
PROBABILITY_TOLERANCE = 1e-5
UNPADDED_TOLERANCE = 1e-4
"""Of the losses of six steps, which differ by rounding and then by AdamW's first steps."""
PADDED: dict[str, Any] = {"execution": "padded"}
SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": STEPS // 2}
YES = "yes"
TASK = Task("texts", ("text",), tuple(LABELS), ("accuracy",), "single_label_classification")
COLUMNS = (
    "trains", "equals a plain loop", "unpadded", "loads", "equals a pipeline", "resumes", "ejects", "LoRA",
    "long texts",
)  # fmt: skip


class WrongError(Exception):
    """A result that should be another."""


def write_rows(folder: Path) -> None:
    """Write the rows: single texts, pairs, and some texts that are longer than any tiny model reads."""
    rng = random.Random(7)  # noqa: S311
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in ROWS.items():
        rows = [(sentence(rng), sentence(rng), rng.choice(LABELS)) for _ in range(count)]
        _write(folder / f"single-{split}.csv", ["text", "label"], [(a, c) for a, _, c in rows])
        _write(folder / f"pair-{split}.csv", ["sentence1", "sentence2", "label"], rows)
        long = [" ".join(rng.choices(WORDS, k=LONG_TEXT)) for _ in rows]
        texts = [(long[n] if n % 5 == 0 else a, c) for n, (a, _, c) in enumerate(rows)]
        _write(folder / f"long-{split}.csv", ["text", "label"], texts)


def _write(path: Path, header: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _read(folder: Path, name: str, split: str) -> list[list[str]]:
    with (folder / f"{name}-{split}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


class Checks:
    """One architecture's checks, each of which returns what the page says of it.

    Args:
        kind: the model type.
        work: an empty folder.
    """

    def __init__(self, kind: str, work: Path) -> None:
        self.kind, self.work = kind, work
        self.rows, self.checkpoint = work / "rows", work / "checkpoint"
        write_rows(self.rows)

    def run(self) -> dict[str, str]:
        """All checks, in order; after a training that fails there is nothing to check.

        Returns:
            Column -> yes, a figure, or an error.
        """
        methods: dict[str, Callable[[], str]] = {
            "trains": self.trains,
            "equals a plain loop": self.equals_plain_loop,
            "unpadded": self.equals_padded,
            "loads": self.loads,
            "equals a pipeline": self.equals_pipeline,
            "resumes": self.resumes,
            "ejects": self.ejects,
            "LoRA": self.lora,
            "long texts": self.long_texts,
        }
        found: dict[str, str] = {}
        for column, method in methods.items():
            found[column] = outcome(method).replace(f"{self.work}{os.sep}", "")
            if column == "trains" and found[column] != YES:
                break
        return found

    def trains(self) -> str:
        """Single texts and pairs, with a checkpoint on the way."""
        save_checkpoint(self.kind, self.checkpoint)
        self.train("single", **PADDED, **SAVED)
        self.train("pair", **PADDED)
        return YES

    def train(self, name: str, *, rows: str = "", **settings: Any) -> None:
        """Fine-tune on the rows of that name, or on others; the run is the folder of that name."""
        config = self.config(rows or name, self.work / name, **settings)
        with _silence():
            fine_tune(config)

    def config(self, rows: str, out: Path, **settings: Any) -> TrainConfig:
        """The settings of all trainings here."""
        given: dict[str, Any] = {
            "train_file": (str(self.rows / f"{rows}-train.csv"),),
            "validation_file": (str(self.rows / f"{rows}-dev.csv"),),
            "model": str(self.checkpoint),
            "output_dir": out,
            "per_device_train_batch_size": BATCH_SIZE,
            "max_steps": STEPS,
            "logging_steps": 1,
            "learning_rate": LEARNING_RATE,
            "save_strategy": "no",
        }
        return TrainConfig(**(given | settings))

    def equals_plain_loop(self) -> str:
        """The losses of all steps, bit for bit."""
        for name in ("single", "pair"):
            _equal(_losses(self.work / name), self.plain_loop(name), f"losses of the {name} texts")
        return YES

    def plain_loop(self, name: str) -> list[float]:
        """The losses of the loop that a person would write."""
        tokenizer = AutoTokenizer.from_pretrained(self.checkpoint)
        rows = _read(self.rows, name, "train")
        *texts, labels = (list(column) for column in zip(*rows, strict=True))
        set_seed(42)
        model = AutoModelForSequenceClassification.from_pretrained(
            self.checkpoint,
            num_labels=2,
            problem_type="single_label_classification",
            dtype=torch.float32,
        )
        encoded = tokenizer(*texts, truncation=True)
        keys = [key for key in encoded if key in tokenizer.model_input_names]
        examples: Any = [
            {**{key: encoded[key][n] for key in keys}, "labels": LABELS.index(label)}
            for n, label in enumerate(labels)
        ]
        order = EpochRandomSampler(len(rows), 42)
        collate = DataCollatorWithPadding(tokenizer)
        loader = DataLoader(examples, batch_size=BATCH_SIZE, sampler=order, collate_fn=collate)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
        )
        schedule = get_linear_schedule_with_warmup(optimizer, 0, STEPS)
        set_seed(42)
        losses: list[float] = []
        model.train()
        for batch in loader:
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            if len(losses) == STEPS:
                break
        return losses

    def equals_padded(self) -> str:
        """Whether it runs unpadded by itself, and then its losses against padded, without dropout."""
        calm = self.work / "calm"
        shutil.copytree(self.checkpoint, calm)
        values = json.loads((calm / "config.json").read_text(encoding="utf-8"))
        clear_dropout(values)
        (calm / "config.json").write_text(json.dumps(values), encoding="utf-8")
        settings = {"model": str(calm), "eval_strategy": "no"}
        with _silence():
            model, _ = load_model(str(calm), TASK)
        if why_padded(model):
            return "padded"
        self.train("unpadded", rows="single", **settings)
        self.train("padded", rows="single", **settings, **PADDED)
        here, there = (_losses(self.work / name) for name in ("unpadded", "padded"))
        _close(here, there, UNPADDED_TOLERANCE, "losses")
        return YES

    def loads(self, folder: str = "single") -> str:
        """The saved folder, with from_pretrained: no weight is missing and none is left over."""
        _, info = AutoModelForSequenceClassification.from_pretrained(
            self.work / folder, output_loading_info=True
        )
        wrong = {name: sorted(map(str, keys))[:3] for name, keys in info.items() if keys}
        if wrong:
            raise WrongError(str(wrong))
        return YES

    def equals_pipeline(self) -> str:
        """The probabilities of `predict`, alone and in a batch, against those of a pipeline."""
        for name in ("single", "pair"):
            self.compare_pipeline(name, name)
        return YES

    def compare_pipeline(self, rows: str, folder: str) -> None:
        """Raise if a probability differs."""
        texts = [tuple(row[:-1]) for row in _read(self.rows, rows, "dev")]
        run, path = load_run(self.work / folder), str(self.work / folder)
        given: Any = texts if rows == "pair" else [text for (text,) in texts]
        predicted = {size: run.predict(given, batch_size=size) for size in (1, 32)}
        pipe: Any = pipeline(
            "text-classification", model=path, tokenizer=path, top_k=None, device="cpu"
        )
        for number, row in enumerate(texts):
            if (
                sparse := sparse_encoder(pipe.model)
            ) is not None:  # depends on what it has read before
                sparse.set_attention_type(pipe.model.config.attention_type)
            text = {"text": row[0], **({"text_pair": row[1]} if rows == "pair" else {})}
            found = pipe(text, truncation=True)
            scores = found if isinstance(found[0], dict) else found[0]
            theirs = [one["score"] for one in sorted(scores, key=lambda one: str(one["label"]))]
            for size, ours in predicted.items():
                here = [ours[number]["scores"][label] for label in LABELS]
                _close(here, theirs, PROBABILITY_TOLERANCE, f"probabilities in batches of {size}")

    def resumes(self) -> str:
        """From the checkpoint in the middle: all losses and weights, bit for bit."""
        whole, again = self.work / "single", self.work / "resumed"
        shutil.copytree(whole, again)
        for name in ("model.safetensors", "metrics.json", "config.json", "manifest.json"):
            (again / name).unlink(missing_ok=True)
        shutil.rmtree(again / "checkpoints" / f"step-{STEPS:06d}")
        self._fine_tune_again(again)
        _equal(_losses(again), _losses(whole), "losses")
        _equal_weights(again, whole)
        return YES

    def _fine_tune_again(self, folder: Path) -> None:
        config = self.config("single", folder, resume=True, **PADDED, **SAVED)
        with _silence():
            fine_tune(config)

    def ejects(self) -> str:
        """The script of the run: all losses and weights, bit for bit."""
        whole, script = self.work / "single", self.work / "ejected" / "script.py"
        saved = script.parent / "runs" / script.stem
        config = parse_config(["--config", str(whole / "run.yaml")], program="", description="")
        script.parent.mkdir()
        make_script(config, script).write()
        with _running(script):
            runpy.run_path(str(script), run_name="__main__")
        _equal(_losses(saved), _losses(whole), "losses")
        _equal_weights(saved, whole)
        return YES

    def lora(self) -> str:
        """Three steps of it: what is saved loads, and predicts as a pipeline does."""
        self.train("lora", rows="single", lora_rank=4, max_steps=3)
        self.loads("lora")
        self.compare_pipeline("single", "lora")
        return YES

    def long_texts(self) -> str:
        """Texts that are longer than the model reads, with a tokenizer that names no limit."""
        unlimited = self.work / "unlimited"
        save_checkpoint(self.kind, unlimited, limit=False)
        self.train("long", model=str(unlimited), max_steps=2)
        return YES


def outcome(check: Callable[[], str]) -> str:
    """What the page says of a check: its result, or the error, of which a person sees a line or a traceback."""
    try:
        return check()
    except PlainloopError as error:
        return f"refused: {' '.join(str(error).split())}"
    except WrongError as error:
        return f"WRONG: {error}"
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"TRACEBACK: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _running(script: Path) -> Iterator[None]:
    """As if the script were the command, in its folder; what it prints is dropped."""
    before, arguments = Path.cwd(), sys.argv
    os.chdir(script.parent)
    sys.argv = [str(script)]
    try:
        with _silence():
            yield
    finally:
        os.chdir(before)
        sys.argv = arguments


def _losses(folder: Path) -> list[float]:
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines)]


def _equal(here: Sequence[float], there: Sequence[float], what: str) -> None:
    _close(here, there, 0, what)


def _close(here: Sequence[float], there: Sequence[float], tolerance: float, what: str) -> None:
    gap = max(abs(a - b) for a, b in zip(here, there, strict=True))
    if not gap <= tolerance:
        raise WrongError(f"the {what} differ by {gap:.0e}")


def _equal_weights(here: Path, there: Path) -> None:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (here, there))
    if different := [name for name, value in theirs.items() if not torch.equal(ours[name], value)]:
        raise WrongError(f"{len(different)} weights differ, such as {different[0]}")
