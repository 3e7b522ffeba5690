"""Prediction on a CPU, from texts: an exported run beside the run itself, pipeline and Trainer.predict.

    python benchmarks/prediction.py runs/mrpc --threads 2 -o prediction.json

The rows are the run's validation rows. Every side is a process of its own, with its defaults: batches
of 8 for pipeline and Trainer, as the Trainer has it. Two numbers are taken of each: samples/s, from
texts to probabilities, of all sides in turn; and the start-up, from the command of a new process to its
first prediction. The machine must be idle.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from speed.alternate import alternate
from speed.child import Requests, environment
from speed.results import describe_machine

BATCH_SIZE = 8
Predict = Callable[[Sequence[Any]], list[float]]
"""Texts, or pairs of texts -> the probability of each row's label."""


def predict_with_plainloop(run: str) -> Predict:
    """`Run.predict` of the run."""
    from plainloop.predict.loaded_run import load_run

    opened = load_run(run)
    return lambda rows: [max(row["scores"].values()) for row in opened.predict(rows)]


def predict_exported(model: str) -> Predict:
    """`Run.predict` of a model file in an exported folder; torch is not imported."""
    from plainloop.predict.export.exported_folder import load_exported

    opened = load_exported(Path(model))
    return lambda rows: [max(row["scores"].values()) for row in opened.predict(rows)]


def predict_with_pipeline(run: str) -> Predict:
    """A text-classification pipeline."""
    from transformers import pipeline

    classify: Any = pipeline("text-classification", model=run, device="cpu")

    def predict(rows: Sequence[Any]) -> list[float]:
        given = [
            row if isinstance(row, str) else {"text": row[0], "text_pair": row[1]} for row in rows
        ]
        found = classify(given, batch_size=BATCH_SIZE, truncation=True)
        return [row["score"] for row in found]

    return predict


def predict_with_trainer(run: str) -> Predict:
    """Trainer.predict, with the tokenization of the rows."""
    from datasets import Dataset
    from scipy.special import softmax
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(run)
    model = AutoModelForSequenceClassification.from_pretrained(run)
    folder = tempfile.mkdtemp(dir=os.environ["BENCHMARK_FOLDER"])
    args = TrainingArguments(output_dir=folder, report_to="none", use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model=model, args=args, processing_class=tokenizer)

    def predict(rows: Sequence[Any]) -> list[float]:
        columns = [rows] if isinstance(rows[0], str) else list(zip(*rows, strict=True))
        encoded = tokenizer(*map(list, columns), truncation=True)
        logits = trainer.predict(Dataset.from_dict(dict(encoded))).predictions
        found: list[float] = softmax(logits, axis=-1).max(axis=-1).tolist()
        return found

    return predict


SIDES: dict[str, Callable[[str], Predict]] = {
    "exported float32": predict_exported,
    "exported int8": predict_exported,
    "Run.predict": predict_with_plainloop,
    "Trainer.predict": predict_with_trainer,
    "pipeline": predict_with_pipeline,
}


def measure(run: Path, *, repeats: int, threads: int) -> dict[str, Any]:
    """Measure all sides.

    Returns:
        side -> samples_per_second and startup_seconds, a number a repeat.
    """
    from plainloop.metrics.row_predictions import RowPredictions
    from plainloop.predict.export.export_run import export_run
    from plainloop.predict.loaded_run import load_run

    opened = load_run(run)
    columns = list(RowPredictions.load(run, "validation").texts.values())
    rows = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BENCHMARK_FOLDER"] = name
        export_run(opened, folder / "onnx", accept=True)
        texts = folder / "rows.json"
        texts.write_text(json.dumps(rows), encoding="utf-8")
        models = {
            "exported float32": folder / "onnx" / "model.onnx",
            "exported int8": folder / "onnx" / "model_int8.onnx",
        }
        words = {
            side: ("prediction", "--side", side, str(models.get(side, run)), str(texts))
            for side in SIDES
        }
        seconds = alternate(
            words,
            warm_up={},
            request={},
            repeats=repeats,
            folder=folder,
            threads=threads,
            title="prediction",
        )
        startups: dict[str, list[float]] = {side: [] for side in SIDES}
        for repeat in range(repeats + 1):  # the first only warms the system's cache of files
            for side, command in words.items():
                started = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", *command, "--once"],
                    env=environment(threads),
                    stderr=subprocess.DEVNULL,
                    check=True,
                )
                startups[side] += [time.perf_counter() - started] * (repeat > 0)
    return {
        side: {
            "samples_per_second": [len(rows) / answer["seconds"] for answer in seconds[side]],
            "startup_seconds": startups[side],
        }
        for side in SIDES
    }


def summarize(found: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Medians of each side: samples/s, how many times those of pipeline, seconds of the start-up."""
    pipeline = median(found["pipeline"]["samples_per_second"])
    rows = {}
    for side, numbers in found.items():
        speed = median(numbers["samples_per_second"])
        rows[side] = (speed, speed / pipeline, median(numbers["startup_seconds"]))
    return rows


def answer_requests(side: str, model: str, texts: str, *, once: bool) -> None:
    """Be a side: predict one row and end, or all rows at each request."""
    rows = [
        row if isinstance(row, str) else tuple(row)
        for row in json.loads(Path(texts).read_text(encoding="utf-8"))
    ]
    if once:
        SIDES[side](model)(rows[:1])
        return
    requests = Requests()
    predict = SIDES[side](model)
    while True:
        requests.next()
        started = time.perf_counter()
        predict(rows)
        requests.answer(seconds=time.perf_counter() - started)


def main() -> None:
    """Measure a run; or be a side, for this script itself."""
    if sys.argv[1:2] == ["--side"]:
        answer_requests(*sys.argv[2:5], once="--once" in sys.argv)
        return
    from joblib import cpu_count

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--repeats", type=int, default=5, help="how often each side is measured")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="of every side")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for all measurements")
    arguments = parser.parse_args()
    found = measure(arguments.run.resolve(), repeats=arguments.repeats, threads=arguments.threads)
    rows = summarize(found)
    if arguments.output:
        content = {"machine": describe_machine(arguments.threads), "sides": found, "table": rows}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for side, (speed, times, startup) in rows.items():
        print(
            f"{side:<18} {speed:8.1f} samples/s  {times:5.2f} times pipeline  "
            f"start-up {startup:5.2f} s"
        )


if __name__ == "__main__":
    main()
