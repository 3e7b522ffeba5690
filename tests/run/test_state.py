"""Which evaluation is the best, and when patience ends: as the Trainer decides both."""

import math

import pytest
from hypothesis import given, strategies as st
from transformers import EarlyStoppingCallback, Trainer, TrainerControl, TrainingArguments
from transformers.trainer_callback import TrainerState

from plainloop.config.settings import TrainConfig
from plainloop.run.state import TrainState


def note(scores, **settings):
    """Take in evaluations one step apart, to the end or till patience does; what each gave."""
    config = TrainConfig(**settings)
    state, found = TrainState(), []
    for step, score in enumerate(scores, start=1):
        state.step, state.epoch = step, step / 2
        found.append(state.record_evaluation({config.best_metric: score}, config))
        if state.out_of_patience(config):
            break
    return state, found


@pytest.mark.parametrize(
    ("settings", "bests"),
    [
        ({}, [True, False, True, False]),
        ({"metric_for_best_model": "accuracy"}, [True, True, False, False]),
        (
            {"metric_for_best_model": "accuracy", "greater_is_better": False},
            [True, False, True, False],
        ),
        ({"greater_is_better": True}, [True, True, False, False]),
    ],
)
def test_the_best_is_the_lowest_loss_or_the_highest_metric(settings, bests):
    scores = [0.5, 0.7, 0.4, 0.4]
    state, found = note(scores, **settings)
    assert found == bests
    assert state.best_step == max(step for step, best in enumerate(bests, start=1) if best)
    assert state.best_score == scores[state.best_step - 1]


def test_every_evaluation_is_recorded_with_its_step_and_epoch():
    state = TrainState(step=3, epoch=1.5)
    state.record_evaluation({"loss": 0.5, "accuracy": 0.9}, TrainConfig())
    assert state.evaluations == [{"step": 3, "epoch": 1.5, "loss": 0.5, "accuracy": 0.9}]


@pytest.mark.parametrize(
    ("scores", "patience", "threshold", "stops_after"),
    [
        ([3, 2, 1], 1, 0.0, None),
        ([1, 2, 3], 1, 0.0, 2),
        ([1, 1, 1], 2, 0.0, 3),
        ([3, 4, 2, 3, 3], 2, 0.0, 5),
        ([4.0, 3.5, 3.0, 2.5], 2, 0.5, 3),
        ([4.0, 3.0, 2.0], 1, 0.5, None),
        ([1, 2, 3], None, 0.0, None),
    ],
)
def test_patience_ends_after_evaluations_in_a_row_without_gain(
    scores, patience, threshold, stops_after
):
    state, _ = note(scores, early_stopping_patience=patience, early_stopping_threshold=threshold)
    stopped = state.out_of_patience(TrainConfig(early_stopping_patience=patience))
    assert (state.step if stopped else None) == stops_after


def test_a_gain_below_the_threshold_is_still_the_best():
    state, found = note([0.5, 0.4], early_stopping_threshold=0.2)
    assert found == [True, True]
    assert (state.best_step, state.evaluations_without_gain) == (2, 1)


def note_as_trainer(scores, **settings):
    """The Trainer's own callback and its own choice of the best, in the order it calls them."""
    trainer = object.__new__(Trainer)
    trainer.args = TrainingArguments(
        use_cpu=True,
        metric_for_best_model="eval_score",
        greater_is_better=settings["greater_is_better"],
    )
    trainer.state, control = TrainerState(), TrainerControl()
    callback = EarlyStoppingCallback(
        settings["early_stopping_patience"], settings["early_stopping_threshold"]
    )
    found = []
    for step, score in enumerate(scores, start=1):
        trainer.state.global_step = step
        metrics = {"eval_score": score}
        callback.on_evaluate(trainer.args, trainer.state, control, metrics)
        found.append(trainer._determine_best_metric(metrics, trial=None))
        if control.should_training_stop:
            break
    return trainer.state, found


# Hundredths, so that scores tie and gains meet the threshold.
scores_of_all_kinds = st.integers(0, 100).map(lambda number: number / 100) | st.floats(0, 1)


@given(
    first=scores_of_all_kinds,
    later=st.lists(scores_of_all_kinds | st.just(math.nan), max_size=12),
    metric=st.sampled_from(["loss", "accuracy"]),
    greater_is_better=st.booleans(),
    early_stopping_patience=st.integers(1, 3),
    early_stopping_threshold=st.sampled_from([0.0, 0.05]),
)
def test_best_and_stopping_point_are_the_trainers(first, later, metric, **settings):
    ours, our_bests = note([first, *later], metric_for_best_model=metric, **settings)
    theirs, their_bests = note_as_trainer([first, *later], **settings)
    assert our_bests == their_bests
    assert (ours.step, ours.best_step) == (theirs.global_step, theirs.best_global_step)


@pytest.mark.parametrize("greater_is_better", [False, True])
def test_a_first_score_that_is_no_number_is_not_the_best(greater_is_better):
    settings = {
        "greater_is_better": greater_is_better,
        "early_stopping_patience": 3,
        "early_stopping_threshold": 0.0,
    }
    _, ours = note([math.nan, 0.5], **settings)
    _, theirs = note_as_trainer([math.nan, 0.5], **settings)
    assert ours == theirs == [False, True]


def test_an_undefined_score_is_the_worst_and_costs_patience():
    config = TrainConfig(metric_for_best_model="roc_auc", early_stopping_patience=2)
    state = TrainState()
    assert not state.record_evaluation({"loss": 0.5}, config)
    assert state.evaluations_without_gain == 1
    assert state.record_evaluation({"loss": 0.5, "roc_auc": 0.6}, config)
    assert (state.best_score, state.evaluations_without_gain) == (0.6, 0)
    for _ in range(2):
        assert not state.out_of_patience(config)
        assert not state.record_evaluation({"loss": 0.5}, config)
    assert state.out_of_patience(config)
    assert state.best_score == 0.6
