"""Prediction and evaluation: the rows of the validation split, several times over.

    python -m speed.prediction SIDE RUN PASSES

A process that answers each request with the seconds, samples and needed FLOPs of so many passes, and
what came out: the probability of each row's label, or the loss of an evaluation.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from plainloop.predict.loaded_run import BATCH_SIZE as OUR_BATCH_SIZE, Run, load_run
from speed.alternate import alternate
from speed.child import Requests, environment, peak_memory
from speed.flops import Sizes, needed_flops
from speed.work import Work

BATCH_SIZE = 8
"""Rows in a batch of the pipeline, as the Trainer's default has it."""

PRODUCTS = "plain products"

Timed = Callable[[], tuple[float, Any]]
"""Runs once over all rows; returns the seconds, and what came out."""


def predict_with_plainloop(run: Run, raw: Any) -> Timed:
    """Texts -> probabilities, with the defaults of `Run.predict`; tokenization is in its time."""
    texts = texts_of(run, raw)

    def predict() -> tuple[float, Any]:
        started = time.perf_counter()
        predicted = run.predict(texts)
        return time.perf_counter() - started, [max(row["scores"].values()) for row in predicted]

    return predict


def predict_with_pipeline(run: Run, raw: Any) -> Timed:
    """Texts -> probabilities with a transformers pipeline; tokenization is in its time."""
    from transformers import pipeline

    classify: Any = pipeline("text-classification", model=str(run.path), device="cpu")
    rows: Any = texts_of(run, raw)
    if len(run.task.text_columns) > 1:
        rows = [{"text": first, "text_pair": second} for first, second in rows]

    def predict() -> tuple[float, Any]:
        started = time.perf_counter()
        predicted = classify(rows, batch_size=BATCH_SIZE, truncation=True)
        return time.perf_counter() - started, [row["score"] for row in predicted]

    return predict


def create_trainer(run: Run, raw: Any, folder: str) -> tuple[Any, Any]:
    """A Trainer with its defaults, and the rows that it predicts, tokenized beforehand."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )

    from plainloop.data.batches.tokenize import tokenize_splits

    tokenizer = AutoTokenizer.from_pretrained(run.path)
    model = AutoModelForSequenceClassification.from_pretrained(run.path)
    args = TrainingArguments(output_dir=folder, report_to="none", use_cpu=True)
    trainer = Trainer(model=model, args=args, processing_class=tokenizer)
    return trainer, tokenize_splits(raw, tokenizer, run.task.text_columns)["validation"]


def predict_with_trainer(run: Run, raw: Any) -> Timed:
    """Tokenized rows -> logits with Trainer.predict; tokenization is not in its time."""
    from scipy.special import softmax

    trainer, rows = create_trainer(run, raw, tempfile.mkdtemp(dir=run.path.parent))

    def predict() -> tuple[float, Any]:
        started = time.perf_counter()
        logits = trainer.predict(rows).predictions
        seconds = time.perf_counter() - started
        return seconds, softmax(logits, axis=-1).max(axis=-1).tolist()

    return predict


def evaluate_with_plainloop(run: Run, raw: Any) -> Timed:  # noqa: ARG001 - it reads them itself
    """Tokenized rows -> loss and metrics, within `evaluate_run`."""
    from plainloop.predict.evaluate_run import evaluate_run
    from plainloop.training import evaluation

    evaluate = evaluation.evaluate

    def timed() -> tuple[float, Any]:
        seconds = []

        def timed_evaluate(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return evaluate(*args, **kwargs)
            finally:
                seconds.append(time.perf_counter() - started)

        with patch.object(evaluation, "evaluate", timed_evaluate):
            scores = evaluate_run(run)
        return sum(seconds), scores["validation"]["loss"]

    return timed


def evaluate_with_trainer(run: Run, raw: Any) -> Timed:
    """Tokenized rows -> loss and the same metrics, with Trainer.evaluate."""
    from plainloop.metrics.task_metric import TaskMetric

    metric = TaskMetric(run.task.metrics, run.task.problem_type, run.task.label_names)
    trainer, rows = create_trainer(run, raw, tempfile.mkdtemp(dir=run.path.parent))

    def compute_metrics(result: Any) -> dict[str, float]:
        metric.add_batch(predictions=result.predictions, references=result.label_ids)
        return metric.compute()

    trainer.compute_metrics = compute_metrics

    def evaluate() -> tuple[float, Any]:
        started = time.perf_counter()
        scores = trainer.evaluate(rows)
        return time.perf_counter() - started, scores["eval_loss"]

    return evaluate


SIDES: dict[str, Callable[[Run, Any], Timed]] = {
    "Run.predict": predict_with_plainloop,
    "pipeline": predict_with_pipeline,
    "Trainer.predict": predict_with_trainer,
    "plainloop.evaluate": evaluate_with_plainloop,
    "Trainer.evaluate": evaluate_with_trainer,
}


def texts_of(run: Run, raw: Any) -> Any:
    """The validation split's texts, or pairs of texts, as `Run.predict` takes them."""
    columns = [raw["validation"][name][:] for name in run.task.text_columns]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


@contextmanager
def finished_run(work: Work, threads: int) -> Iterator[Path]:
    """A run of one step, beside which there is room for other files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        flags = {"--task": work.task, "--data-dir": work.data_dir, "--model": work.model}
        given = [word for flag, value in flags.items() if value for word in (flag, value)]
        subprocess.run(
            [
                *(sys.executable, "-m", "plainloop", "train", *given, "--output-dir", str(path)),
                *("--max-steps", "1", "--eval-strategy", "no", "--save-strategy", "no"),
            ],
            env=environment(threads),
            check=True,
            capture_output=True,
        )
        yield path


def measure_prediction(work: Work, *, passes: int, repeats: int, threads: int) -> dict[str, Any]:
    """Predict and evaluate on all sides in turn.

    Returns:
        sides: for each seconds, a number a repeat; samples and flops (of the needed products) of a
        block; peak_memory; and outcome, of a pass: the probability of each row's label, or the loss.
        gflops: GFLOP/s of plain products, a number a repeat.
    """
    products = replace(work, batch_size=OUR_BATCH_SIZE).dumps()
    with finished_run(work, threads) as run:
        answers = alternate(
            {
                **{side: ("speed.prediction", side, str(run), str(passes)) for side in SIDES},
                PRODUCTS: ("speed.limit", products),
            },
            warm_up={"steps": 1},
            request={"steps": 1},
            repeats=repeats,
            folder=run.parent,
            threads=threads,
            title="prediction",
        )
    gflops = [block["gflops"] for block in answers.pop(PRODUCTS)]
    sides = {
        side: {
            "seconds": [block["seconds"] for block in blocks],
            "samples": blocks[0]["samples"],
            "flops": blocks[0]["flops"],
            "peak_memory": blocks[-1]["peak_memory"],
            "outcome": blocks[-1]["outcome"],
        }
        for side, blocks in answers.items()
    }
    return {"sides": sides, "gflops": gflops}


def flops_of(run: Run, raw: Any) -> int:
    """FLOPs of the products that the logits of the validation rows need."""
    from transformers import AutoConfig

    from plainloop.data.batches.tokenize import tokenize_splits
    from plainloop.model.tokenizer import load_tokenizer

    rows = tokenize_splits(raw, load_tokenizer(str(run.path)), run.task.text_columns)["validation"]
    sizes = Sizes.of(AutoConfig.from_pretrained(run.path), labels=run.task.num_labels)
    return needed_flops(sizes, [len(ids) for ids in rows["input_ids"]])


def main(side: str, path: str, passes: str) -> None:
    """Answer until the parent has enough."""
    from plainloop.training.prepare import load_inputs

    requests, run = Requests(), load_run(path)
    raw = load_inputs(replace(run.config, dry_run=True)).raw
    flops = flops_of(run, raw) * int(passes)
    once = SIDES[side](run, raw)
    while True:
        requests.next()
        times, outcomes = zip(*(once() for _ in range(int(passes))), strict=True)
        requests.answer(
            seconds=sum(times),
            samples=len(raw["validation"]) * int(passes),
            flops=flops,
            peak_memory=peak_memory(),
            outcome=outcomes[-1],
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
