"""The settings: documented, frozen, the Trainer's defaults, each range with its edges, YAML."""

import ast
import dataclasses
import math
import typing
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from plainloop.cli.flags import parse_config
from plainloop.config import settings as settings_module
from plainloop.config.flag_types import Schedule
from plainloop.config.settings import TrainConfig
from plainloop.config.validation import check_config, flag
from plainloop.errors import UserError

FIELDS = [field.name for field in dataclasses.fields(TrainConfig)]
TRAINER_DEFAULTS = [
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "label_smoothing_factor",
    "seed",
    "dataloader_num_workers",
]
TINY = math.ulp(0)
NEARLY_1 = math.nextafter(1, 0)
ABOVE_1 = math.nextafter(1, 2)
LARGE = 1e300
NOT_FINITE = [math.nan, math.inf, -math.inf]
COUNT = ([1, 10**9], [0, -1])
COUNT_OR_0 = ([0, 10**9], [-1])
POSITIVE = ([TINY, LARGE], [0.0, -TINY, *NOT_FINITE])
NOT_NEGATIVE = ([0.0, LARGE], [-TINY, *NOT_FINITE])
BELOW_1 = ([0.0, NEARLY_1], [-TINY, 1.0, *NOT_FINITE])
EDGES = {
    "max_length": COUNT,
    "save_steps": COUNT,
    "save_total_limit": ([2, 10**9], [1, 0, -1]),
    "max_train_samples": COUNT,
    "dropout": BELOW_1,
    "freeze_layers": COUNT_OR_0,
    "num_train_epochs": POSITIVE,
    "validation_fraction": ([TINY, 0.5], [0.0, 1.0, -TINY, ABOVE_1, *NOT_FINITE]),
    "validation_seed": ([0, 2**32 - 1], [-1, 2**32]),
    "stride": COUNT_OR_0,
    "lora_rank": COUNT,
    "lora_alpha": POSITIVE,
    "focal_gamma": NOT_NEGATIVE,
    "max_steps": ([-1, 1, 10**9], [0, -2]),
    "per_device_train_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "learning_rate": POSITIVE,
    "warmup_steps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "adam_beta1": BELOW_1,
    "adam_beta2": BELOW_1,
    "adam_epsilon": POSITIVE,
    "max_grad_norm": NOT_NEGATIVE,
    "label_smoothing_factor": ([0.0, 1.0], [-TINY, ABOVE_1, *NOT_FINITE]),
    "class_weights": (
        [(TINY, LARGE), "balanced"],
        [(0.0, 1.0), (1.0, -1.0), *((1.0, value) for value in NOT_FINITE)],
    ),
    "threshold_costs": (
        [(TINY, LARGE)],
        [(0.0, 1.0), (1.0, -1.0), *((1.0, value) for value in NOT_FINITE)],
    ),
    "seed": ([0, 2**32 - 1], [-1, 2**32]),
    "eval_steps": COUNT,
    "per_device_eval_batch_size": COUNT,
    "early_stopping_patience": COUNT,
    "early_stopping_threshold": NOT_NEGATIVE,
    "logging_steps": COUNT,
    "dataloader_num_workers": COUNT_OR_0,
    "ddp_timeout": COUNT,
    "step_timeout": COUNT,
}


OF_THE_COMMAND = {
    "--seeds",
    "--cv",
    "--quiet",
    "--log-format",
    "--push-to-hub",
    "--hub-model-id",
    "--hub-private-repo",
}
"""Flags of `plainloop train` that are no setting of a run."""


def docs_of_fields():
    tree = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))
    [body] = [node.body for node in tree.body if getattr(node, "name", "") == "TrainConfig"]
    return {
        node.target.id: after.value.value
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(getattr(after, "value", 0), ast.Constant)
    }


def test_every_field_has_a_docstring_that_is_its_help(run_command):
    docs = docs_of_fields()
    assert list(docs) == FIELDS
    shown = run_command("-m", "plainloop", "train", "--help-all", COLUMNS="400").stdout
    shown = shown.replace("│ TRAIN-FILE --", "│ --")  # which needs no flag
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│ --")}
    of_fields = [flag(name) for name in FIELDS]
    assert [name for name in lines if name in of_fields] == of_fields
    assert lines.keys() - set(of_fields) == OF_THE_COMMAND
    assert [name for name in FIELDS if docs[name] not in lines[flag(name)]] == []


@pytest.mark.parametrize("name", TRAINER_DEFAULTS)
def test_defaults_are_the_trainers(name):
    from transformers import TrainingArguments

    theirs = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    assert theirs["optim"] == "adamw_torch_fused"
    assert getattr(TrainConfig(), name) == theirs[name]


def test_the_schedules_are_the_trainers():
    from transformers.trainer_utils import SchedulerType

    assert set(typing.get_args(Schedule)) == {schedule.value for schedule in SchedulerType}


@pytest.mark.parametrize("name", FIELDS)
def test_settings_cannot_be_changed(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(TrainConfig(), name, None)


def test_every_number_has_its_edges_below():
    hints = typing.get_type_hints(TrainConfig)
    numbers = [name for name, hint in hints.items() if {"int", "float"} & words_of(hint)]
    assert sorted(numbers) == sorted({*EDGES, "lr_scheduler_kwargs"})


def words_of(hint):
    parts = {getattr(hint, "__name__", "")}
    for part in typing.get_args(hint):
        parts |= words_of(part)
    return parts


NEEDS = {
    "eval_steps": {"eval_strategy": "steps"},
    "save_steps": {"save_strategy": "steps"},
    "early_stopping_threshold": {"early_stopping_patience": 1},
    "lora_alpha": {"lora_rank": 8},
}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("eval_steps", {"eval_steps": 5}),
        ("save_steps", {"save_steps": 5}),
        ("early_stopping_threshold", {"early_stopping_threshold": 0.1}),
        ("lora_alpha", {"lora_alpha": 8.0}),
        ("merge_lora", {"merge_lora": True}),
        ("group_column", {"group_column": "user", "validation_file": ("v.csv",)}),
        ("validation_fraction", {"validation_fraction": 0.2, "validation_file": ("v.csv",)}),
        ("validation_seed", {"validation_seed": 1, "validation_file": ("v.csv",)}),
        ("warmup_steps", {"warmup_steps": 10, "lr_scheduler_type": "constant"}),
        ("adam_beta1", {"adam_beta1": 0.8, "optim": "sgd"}),
        ("adam_epsilon", {"adam_epsilon": 1e-6, "optim": "adafactor"}),
    ],
)
def test_a_setting_without_effect_is_refused(name, setting):
    with pytest.raises(UserError, match="has no effect alone; it needs") as caught:
        check_config(TrainConfig(**setting))
    assert caught.value.where == flag(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bf16": True, "fp16": True}, "--bf16 and --fp16 are two precisions; give one"),
        (
            {"dtype": "bfloat16"},
            (
                "--dtype bfloat16 would train weights in half precision; leave it out, or freeze them with "
                "--lora-rank"
            ),
        ),
        (
            {"dtype": "bfloat16", "lora_rank": 8, "merge_lora": True},
            "--merge-lora would round the adapters to --dtype bfloat16; give one of them",
        ),
        *(
            (
                {"train_sampling_strategy": "group_by_length", **more},
                (
                    "--train-sampling-strategy group_by_length is for padded batches of one window a row; "
                    "leave it out, or --execution unpadded and --stride"
                ),
            )
            for more in ({"execution": "unpadded"}, {"stride": 8})
        ),
    ],
)
def test_settings_that_contradict_each_other_are_one_line(settings, message):
    with pytest.raises(UserError) as caught:
        check_config(TrainConfig(**settings))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, (allowed, _) in EDGES.items() for value in allowed],
)
def test_a_value_at_the_edge_is_allowed(name, value):
    assert check_config(TrainConfig(**{name: value, **NEEDS.get(name, {})})) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, (_, refused) in EDGES.items() for value in refused],
)
def test_a_value_past_the_edge_is_refused_by_its_flag(name, value):
    with pytest.raises(UserError) as caught:
        check_config(TrainConfig(**{name: value, **NEEDS.get(name, {})}))
    assert caught.value.where == flag(name)
    assert str(value) in caught.value.what
    assert caught.value.fix.startswith("give ")


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("dropout", 1.0, "give at least 0 and less than 1"),
        ("label_smoothing_factor", 2.0, "give at least 0 and at most 1"),
        ("max_steps", 0, "give at least 1, or -1 to train by epochs"),
        ("seed", 2**32, "give at least 0 and at most 4294967295"),
    ],
)
def test_the_fix_names_the_edges_exactly(name, value, fix):
    with pytest.raises(UserError) as caught:
        check_config(TrainConfig(**{name: value}))
    assert caught.value.fix == fix


def test_the_fix_for_an_infinite_number_asks_for_a_finite_one():
    with pytest.raises(UserError) as caught:
        check_config(TrainConfig(learning_rate=math.inf))
    assert "finite" in caught.value.fix


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({"early_stopping_patience": 1}, "--early-stopping-patience"),
        ({"load_best_model_at_end": True}, "--load-best-model-at-end"),
        ({"threshold_metric": "f1"}, "--threshold-metric"),
        ({"threshold_costs": (1.0, 5.0)}, "--threshold-costs"),
        ({"calibrate": True}, "--calibrate"),
        ({"lr_scheduler_type": "greedy"}, "--lr-scheduler-type greedy"),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau"},
            "--lr-scheduler-type reduce_lr_on_plateau",
        ),
    ],
)
def test_what_needs_evaluations_is_refused_without_them(wanted, where):
    with pytest.raises(UserError, match="needs evaluations; set --eval-strategy") as caught:
        check_config(TrainConfig(eval_strategy="no", **wanted))
    assert caught.value.where == where
    assert check_config(TrainConfig(eval_strategy="steps", **wanted)) is None


def test_all_problems_are_reported_at_once():
    config = TrainConfig(
        learning_rate=-1,
        dropout=math.nan,
        max_steps=0,
        class_weights=(0.0, 1.0),
        eval_strategy="no",
        load_best_model_at_end=True,
    )
    with pytest.raises(UserError) as caught:
        check_config(config)
    flags = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert flags == {
        "--learning-rate",
        "--dropout",
        "--max-steps",
        "--class-weights",
        "--load-best-model-at-end",
    }


@pytest.mark.parametrize(
    ("given_settings", "metric", "more"),
    [
        ({}, "loss", False),
        ({"metric_for_best_model": "loss"}, "loss", False),
        ({"metric_for_best_model": "f1"}, "f1", True),
        ({"metric_for_best_model": "f1", "greater_is_better": False}, "f1", False),
        ({"greater_is_better": True}, "loss", True),
    ],
)
def test_the_best_is_by_loss_unless_a_metric_is_named(given_settings, metric, more):
    config = TrainConfig(**given_settings)
    assert (config.best_metric, config.more_is_better) == (metric, more)


def test_the_output_folder_is_named_after_the_task():
    assert TrainConfig(task="demo").run_path == Path("runs/demo")
    chosen = TrainConfig(task="demo", output_dir=Path("mine"))
    assert chosen.run_path == chosen.output_dir


texts = st.text(st.characters(codec="utf-8"), min_size=1)
positive = st.floats(TINY, LARGE)


@pytest.mark.slow
@settings(max_examples=50)
@given(
    chosen=st.fixed_dictionaries(
        {},
        optional={
            "model": texts,
            "data_dir": texts.filter(lambda text: "\0" not in text).map(Path),
            "metric_for_best_model": st.none() | texts,
            "learning_rate": positive,
            "adam_epsilon": positive,
            "seed": st.integers(0, 2**32 - 1),
            "max_train_samples": st.none() | st.integers(1),
            "class_weights": st.none()
            | st.just("balanced")
            | st.lists(positive, min_size=1, max_size=4).map(tuple),
            "lr_scheduler_type": st.sampled_from(typing.get_args(Schedule)),
            "lr_scheduler_kwargs": st.dictionaries(
                st.sampled_from(["num_cycles", "power", "min_lr"]), st.floats(0, LARGE)
            ),
            "eval_strategy": st.sampled_from(["no", "steps", "epoch"]),
            "greater_is_better": st.none() | st.booleans(),
            "overwrite": st.booleans(),
        },
    )
)
def test_settings_written_as_yaml_are_read_back_equal(tmp_path_factory, chosen):
    config = TrainConfig(**chosen)
    path = tmp_path_factory.getbasetemp() / "settings.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()), encoding="utf-8")
    assert parse_config(["--config", str(path)], program="test", description="") == config
