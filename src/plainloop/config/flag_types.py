"""Types, converters and --help groups of the command line flags."""

from collections.abc import Sequence
from typing import Any, Literal

from cyclopts import CoercionError, Group, Parameter, Token

DATA = Parameter(group=Group("Data", sort_key=1))
MODEL = Parameter(group=Group("Model", sort_key=2))
OPTIM = Parameter(group=Group("Optimization", sort_key=3))
EVAL = Parameter(group=Group("Evaluation", sort_key=4))
RUN = Parameter(group=Group("Run", sort_key=5))

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
]
Optim = Literal["adamw_torch_fused", "adamw_torch", "sgd", "adafactor"]
OPTIMIZER_NAMES: dict[Optim, str] = {
    "adamw_torch_fused": "AdamW",
    "adamw_torch": "AdamW",
    "sgd": "SGD",
    "adafactor": "Adafactor",
}
"""Optimizer -> its name in prose."""
ClassWeights = Literal["balanced"] | tuple[float, ...]
Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]


def to_whole_number(_type: Any, tokens: Sequence[Token]) -> int:
    """Convert a flag's value to int, and reject 1.5, which cyclopts would round.

    Raises:
        CoercionError: the value is not an integer.
    """
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CoercionError(token=tokens[0], target_type=int) from None


def to_class_weights(_type: Any, tokens: Sequence[Token]) -> str | tuple[float, ...]:
    """Convert the values of --class-weights: the word balanced, or one number for each label.

    Raises:
        CoercionError: the values are neither.
    """
    words = [token.value for token in tokens]
    try:
        return "balanced" if words == ["balanced"] else tuple(map(float, words))
    except ValueError:
        raise CoercionError(token=tokens[0], target_type=float) from None


def to_label_columns(_type: Any, tokens: Sequence[Token]) -> str | tuple[str, ...]:
    """Convert the values of --label-column: one name, or several."""
    names = tuple(token.value for token in tokens)
    return names[0] if len(names) == 1 else names


FILES = Parameter(consume_multiple=True, negative=(), show_default=False)
WHOLE = Parameter(converter=to_whole_number)
LABEL_COLUMNS = Parameter(
    converter=to_label_columns, consume_multiple=True, n_tokens=-1, negative=()
)
WEIGHTS = Parameter(converter=to_class_weights, consume_multiple=True, n_tokens=-1, negative=())
