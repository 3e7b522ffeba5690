"""What the study compares with the default: each recipe changes one thing of a training, or a few."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a training differs from `plainloop train --model demo`.

    Attributes:
        settings: of `TrainConfig`, except those of the loss.
        layerwise_decay: factor of the learning rate from each layer to the one below it, as in ULMFiT
            (Howard and Ruder, 2018) and ELECTRA (Clark et al., 2020).
        mean_pooling: the classifier reads the mean of the tokens instead of the pooled first one.
        both_orders: half of the epochs over pairs in both orders; predictions are the mean of both.
        weight_average: decay per optimizer step of an exponential moving average of the weights, which
            predicts instead of the last weights (Polyak and Juditsky, 1992).
        first_task: task that the encoder is trained on before, with the default settings and all of
            that task's training rows (intermediate-task training; Phang et al., 2018).
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    layerwise_decay: float = 1.0
    mean_pooling: bool = False
    both_orders: bool = False
    weight_average: float | None = None
    first_task: str | None = None


WARM_UP = {"warmup_steps": 0.1}
BATCH_16 = {
    "per_device_train_batch_size": 16,
    "learning_rate": 2e-4,
    "num_train_epochs": 4.0,
    **WARM_UP,
}
DEFAULT = "default"
RECIPES: dict[str, Recipe] = {
    DEFAULT: Recipe(),
    "lr 1e-4": Recipe({"learning_rate": 1e-4, **WARM_UP}),
    "lr 2e-4": Recipe({"learning_rate": 2e-4, **WARM_UP}),
    "4 epochs": Recipe({"num_train_epochs": 4.0, **WARM_UP}),
    # A learning rate that falls to 0 averages the last weights by itself.
    "lr 1e-4, constant, weight average": Recipe(
        {"learning_rate": 1e-4, "lr_scheduler_type": "constant_with_warmup", **WARM_UP},
        weight_average=0.995,
    ),
    "both orders": Recipe(both_orders=True),
    "mean pooling": Recipe(mean_pooling=True),
    "lr 1e-4, layer-wise decay": Recipe({"learning_rate": 1e-4, **WARM_UP}, layerwise_decay=0.9),
    "lr 1e-4, 4 epochs, dropout 0.05": Recipe(
        {"learning_rate": 1e-4, "num_train_epochs": 4.0, "dropout": 0.05, **WARM_UP}
    ),
    "batch 16, lr 2e-4, 4 epochs": Recipe(BATCH_16),
    "batch 16, lr 2e-4, 4 epochs, mean pooling": Recipe(BATCH_16, mean_pooling=True),
    "batch 32, lr 3e-4, 5 epochs, layer-wise decay": Recipe(
        {
            "per_device_train_batch_size": 32,
            "learning_rate": 3e-4,
            "num_train_epochs": 5.0,
            **WARM_UP,
        },
        layerwise_decay=0.8,
    ),
    "STS-B first": Recipe(first_task="stsb"),
}
TEACHERS = 3
ENSEMBLE, DISTILLED = f"ensemble of {TEACHERS}", f"distilled from {TEACHERS}"
"""Recipes of several trainings: the mean prediction of that many seeds, one of which is the default's;
and a training whose labels are averaged with that mean (Hinton et al., 2015, at temperature 1)."""
PAIRS_ONLY = {"both orders"}
