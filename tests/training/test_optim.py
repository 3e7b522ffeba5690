"""Parameter groups, optimizers, schedules."""

import copy
from typing import get_args

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
    get_scheduler,
)

from plainloop.config.flag_types import Optim
from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.training.optim import (
    check_schedule,
    count_training_steps,
    create_optimizer,
    create_scheduler,
    schedule_kwargs,
    steps_per_epoch,
)

SMALL = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 20}


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_decayed_parameters_are_the_trainers(architecture):
    names = {"distilbert": {"n_layers": 2, "dim": 8, "n_heads": 2, "vocab_size": 20}}
    config = AutoConfig.for_model(
        architecture, pad_token_id=0, intermediate_size=16, **names.get(architecture, SMALL)
    )
    model = AutoModelForSequenceClassification.from_config(config)
    optimizer = create_optimizer(model, TrainConfig(weight_decay=0.1))
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    decayed, kept = ([name_of[p] for p in group["params"]] for group in optimizer.param_groups)
    trainer = object.__new__(Trainer)
    assert set(decayed) == set(Trainer.get_decay_parameter_names(trainer, model))
    assert set(kept) == set(name_of.values()) - set(decayed)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_adamw_has_the_settings_and_leaves_out_what_is_frozen():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    config = TrainConfig(learning_rate=1e-3, adam_beta1=0.8, adam_beta2=0.98, adam_epsilon=1e-6)
    optimizer = create_optimizer(model, config)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert optimizer.defaults["lr"] == 1e-3
    assert optimizer.defaults["betas"] == (0.8, 0.98)
    assert optimizer.defaults["eps"] == 1e-6
    assert optimizer.defaults["fused"] is True


@pytest.mark.parametrize("optim", get_args(Optim))
def test_each_optimizer_steps_as_the_trainers(optim, tmp_path):
    settings = {"optim": optim, "learning_rate": 1e-2, "weight_decay": 0.1, "adam_beta1": 0.8}
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", intermediate_size=16, **SMALL)
    model = AutoModelForSequenceClassification.from_config(config)
    twin = copy.deepcopy(model)
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, **settings)
    theirs = Trainer(model=twin, args=arguments).create_optimizer()
    ours = create_optimizer(model, TrainConfig(**settings))
    assert type(ours) is type(theirs)
    before = [parameter.clone() for parameter in model.parameters()]
    for _ in range(3):
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        ours.step()
        theirs.step()
    pairs = zip(model.parameters(), twin.parameters(), before, strict=True)
    assert all(torch.equal(a, b) and not torch.equal(a, start) for a, b, start in pairs)


@pytest.mark.parametrize(
    ("batches", "settings", "steps"),
    [
        (459, {}, 1377),
        (459, {"gradient_accumulation_steps": 4}, 345),
        (10, {"num_train_epochs": 0.25}, 3),
        (10, {"max_steps": 7}, 7),
        (10, {"max_steps": 1}, 1),
    ],
)
def test_training_steps_are_counted_as_the_trainer_counts_them(batches, settings, steps):
    config = TrainConfig(**settings)
    assert count_training_steps(batches, config) == steps
    trainer = object.__new__(Trainer)
    trainer.args = TrainingArguments("unused", report_to="none", **settings)
    trainer.get_sp_size = lambda: 1
    trainer.get_total_train_batch_size = lambda args: 8
    trainer.num_examples = lambda loader: batches * 8
    _, per_epoch, *_, max_steps = trainer.set_initial_training_values(trainer.args, range(batches))
    assert max_steps == steps
    assert steps_per_epoch(batches, config) == per_epoch


def rates(scheduler, optimizer, steps):
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("linear", {}),
        ("cosine", {}),
        ("cosine_with_restarts", {"num_cycles": 2.0}),
        ("polynomial", {"power": 2.0}),
        ("constant", {}),
        ("constant_with_warmup", {}),
        ("inverse_sqrt", {}),
        ("cosine_with_min_lr", {"min_lr": 1e-6}),
        ("cosine_warmup_with_min_lr", {"min_lr": 1e-6}),
        ("warmup_stable_decay", {"num_decay_steps": 5.0}),
    ],
)
def test_every_schedule_gives_the_rates_of_get_scheduler(name, kwargs):
    config = TrainConfig(
        lr_scheduler_type=name, lr_scheduler_kwargs=kwargs, warmup_steps=3, learning_rate=1e-3
    )
    ours, theirs = (torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1e-3) for _ in range(2))
    counts = {"num_cycles", "num_decay_steps"}
    whole = {key: int(value) if key in counts else value for key, value in kwargs.items()}
    expected = get_scheduler(
        name, theirs, num_warmup_steps=3, num_training_steps=20, scheduler_specific_kwargs=whole
    )
    found = rates(create_scheduler(ours, 20, config), ours, 20)
    assert found == rates(expected, theirs, 20)
    assert len(set(found)) > 1 or name == "constant"


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "greedy"])
@pytest.mark.parametrize(("metric", "mode"), [("loss", "min"), ("accuracy", "max")])
def test_schedules_by_a_metric_know_which_way_is_better(name, metric, mode):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1e-3)
    config = TrainConfig(lr_scheduler_type=name, metric_for_best_model=metric)
    assert create_scheduler(optimizer, 20, config).mode == mode


@pytest.mark.parametrize(("given", "steps"), [(0, 0), (1, 1), (5, 5), (0.25, 5), (0.01, 1)])
def test_a_warm_up_is_a_number_of_steps_or_a_share_of_them(given, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    config = TrainConfig(
        lr_scheduler_type="constant_with_warmup", warmup_steps=given, learning_rate=1.0
    )
    found = rates(create_scheduler(optimizer, 20, config), optimizer, 20)
    assert [rate < 1 for rate in found] == [True] * steps + [False] * (20 - steps)


def test_a_schedule_is_checked_before_there_is_a_model():
    check_schedule(TrainConfig())
    with pytest.raises(UserError) as caught:
        check_schedule(TrainConfig(lr_scheduler_kwargs={"num_cyles": 2.0}))
    assert caught.value.where == "--lr-scheduler-kwargs"
    assert caught.value.fix == "see transformers.get_scheduler for what this schedule takes"


def test_a_setting_that_the_schedule_does_not_take_is_named():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1e-3)
    config = TrainConfig(lr_scheduler_kwargs={"num_cyles": 2.0})
    with pytest.raises(UserError, match=r"--lr-scheduler-kwargs: linear: .*num_cyles"):
        create_scheduler(optimizer, 20, config)


def test_a_whole_number_of_a_flag_or_file_is_an_integer_to_the_schedule():
    kwargs = schedule_kwargs(TrainConfig(lr_scheduler_kwargs={"num_cycles": 2.0, "power": 0.5}))
    assert kwargs == {"num_cycles": 2, "power": 0.5}
    assert type(kwargs["num_cycles"]) is int
