"""What all sides of a comparison work on: the data, the model, the rows of a batch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from plainloop.config.settings import TrainConfig

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedTokenizerBase

    from plainloop.training.prepare import Inputs


@dataclass(frozen=True)
class Work:
    """The settings that all sides share.

    Attributes:
        task: name of a task.
        data_dir: folder of the GLUE files; None for the embedded data.
        model: as `--model` takes it.
        batch_size: rows of a training batch.
        max_steps: optimizer steps of the schedule.
    """

    task: str
    data_dir: str | None
    model: str
    batch_size: int
    max_steps: int

    def dumps(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        """The inverse of `dumps`."""
        return cls(**json.loads(text))

    def config(self, **settings: Any) -> TrainConfig:
        """The settings for plainloop: every step is logged, nothing evaluated or saved within the run."""
        defaults = {
            "task": self.task,
            "data_dir": Path(self.data_dir) if self.data_dir else None,
            "model": self.model,
            "per_device_train_batch_size": self.batch_size,
            "max_steps": self.max_steps,
            "logging_steps": 1,
            "eval_strategy": "no",
            "save_strategy": "no",
            "use_cpu": True,
        }
        return TrainConfig(**{**defaults, **settings})


def load_tokenized(work: Work) -> "tuple[Inputs, PreTrainedTokenizerBase, DatasetDict]":
    """The task, the tokenizer, and the splits with the tokenizer's columns, truncated alike."""
    from plainloop.data.batches.tokenize import tokenize_splits
    from plainloop.model.tokenizer import load_tokenizer
    from plainloop.training.prepare import load_inputs

    inputs = load_inputs(work.config(dry_run=True))
    tokenizer = load_tokenizer(inputs.pretrained)
    return inputs, tokenizer, tokenize_splits(inputs.raw, tokenizer, inputs.task.text_columns)


def create_trainer(work: Work, folder: Path, **arguments: Any) -> Any:
    """The Trainer with its defaults, what is measured of it, and further TrainingArguments."""
    from transformers import (
        AutoModelForSequenceClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    inputs, tokenizer, tokenized = load_tokenized(work)
    set_seed(inputs.config.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        inputs.pretrained, num_labels=inputs.task.num_labels
    )
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=work.batch_size,
        max_steps=work.max_steps,
        seed=inputs.config.seed,
        save_strategy="no",
        report_to="none",
        **arguments,
    )
    return Trainer(
        model=model, args=args, train_dataset=tokenized["train"], processing_class=tokenizer
    )
