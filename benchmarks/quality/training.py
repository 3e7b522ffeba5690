"""One training of the study, on plainloop's public pieces, and its predictions of held-out rows."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import set_seed
from datasets import Dataset, DatasetDict, concatenate_datasets
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import plainloop as pl
from quality.recipes import DEFAULT, DISTILLED, ENSEMBLE, TEACHERS, Recipe

FOLDS = 5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """The rows of a task: those to train on, and those held out.

    Attributes:
        inputs: of the task, from `pl.load_inputs`.
        raw: train and validation; of a fold, both are parts of GLUE's training rows.
    """

    inputs: Any
    raw: DatasetDict

    @classmethod
    def read(cls, task: str, glue: Path, seed: int | None) -> "Data":
        """Read a fold of GLUE's training rows, split by label; or, without a seed, GLUE's own split.

        Five seeds have the five folds of one partition, the next five those of another.
        """
        config = pl.TrainConfig(task=task, data_dir=glue, model="demo", dry_run=True)
        inputs = pl.load_inputs(config)
        if seed is None:
            return cls(inputs, inputs.raw)
        rows = inputs.raw["train"]
        splitter = (KFold if inputs.task.problem_type == "regression" else StratifiedKFold)(
            FOLDS, shuffle=True, random_state=seed // FOLDS
        )
        parts = list(splitter.split(np.zeros(len(rows)), rows["label"]))[seed % FOLDS]
        train, held_out = (rows.select(part) for part in parts)
        return cls(inputs, DatasetDict(train=train, validation=held_out))

    def swapped(self) -> "Data":
        """The same rows with both texts of each pair exchanged."""
        first, second = self.inputs.task.text_columns
        names = {first: second, second: first}
        raw = {split: rows.rename_columns(names) for split, rows in self.raw.items()}
        return replace(self, raw=DatasetDict(raw))

    def without_texts_of(self, other: "Data") -> "Data":
        """The same without the training rows that share a text with another's held-out rows.

        STS-B has pairs of MRPC's, with graded similarities: they would give the held-out labels away.
        """
        held_out = {
            only_letters(text)
            for column in other.inputs.task.text_columns
            for text in other.raw["validation"][column]
        }
        columns = self.inputs.task.text_columns
        train = self.raw["train"].filter(
            lambda row: held_out.isdisjoint(only_letters(row[column]) for column in columns)
        )
        return replace(self, raw=DatasetDict({**self.raw, "train": train}))


def only_letters(text: str) -> str:
    """Letters and digits in lower case: the same for two tokenizations of a sentence."""
    return "".join(filter(str.isalnum, text)).casefold()


class MeanPooled(nn.Module):
    """A classifier on the mean of an encoder's tokens, with the head of Transformers' own."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.base, self.dropout, self.classifier = model.base_model, model.dropout, model.classifier

    def forward(self, attention_mask: torch.Tensor, **inputs: torch.Tensor) -> Any:
        """Logits, float (rows, labels)."""
        inputs.pop("labels", None)
        hidden = self.base(attention_mask=attention_mask, **inputs).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return _Outputs(self.classifier(self.dropout(mean)))


@dataclass
class _Outputs:
    logits: torch.Tensor


class Predicted(NamedTuple):
    """A result: probabilities, float64 (rows, labels), or values (rows, 1); seconds of the training."""

    rows: Floats
    seconds: float


def train_recipe(recipe: Recipe, data: Data, glue: Path, seed: int) -> Predicted:
    """Train by a recipe and predict the held-out rows."""
    started, encoder = time.perf_counter(), None
    if recipe.first_task:
        rows = Data.read(recipe.first_task, glue, None).without_texts_of(data)
        first = Training(Recipe(), rows, seed)
        first.train()
        encoder = first.model.base_model.eval().state_dict()
    training = Training(recipe, data, seed, encoder)
    training.train()
    seconds = time.perf_counter() - started
    return Predicted(training.predict("validation"), seconds)


def train_with_teachers(data: Data, seed: int) -> dict[str, Predicted]:
    """Train the default with several seeds, and one more model on the mean of what they predict.

    Returns:
        Results of the default, the ensemble and the distilled model.
    """
    started, seconds = time.perf_counter(), []
    held_out, soft = [], []
    for teacher in range(TEACHERS):
        training = Training(Recipe(), data, seed + 1000 * teacher)
        training.train()
        seconds.append(time.perf_counter() - started)
        held_out.append(training.predict("validation"))
        soft.append(training.predict("train"))
    student = Training(Recipe(), data, seed, targets=np.mean(soft, axis=0))
    student.train()
    seconds.append(time.perf_counter() - started)
    return {
        DEFAULT: Predicted(held_out[0], seconds[0]),
        ENSEMBLE: Predicted(np.mean(held_out, axis=0), seconds[-2]),
        DISTILLED: Predicted(student.predict("validation"), seconds[-1]),
    }


class Training:
    """A model in training; its data, loaders and optimizer as in train.py."""

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        seed: int,
        encoder: dict[str, torch.Tensor] | None = None,
        targets: Floats | None = None,
    ) -> None:
        """Load what a training needs.

        Args:
            recipe: what differs from the default.
            data: rows to train on and to predict.
            seed: of the head, the dropout and the order of the rows.
            encoder: state of an encoder to begin with, instead of the pretrained one.
            targets: predictions of teachers for the training rows, which the labels are averaged with.
        """
        inputs = data.inputs
        settings = {"eval_strategy": "no", "save_strategy": "no", **recipe.settings, "seed": seed}
        config = replace(inputs.config, dry_run=False, **settings)
        if recipe.both_orders:
            config = replace(config, num_train_epochs=config.num_train_epochs / 2)
        self.recipe, self.config, self.task = recipe, config, inputs.task
        self.is_value = inputs.task.problem_type == "regression"
        self.accelerator = pl.create_accelerator(config)
        self.tokenizer = pl.load_tokenizer(inputs.pretrained)
        self.orders = [
            pl.keep_model_inputs(
                pl.tokenize_splits(
                    each.raw, self.tokenizer, self.task.text_columns, config.max_length
                ),
                self.tokenizer,
            )
            for each in ([data, data.swapped()] if recipe.both_orders else [data])
        ]
        rows = concatenate_datasets([each["train"] for each in self.orders])
        if targets is not None:
            rows = soften(rows, targets, self.task)
        self.loader = self.load({"train": rows})["train"]
        set_seed(config.seed)
        model, _ = pl.create_model(inputs.pretrained, self.task, config, self.tokenizer)
        if encoder is not None:
            model.base_model.load_state_dict(encoder)
        if targets is not None and not self.is_value:
            # The model computes a loss of its own, which is not used but must accept soft labels.
            model.config.problem_type = "multi_label_classification"
        if recipe.mean_pooling:
            # Unpadded execution asks for this, as ModernBERT's config has it, and computes all tokens.
            model.config.classifier_pooling = "mean"
        pl.choose_execution(model, rows, config, self.accelerator)
        self.model: Any = MeanPooled(model) if recipe.mean_pooling else model
        self.optimizer = create_optimizer(self.model, config, recipe.layerwise_decay)

    def load(self, splits: dict[str, Dataset]) -> dict[str, DataLoader[Any]]:
        """Loaders of tokenized rows; only those of "train" are shuffled."""
        return pl.create_dataloaders(DatasetDict(splits), self.tokenizer, self.config, self.task)

    def train(self) -> None:
        """Train by `pl.train`, without a run folder."""
        model, optimizer, loader = self.accelerator.prepare(self.model, self.optimizer, self.loader)
        steps = pl.count_training_steps(len(loader), self.config)
        scheduler = pl.create_scheduler(optimizer, steps, self.config)
        means = average_weights(self.model, optimizer, self.recipe.weight_average)
        set_seed(self.config.seed)
        pl.train(
            model,
            optimizer,
            scheduler,
            loader,
            config=self.config,
            accelerator=self.accelerator,
            num_training_steps=steps,
            loss_fn=squared_error if self.is_value else cross_entropy,
        )
        with torch.no_grad():
            for parameter, mean in means.items():
                parameter.copy_(mean)

    def predict(self, split: str) -> Floats:
        """Predict the rows of train or validation, as `Predicted.rows`; the mean of both orders."""
        self.model.eval()
        found = []
        for order in self.orders:
            logits = []
            with torch.inference_mode():
                for batch in self.load({"validation": order[split]})["validation"]:
                    inputs = {k: v for k, v in batch.items() if k not in ("labels", "idx")}
                    logits.append(self.model(**inputs).logits.double())
            values = torch.cat(logits)
            found.append(values if self.is_value else values.softmax(-1))
        return np.asarray(torch.stack(found).mean(0))


def soften(rows: Dataset, targets: Floats, task: Any) -> Dataset:
    """Rows whose labels are the mean of the label and a teacher's prediction, float (rows, labels)."""
    labels = np.asarray(rows["labels"], dtype=np.float64)
    if task.problem_type == "regression":
        mean = ((labels + targets[:, 0]) / 2).astype(np.float32)
    else:
        mean = ((np.eye(task.num_labels)[labels.astype(int)] + targets) / 2).astype(np.float32)
    # In this order, as a data set without columns has no rows.
    softened = rows.add_column("soft", mean.tolist()).remove_columns("labels")
    return softened.rename_column("soft", "labels")


def cross_entropy(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy; labels are ids (rows,) or probabilities (rows, labels)."""
    return functional.cross_entropy(outputs.logits, labels)


def squared_error(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Mean squared error of a regression; labels (rows,)."""
    return functional.mse_loss(outputs.logits.squeeze(-1), labels)


def create_optimizer(model: nn.Module, config: Any, decay: float) -> torch.optim.Optimizer:
    """Plainloop's optimizer; with a decay below 1 each layer of the encoder has its learning rate."""
    optimizer = pl.create_optimizer(model, config)
    if decay == 1.0:
        return optimizer
    layers: Any = next(one for name, one in model.named_modules() if name.endswith("encoder.layer"))
    depths = {
        parameter: len(layers) - number
        for number, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
    for name, parameter in model.named_parameters():
        if "embeddings." in name:
            depths[parameter] = len(layers) + 1
    groups = [
        {**group, "params": [parameter], "lr": group["lr"] * decay ** depths.get(parameter, 0)}
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    optimizer.param_groups.clear()
    for group in groups:
        optimizer.add_param_group(group)
    return optimizer


def average_weights(
    model: nn.Module, optimizer: Any, decay: float | None
) -> dict[nn.Parameter, torch.Tensor]:
    """Means of the trainable parameters, which each step of the optimizer moves; none without decay."""
    if decay is None:
        return {}
    means = {p: p.detach().clone() for p in model.parameters() if p.requires_grad}

    def move(*_: Any) -> None:
        for parameter, mean in means.items():
            mean.lerp_(parameter.detach(), 1 - decay)

    optimizer.optimizer.register_step_post_hook(move)  # of Accelerate's, torch's own
    return means
