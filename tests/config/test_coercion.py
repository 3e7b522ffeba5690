"""Settings as people write them in Python: converted, or refused by the name of the field."""

from pathlib import Path

import numpy as np
import pytest

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("train_file", "f.csv", ("f.csv",)),
        ("train_file", Path("f.csv"), ("f.csv",)),
        ("train_file", ["a", "b"], ("a", "b")),
        ("train_file", [], ()),
        ("report_to", "wandb", ("wandb",)),
        ("output_dir", "runs/x", Path("runs/x")),
        ("data_dir", "GLUE", Path("GLUE")),
        ("model", Path("runs/x"), "runs/x"),
        ("learning_rate", "3e-5", 3e-5),
        ("learning_rate", 1, 1.0),
        ("dropout", np.float32(0.5), 0.5),
        ("seed", "7", 7),
        ("seed", np.int64(7), 7),
        ("max_length", 128.0, 128),
        ("overwrite", np.True_, True),
        ("class_weights", np.array([1, 2.5]), (1.0, 2.5)),
        ("class_weights", "balanced", "balanced"),
        ("threshold_costs", [1, 5], (1.0, 5.0)),
        ("label_separator", ", ", ", "),
        ("text_column", [0, "1"], ("0", "1")),
        ("lr_scheduler_kwargs", {"num_cycles": 2}, {"num_cycles": 2}),
    ],
)
def test_a_value_that_says_the_same_is_converted(name, given, held):
    value = getattr(TrainConfig(**{name: given}), name)
    assert value == held
    assert type(value) is type(held)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("learning_rate", "fast"),
        ("learning_rate", None),
        ("learning_rate", True),
        ("learning_rate", [1e-5, 2e-5]),
        ("seed", 1.5),
        ("seed", True),
        ("seed", [1, 2]),
        ("max_length", float("inf")),
        ("model", None),
        ("train_file", [None]),
        ("train_file", {"a": "b"}),
        ("overwrite", "maybe"),
        ("problem_type", "regresion"),
        ("class_weights", "balansed"),
        ("class_weights", {"a": 1}),
        ("threshold_costs", [1]),
        ("lr_scheduler_kwargs", "num_cycles"),
        ("eval_strategy", False),
    ],
)
def test_another_value_is_refused_by_the_name_of_its_field(name, given):
    with pytest.raises(UserError) as caught:
        TrainConfig(**{name: given})
    assert str(caught.value).startswith(f"{name}: cannot be {given!r}; ")


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(UserError) as caught:
        TrainConfig(seed="x", learning_rate="y")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "learning_rate",
        "seed",
    ]
