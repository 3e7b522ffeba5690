"""The sides that train: a process that runs one of them, as many steps at a time as it is asked for.

    python -m speed.training SIDE WORK

All have the same rows in a batch, the same order (but for group_by_length), truncation, seed and
schedule, log every step and show a bar; nothing is evaluated or saved. What they print goes to a file.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from speed.child import Requests
from speed.pauses import Pauses
from speed.sides import AUTO, DEFAULT, GROUPED, PADDED, SWITCHED, TRAINER, TUTORIAL
from speed.work import Work, create_trainer, load_tokenized


def run_tutorial(work: Work, folder: Path, pauses: Pauses) -> None:  # noqa: ARG001 - all are called alike
    """The loop of the tutorial: plain torch, AdamW as it comes, no clipping."""
    from accelerate.data_loader import SeedableRandomSampler
    from torch.utils.data import DataLoader
    from tqdm.auto import tqdm
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        get_scheduler,
        set_seed,
    )

    from plainloop.data.batches.tokenize import keep_model_inputs

    inputs, tokenizer, tokenized = load_tokenized(work)
    config = inputs.config
    rows = keep_model_inputs(tokenized, tokenizer)["train"].remove_columns("idx")
    train_dataloader: Any = DataLoader(
        rows,
        batch_size=work.batch_size,
        sampler=SeedableRandomSampler(rows, data_seed=config.seed),  # instead of shuffle=True
        collate_fn=DataCollatorWithPadding(tokenizer),
    )
    set_seed(config.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        inputs.pretrained, num_labels=inputs.task.num_labels
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    lr_scheduler = get_scheduler(
        "linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=work.max_steps
    )
    progress_bar = tqdm(range(work.max_steps))
    losses = []
    set_seed(config.seed)

    model.train()
    while True:  # the parent says when it is enough
        for batch in train_dataloader:
            outputs = model(**batch)
            loss = outputs.loss
            loss.backward()

            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            progress_bar.update(1)


def run_trainer(work: Work, folder: Path, pauses: Pauses, **arguments: Any) -> None:  # noqa: ARG001
    """The Trainer with its defaults, and what else is given to TrainingArguments."""
    create_trainer(work, folder, logging_steps=1, use_cpu=True, **arguments).train()


def run_switched_trainer(work: Work, folder: Path, pauses: Pauses) -> None:
    """The Trainer after the one line with which a user gets oneDNN's matrix products."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    run_trainer(work, folder, pauses)


def run_plainloop(work: Work, folder: Path, pauses: Pauses, **settings: Any) -> None:
    """What `plainloop train` does."""
    from plainloop.training import fine_tune as fine_tuning
    from plainloop.training.loop import train

    def forget_and_train(*args: Any, **kwargs: Any) -> Any:
        pauses.forget_batches()  # the one that is shown before the training
        return train(*args, **kwargs)

    with patch.object(fine_tuning, "train", forget_and_train):
        fine_tuning.fine_tune(work.config(output_dir=folder, **settings))


Loop = Callable[[Work, Path, Pauses], None]
LOOPS: dict[str, Loop] = {
    TUTORIAL: run_tutorial,
    TRAINER: run_trainer,
    GROUPED: partial(run_trainer, train_sampling_strategy="group_by_length"),
    SWITCHED: run_switched_trainer,
    PADDED: partial(run_plainloop, execution="padded"),
    DEFAULT: partial(run_plainloop, products="default"),
    AUTO: run_plainloop,
}


def main(side: str, work: str) -> None:
    """Train until the parent has enough."""
    pauses = Pauses(Requests())
    with tempfile.TemporaryDirectory() as folder:
        LOOPS[side](Work.loads(work), Path(folder) / "run", pauses)


if __name__ == "__main__":
    main(*sys.argv[1:])
