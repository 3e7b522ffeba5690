"""Tokenization: plainloop's, and `Dataset.map` as the tutorial calls it, over the training rows.

    python -m speed.tokenization SIDE WORK

A process that answers each request with the seconds and samples of tokenizing the training rows. Each
time the texts are others, so that no cache of earlier ones helps.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speed.alternate import alternate
from speed.child import Requests
from speed.work import Work

COPIES = 5
"""How often the training rows are repeated, each time a little different."""

Tokenize = Callable[[Any, Any, tuple[str, ...]], object]


def tokenize_with_plainloop(raw: Any, tokenizer: Any, columns: tuple[str, ...]) -> object:
    """What `plainloop train` calls."""
    from plainloop.data.batches.tokenize import tokenize_splits

    with tempfile.TemporaryDirectory() as folder:
        return tokenize_splits(raw, tokenizer, columns, cache_dir=Path(folder))


def tokenize_with_map(raw: Any, tokenizer: Any, columns: tuple[str, ...]) -> object:
    """What the tutorial calls."""
    return raw.map(
        lambda rows: tokenizer(*(list(rows[name]) for name in columns), truncation=True),
        batched=True,
    )


SIDES: dict[str, Tokenize] = {
    "tokenize_splits": tokenize_with_plainloop,
    "DatasetDict.map": tokenize_with_map,
}


def other_texts(rows: Any, columns: tuple[str, ...], number: int) -> Any:
    """Copies of the rows, each text with a number behind it that it has not had before."""
    from datasets import Dataset, DatasetDict

    changed: dict[str, list[str]] = {
        name: [f"{text} {number} {copy}" for copy in range(COPIES) for text in rows[name]]
        for name in columns
    }
    return DatasetDict(train=Dataset.from_dict(changed))


def measure_tokenization(work: Work, *, repeats: int, threads: int) -> dict[str, Any]:
    """Tokenize on both sides in turn.

    Returns:
        For each side seconds, a number a repeat, and samples of a block.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = alternate(
            {side: ("speed.tokenization", side, work.dumps()) for side in SIDES},
            warm_up={},
            request={},
            repeats=repeats,
            folder=Path(folder),
            threads=threads,
            title="tokenization",
        )
    return {
        side: {
            "seconds": [block["seconds"] for block in blocks],
            "samples": blocks[0]["samples"],
        }
        for side, blocks in answers.items()
    }


def main(side: str, work: str) -> None:
    """Answer until the parent has enough."""
    from plainloop.model.tokenizer import load_tokenizer
    from plainloop.training.prepare import load_inputs

    requests = Requests()
    inputs = load_inputs(Work.loads(work).config(dry_run=True))
    tokenizer, columns = load_tokenizer(inputs.pretrained), inputs.task.text_columns
    number = 0
    while True:
        requests.next()
        raw = other_texts(inputs.raw["train"], columns, number)
        started = time.perf_counter()
        SIDES[side](raw, tokenizer, columns)
        requests.answer(seconds=time.perf_counter() - started, samples=len(raw["train"]))
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
