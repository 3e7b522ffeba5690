"""What each setting declares at its field: nothing is left out, and what is not declared is safe."""

import dataclasses
import re
import typing
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict

import plainloop.eject
from plainloop.config.marks import (
    EJECTED,
    MAY_DIFFER,
    NEEDS_EVALUATIONS,
    OF_CALL,
    Mark,
    Must,
    NotEjected,
)
from plainloop.config.settings import MARKS, TrainConfig, marked
from plainloop.config.validation import check_config, flag
from plainloop.eject import refusals
from plainloop.eject.branches import FULL_SCRIPT
from plainloop.errors import UserError
from plainloop.run.fingerprint import run_fingerprint

# Values for the settings whose type alone does not give one that is not the default.
OTHER = {
    "lr_scheduler_kwargs": {"power": 2.0},
    "class_weights": "balanced",
    "threshold_costs": (1.0, 2.0),
}


def kinds_of(name):
    hint = typing.get_type_hints(TrainConfig)[name]
    return {kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)}


def other_value(name):
    if name in OTHER:
        return OTHER[name]
    kinds = kinds_of(name)
    if bool in kinds:
        return not getattr(TrainConfig(), name)
    if kinds & {int, float}:
        return 3 if int in kinds else 0.25
    if Path in kinds:
        return Path("elsewhere")
    default = getattr(TrainConfig(), name)
    [wanted] = [
        typing.get_args(one.type)[0] for one in dataclasses.fields(TrainConfig) if one.name == name
    ]
    literals = [
        one
        for one in (wanted, *typing.get_args(wanted))
        if typing.get_origin(one) is typing.Literal
    ]
    choices = [choice for one in literals for choice in typing.get_args(one) if choice != default]
    other = choices[0] if choices else "other"
    return (other,) if isinstance(default, tuple) else other


def test_every_field_declares_something():
    assert list(MARKS) == [field.name for field in dataclasses.fields(TrainConfig)]
    assert {name for name, marks in MARKS.items() if not marks} == set()


@pytest.mark.parametrize("name", MARKS)
def test_what_is_not_declared_to_be_free_is_compared_on_a_resume(name):
    rows = Dataset.from_dict({"text": ["a"], "label": [0]})
    raw = DatasetDict(train=rows, validation=rows)
    compared = run_fingerprint(TrainConfig(), raw, torch.device("cpu"), 1, "default")["settings"]
    assert (name in compared) is not any(mark in MARKS[name] for mark in (MAY_DIFFER, OF_CALL))


@pytest.mark.parametrize("name", MARKS)
def test_what_is_not_declared_to_be_ejected_is_refused(name):
    config = TrainConfig(**{name: other_value(name)})
    assert config.changed() == [name]
    free = any(mark in MARKS[name] for mark in (EJECTED, MAY_DIFFER, OF_CALL))
    fixes = [mark.fix for mark in MARKS[name] if isinstance(mark, NotEjected)]
    assert not (fixes and EJECTED in MARKS[name])
    if free and not fixes:
        assert refusals.check_settings(config) is None
        return
    with pytest.raises(UserError, match="is not ejected") as caught:
        refusals.check_settings(config)
    assert (caught.value.where, [caught.value.fix]) == (flag(name), fixes)


def test_a_setting_without_marks_is_refused_with_a_fix(monkeypatch):
    monkeypatch.setitem(MARKS, "weight_decay", ())
    with pytest.raises(UserError) as caught:
        refusals.check_settings(TrainConfig(weight_decay=0.1))
    assert str(caught.value).startswith("--weight-decay: is not ejected; leave it out")


@pytest.mark.parametrize("name", marked(EJECTED))
def test_what_is_declared_to_be_ejected_is_read_by_it(name):
    """The data's settings are read by load_inputs; a script is padded whatever --execution says."""
    by_load_inputs = {"problem_type", "validation_fraction", "group_column", "group_duplicates"}
    by_load_inputs |= {"on_null"}
    read_as = {
        "metric_for_best_model": "config.best_metric",
        "greater_is_better": "config.more_is_better",
        "lr_scheduler_kwargs": "schedule_kwargs(config)",
    }
    folder = Path(plainloop.eject.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    # A constant of the full script takes the setting of its name; it is defined, and used.
    uses = re.findall(rf"\b{name.upper()}\b", FULL_SCRIPT.read_text(encoding="utf-8"))
    is_read = read_as.get(name, f"config.{name}") in source
    is_read |= name not in read_as and len(uses) > 1
    assert is_read or name in {*by_load_inputs, "execution"}


@pytest.mark.parametrize("name", marked(NEEDS_EVALUATIONS))
def test_what_needs_evaluations_is_refused_without_them(name):
    value = {"threshold_metric": "f1", "early_stopping_patience": 2}.get(name, other_value(name))
    with pytest.raises(UserError, match="needs evaluations") as caught:
        check_config(TrainConfig(eval_strategy="no", **{name: value}))
    assert caught.value.where == flag(name)


def test_every_number_has_a_range():
    numbers = {name for name in MARKS if kinds_of(name) & {int, float}}
    ranged = {name for name, marks in MARKS.items() if any(isinstance(m, Must) for m in marks)}
    assert ranged == numbers | {"class_weights", "threshold_costs"}


def test_every_mark_says_what_it_means_and_is_used():
    from plainloop.config import marks

    defined = [mark for mark in vars(marks).values() if isinstance(mark, Mark)]
    assert len({mark.meaning for mark in defined}) == len(defined)
    assert [mark for mark in defined if not marked(mark)] == []
