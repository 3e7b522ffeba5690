"""train(): each setting moves the numbers as predicted, and nothing else does."""

import ast
import inspect
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import RunTiny, largest_difference
from torch.optim.optimizer import register_optimizer_step_post_hook

from plainloop.data.batches.loaders import EpochRandomSampler
from plainloop.errors import DivergedError
from plainloop.run.checkpoints import list_checkpoints, step_of
from plainloop.training import evaluation, fine_tune as fine_tuning, loop, progress, session, steps

# Nothing hides a wrong gradient here: a constant learning rate, clipping active, no dropout.
STRICT = {
    "dropout": 0.0,
    "lr_scheduler_type": "constant",
    "learning_rate": 1e-3,
    "max_grad_norm": 0.1,
    "num_train_epochs": 2,
}
ROWS, BATCH = 43, 8
STEPS_PER_EPOCH = math.ceil(ROWS / BATCH)


@pytest.mark.parametrize("more", [{}, {"class_weights": (1.0, 5.0)}], ids=["plain", "weighted"])
def test_accumulated_small_batches_equal_one_large_batch(run: RunTiny, more):
    """With class weights too, where a window's sum is divided by the window's weights.

    With AdamW's default epsilon, 1e-8, rounding noise of that size moves a weight as far as a true
    gradient does: elements with gradients near zero, all key biases among them, would differ by up
    to 1e-4. With 1e-4, which is below the clipped gradients' size, noise stays noise.
    """
    settings = {**STRICT, "adam_epsilon": 1e-4, **more}
    large = run(per_device_train_batch_size=32, **settings)
    small = run(per_device_train_batch_size=8, gradient_accumulation_steps=4, **settings)
    assert len(large.history) == len(small.history) == 2 * math.ceil(ROWS / 32)
    assert min(large.series("grad_norm")) > STRICT["max_grad_norm"], "clipping is active"
    assert small.series("loss") == pytest.approx(large.series("loss"), rel=2e-6)
    assert small.series("grad_norm") == pytest.approx(large.series("grad_norm"), rel=2e-6)
    assert largest_difference(small.weights, large.weights) < 1e-6


def test_a_fixed_seed_gives_the_same_bits_and_another_one_does_not(run: RunTiny):
    first, again, other = run(seed=7), run(seed=7), run(seed=8)
    assert first.series("loss") == again.series("loss")
    assert largest_difference(first.weights, again.weights) == 0
    assert first.series("loss") != other.series("loss")


def test_the_last_ragged_batch_of_an_epoch_is_a_step(run: RunTiny):
    result = run(num_train_epochs=2)
    assert result.metrics["steps"] == len(result.history) == 2 * STEPS_PER_EPOCH
    assert result.history[-1]["epoch"] == 2


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_steps": 4}, 4),
        ({"max_steps": 15}, 15),
        ({"num_train_epochs": 0.5}, 3),
        ({"num_train_epochs": 1.5}, 9),
        ({"num_train_epochs": 1, "gradient_accumulation_steps": 4}, 2),
    ],
)
def test_max_steps_and_fractions_of_an_epoch_end_where_they_say(run: RunTiny, settings, steps):
    result = run(**settings)
    assert [record["step"] for record in result.history] == list(range(1, steps + 1))
    assert result.metrics["evaluations"][-1]["step"] == steps


def test_linear_schedule_falls_from_the_peak_to_zero(run: RunTiny):
    rates = run(num_train_epochs=1, learning_rate=6e-4).series("learning_rate")
    assert rates == pytest.approx([6e-4, 5e-4, 4e-4, 3e-4, 2e-4, 1e-4])


@pytest.mark.parametrize("warmup_steps", [3, 0.5])
def test_warmup_climbs_from_zero_to_the_peak(run: RunTiny, warmup_steps):
    rates = run(num_train_epochs=1, learning_rate=3e-4, warmup_steps=warmup_steps).series(
        "learning_rate"
    )
    assert rates == pytest.approx([0, 1e-4, 2e-4, 3e-4, 2e-4, 1e-4])


def test_cosine_schedule_follows_the_cosine(run: RunTiny):
    rates = run(num_train_epochs=1, learning_rate=1e-3, lr_scheduler_type="cosine").series(
        "learning_rate"
    )
    assert rates == pytest.approx([5e-4 * (1 + math.cos(math.pi * step / 6)) for step in range(6)])


def test_learning_rate_scales_the_first_step(run: RunTiny):
    # AdamW's first step is lr x gradient / (|gradient| + eps): proportional to the rate.
    settings = {**STRICT, "max_steps": 1, "weight_decay": 0.0}
    start = run(**{**settings, "learning_rate": 1e-12}).weights
    one = run(**settings).weights
    two = run(**{**settings, "learning_rate": 2e-3}).weights
    for name, weight in start.items():
        torch.testing.assert_close(
            two[name] - weight, 2 * (one[name] - weight), rtol=1e-3, atol=1e-6
        )
    assert largest_difference(one, start) > 5e-4


def test_weight_decay_shrinks_all_but_biases_and_normalizations(run: RunTiny):
    settings = {**STRICT, "max_steps": 1, "learning_rate": 1e-3}
    plain, decayed = run(**settings).weights, run(weight_decay=0.5, **settings).weights
    start = run(**{**settings, "learning_rate": 1e-12}).weights
    for name, weight in plain.items():
        shrunk = 0 if "bias" in name or "LayerNorm" in name else 1e-3 * 0.5 * start[name]
        torch.testing.assert_close(decayed[name], weight - shrunk, rtol=0, atol=1e-7)


def test_clipping_off_leaves_the_gradient_and_still_logs_its_norm(run: RunTiny):
    off = run(**{**STRICT, "max_grad_norm": 0})
    wide = run(**{**STRICT, "max_grad_norm": 1e9})
    clipped = run(**STRICT)
    assert off.series("grad_norm") == wide.series("grad_norm")
    assert largest_difference(off.weights, wide.weights) == 0
    assert off.series("grad_norm")[0] == clipped.series("grad_norm")[0], "logged before clipping"
    assert off.series("loss") != clipped.series("loss")


@pytest.mark.parametrize(
    "setting", [{"adam_beta1": 0.5}, {"adam_beta2": 0.9}, {"adam_epsilon": 1e-2}]
)
def test_adam_settings_change_the_second_step_but_not_the_first_loss(run: RunTiny, setting):
    plain, changed = run(**STRICT), run(**{**STRICT, **setting})
    assert plain.series("loss")[0] == changed.series("loss")[0]
    assert plain.series("loss")[2] != changed.series("loss")[2]


def test_label_smoothing_raises_the_loss_by_what_the_formula_says(run: RunTiny):
    smoothing = 0.2
    settings = {**STRICT, "max_steps": 1}
    plain = run(**settings).series("loss")[0]
    smoothed = run(label_smoothing_factor=smoothing, **settings).series("loss")[0]
    only_even = run(label_smoothing_factor=1.0, **settings).series("loss")[0]
    assert smoothed == pytest.approx((1 - smoothing) * plain + smoothing * only_even, rel=1e-6)
    assert smoothed != plain


def test_frozen_layers_and_embeddings_do_not_move(run: RunTiny):
    start = run(max_steps=1, learning_rate=1e-12).weights
    embeddings = run(num_train_epochs=1, learning_rate=1e-3, freeze_embeddings=True).weights
    layer = run(num_train_epochs=1, learning_rate=1e-3, freeze_layers=1).weights
    moved = {name for name in start if (layer[name] - start[name]).abs().max() > 1e-6}
    assert not any("embeddings" in name or "layer.0" in name for name in moved)
    assert any("layer.1" in name for name in moved)
    for name, weight in start.items():
        if "embeddings" in name:
            torch.testing.assert_close(embeddings[name], weight, rtol=0, atol=1e-9)
    assert (
        embeddings["bert.encoder.layer.0.output.dense.weight"]
        != start["bert.encoder.layer.0.output.dense.weight"]
    ).any()


def test_dropout_moves_the_loss_and_no_dropout_does_not(run: RunTiny):
    # Two first steps of the same batch: with dropout they differ, as it draws anew.
    def both_losses(dropout):
        losses = run(dropout=dropout, learning_rate=1e-12, max_train_samples=8, max_steps=2).series(
            "loss"
        )
        return losses[0], losses[1]

    first, second = both_losses(0.5)
    assert first != pytest.approx(second, rel=1e-3)
    first, second = both_losses(0.0)
    assert first == pytest.approx(second, rel=1e-5)


def test_evaluation_every_n_steps_and_at_the_end(run: RunTiny):
    result = run(eval_strategy="steps", eval_steps=4, num_train_epochs=2)
    assert [record["step"] for record in result.metrics["evaluations"]] == [4, 8, 12]
    result = run(eval_strategy="steps", eval_steps=5, num_train_epochs=2)
    assert [record["step"] for record in result.metrics["evaluations"]] == [5, 10, 12]


def test_no_evaluation_where_none_is_wanted(run: RunTiny):
    result = run(eval_strategy="no", max_steps=3)
    assert result.metrics["evaluations"] == []
    assert result.metrics["saved"] is None


def test_evaluating_more_often_changes_no_weight_without_dropout(run: RunTiny):
    # Each new evaluation iterator draws one number from torch's generator, as in the Trainer, so
    # it moves dropout; without dropout nothing moves.
    settings = {"dropout": 0.0, "num_train_epochs": 1}
    once = run(eval_strategy="epoch", **settings)
    often = run(eval_strategy="steps", eval_steps=1, **settings)
    assert largest_difference(once.weights, often.weights) == 0


def test_the_best_model_by_the_named_metric_is_the_one_saved(run: RunTiny):
    settings = {
        "num_train_epochs": 4,
        "learning_rate": 5e-3,
        "eval_strategy": "steps",
        "eval_steps": 2,
    }
    result = run(load_best_model_at_end=True, metric_for_best_model="accuracy", **settings)
    scores = {record["step"]: record["accuracy"] for record in result.metrics["evaluations"]}
    best_step = max(scores, key=lambda step: (scores[step], -step))
    assert result.metrics["saved"]["step"] == best_step
    assert len(set(scores.values())) > 1, "the metric moves, so that there is something to choose"
    # Training just so far gives the same weights: the schedule is constant in both.
    constant = {**settings, "lr_scheduler_type": "constant"}
    kept = run(load_best_model_at_end=True, metric_for_best_model="accuracy", **constant)
    again = run(**{**constant, "max_steps": kept.metrics["saved"]["step"]})
    assert largest_difference(kept.weights, again.weights) == 0


def test_early_stopping_ends_the_run_after_its_patience(run: RunTiny):
    result = run(
        num_train_epochs=20,
        learning_rate=2e-2,
        early_stopping_patience=2,
        metric_for_best_model="loss",
    )
    losses = [record["loss"] for record in result.metrics["evaluations"]]
    best = losses.index(min(losses))
    assert len(losses) < 20
    assert len(losses) - 1 - best == 2


def test_threshold_and_direction_decide_when_patience_runs_out(run: RunTiny):
    settings = {"num_train_epochs": 6, "learning_rate": 1e-4, "early_stopping_patience": 2}
    assert len(run(**settings).metrics["evaluations"]) == 6, "the loss falls all along"
    far = run(early_stopping_threshold=10.0, **settings).metrics["evaluations"]
    assert len(far) == 3, "one sets the mark, two are not 10 better"
    upwards = run(greater_is_better=True, **settings).metrics
    assert len(upwards["evaluations"]) == 3
    assert upwards["best"]["step"] == STEPS_PER_EPOCH


def test_greedy_raises_the_rate_while_the_metric_gets_better(run: RunTiny):
    rates = run(
        lr_scheduler_type="greedy",
        lr_scheduler_kwargs={"patience": 0.0, "factor": 0.5},
        learning_rate=1e-4,
        num_train_epochs=4,
    ).series("learning_rate")
    assert rates[:STEPS_PER_EPOCH] == [1e-4] * STEPS_PER_EPOCH
    assert len(set(rates)) > 1


def test_balanced_class_weights_are_those_of_the_counts(run: RunTiny):
    # 43 rows, 22 of label 0 and 21 of label 1.
    balanced = run(class_weights="balanced", max_steps=2).series("loss")
    given = run(class_weights=(43 / (2 * 22), 43 / (2 * 21)), max_steps=2).series("loss")
    assert balanced == pytest.approx(given, rel=1e-6)


def test_reduce_on_plateau_moves_by_the_metric(run: RunTiny):
    result = run(
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0.0, "factor": 0.1},
        learning_rate=2e-2,
        num_train_epochs=8,
    )
    rates = result.series("learning_rate")
    losses = [record["loss"] for record in result.metrics["evaluations"]]
    assert rates[0] == 2e-2
    first_rise = next(i for i, (a, b) in enumerate(pairwise(losses), start=1) if b > a * (1 - 1e-4))
    assert (
        rates[: (first_rise + 1) * STEPS_PER_EPOCH] == [2e-2] * (first_rise + 1) * STEPS_PER_EPOCH
    )
    assert rates[(first_rise + 1) * STEPS_PER_EPOCH] == pytest.approx(2e-3)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(run: RunTiny):
    with pytest.raises(DivergedError) as caught:
        run(
            learning_rate=1e30,
            lr_scheduler_type="constant",
            max_grad_norm=0,
            num_train_epochs=5,
            logging_steps=100,
        )
    assert caught.value.exit_code == 5
    found = re.fullmatch(
        r"step (\d+): the loss is (nan|inf) \(learning rate 1.00e\+30, epoch [\d.]+, "
        r"training rows ([\d, ]+)\); try a lower --learning-rate .*",
        str(caught.value),
    )
    assert found
    step = int(found[1])
    order = list(EpochRandomSampler(ROWS, seed=42))
    assert step <= STEPS_PER_EPOCH, "in the first epoch"
    assert found[3] == ", ".join(map(str, order[(step - 1) * BATCH : step * BATCH]))


@pytest.mark.parametrize(
    "broken", [("loss", 4), ("loss", 12), ("weights", 4), ("weights", 12)], ids=str
)
@pytest.mark.parametrize("reads", [("cpu",), ()], ids=["every loss is read", "as on a GPU"])
def test_a_loss_or_weight_that_is_not_finite_is_seen_before_anything_is_saved(
    run: RunTiny, monkeypatch, tmp_path, reads, broken
):
    """At a step that is not logged, and at the last one."""
    what, step = broken
    monkeypatch.setattr(session, "READS_EVERY_LOSS", reads)
    add_step, optimizer_steps = progress.Progress.step, []

    def add_broken(self, loss, rows):
        is_due = what == "loss" and self._state.step == step
        add_step(self, loss * math.nan if is_due else loss, rows)

    def break_weights(optimizer, *_):
        optimizer_steps.append(1)
        if what == "weights" and len(optimizer_steps) == step:
            optimizer.param_groups[0]["params"][0].data[0, 0] = math.inf

    monkeypatch.setattr(progress.Progress, "step", add_broken)
    for number, strategy in enumerate(("steps", "no")):
        optimizer_steps.clear()
        hook = register_optimizer_step_post_hook(break_weights)
        with pytest.raises(DivergedError) as caught:
            run(
                num_train_epochs=2,
                logging_steps=7,
                learning_rate=1e-4,
                save_strategy=strategy,
                **({"save_steps": 1} if strategy == "steps" else {}),
                eval_strategy="steps",
                eval_steps=6,
                load_best_model_at_end=strategy == "no",
            )
        hook.remove()
        at_once = strategy == "steps" or (what == "loss" and reads)
        seen_at = step if at_once else 6 * math.ceil(step / 6)  # before the best model is saved
        verb = "is nan" if what == "loss" else "are not finite"
        assert str(caught.value).startswith(f"step {seen_at}: the {what} {verb}")
        folder = tmp_path / f"run-{number}"
        assert not (folder / "model.safetensors").exists()
        kept = [step_of(path) for path in list_checkpoints(folder / "checkpoints")]
        assert kept == ([step - 2, step - 1] if strategy == "steps" else [])
        saved = [load_file(path) for path in folder.rglob("step-*/model.safetensors")]
        assert len(saved) == (len(kept) or step // 12)
        assert all(tensor.isfinite().all() for each in saved for tensor in each.values())


def test_a_buffer_that_is_rightly_infinite_as_of_a_mask_ends_no_training(run, monkeypatch):
    create = fine_tuning.create_model

    def with_mask(*args):
        model, new = create(*args)
        model.register_buffer("mask", torch.full((2,), -math.inf), persistent=False)
        return model, new

    monkeypatch.setattr(fine_tuning, "create_model", with_mask)
    assert run(num_train_epochs=1).metrics["steps"] == STEPS_PER_EPOCH


def test_a_finished_run_can_be_trained_on(run: RunTiny):
    first = run(num_train_epochs=1, learning_rate=1e-3)
    second = run(model=str(first.folder), num_train_epochs=1, learning_rate=1e-12)
    assert largest_difference(first.weights, second.weights) < 1e-9


def test_the_loop_is_literal_and_fits_on_one_screen():
    source = inspect.getsource(loop.train)
    function = ast.parse(source).body[0]
    docstring = function.body[0]
    lines = len(source.splitlines()) - (docstring.end_lineno - docstring.lineno + 1)
    assert lines <= 90
    epochs = next(node for node in ast.walk(function) if isinstance(node, ast.For))
    assert function.end_lineno - epochs.lineno + 1 <= 55
    inner = (ast.FunctionDef, ast.Lambda, ast.ClassDef)
    assert not [n for n in ast.walk(function) if isinstance(n, inner) and n is not function]
    order = [
        source.rindex(words)  # the evaluation of a resumed run comes first
        for words in (
            "for epoch in range(",
            "model.train()",
            "outputs = model(**batch.inputs)",
            "accelerator.backward(loss)",
            "accelerator.clip_grad_norm_(",
            "optimizer.step()\n",
            "lr_scheduler.step()\n",
            "optimizer.zero_grad()\n\n",
            "session.should_evaluate",
            "progress.log(",
            "session.save_or_stop(",
        )
    ]
    assert order == sorted(order)


def test_the_loop_has_at_most_15_paths():
    """McCabe's complexity, as ruff counts it."""
    limit = ["--isolated", "--select", "C901", "--config", "lint.mccabe.max-complexity=15"]
    command = [sys.executable, "-m", "ruff", "check", *limit, loop.__file__]
    assert subprocess.run(command, check=False).returncode == 0


def test_no_helper_of_the_loop_trains():
    """What the loop calls runs no backward pass, no optimizer step and no schedule."""
    for module in (session, steps, progress, evaluation):
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.Call)
        ]
        forbidden = r"backward|clip_grad|zero_grad|optimizer\.step|lr_scheduler\.step"
        assert [call for call in calls if re.search(forbidden, call)] == [], module


def test_own_model_loss_and_loader_without_a_run_folder(tmp_path: Path):
    from types import SimpleNamespace

    from plainloop.config.settings import TrainConfig
    from plainloop.metrics.task_metric import TaskMetric
    from plainloop.run.accelerator import create_accelerator

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x, labels):
            return SimpleNamespace(logits=self.layer(x))

    torch.manual_seed(0)
    x = torch.randn(20, 3)
    rows = [{"x": row, "labels": (row[0] > 0).long()} for row in x]
    loader = torch.utils.data.DataLoader(rows, batch_size=8)
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    config = TrainConfig(num_train_epochs=30, logging_steps=1)
    model = Linear()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    state = loop.train(
        model,
        optimizer,
        torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        loader,
        config=config,
        accelerator=accelerator,
        num_training_steps=90,
        loss_fn=lambda outputs, labels: torch.nn.functional.cross_entropy(outputs.logits, labels),
        eval_dataloader=loader,
        metric=TaskMetric(["accuracy"]),
    )
    assert state.step == 90
    assert len(state.evaluations) == 30
    assert state.evaluations[-1]["accuracy"] > 0.9
    assert state.history[-1]["loss"] < 0.3 * state.history[0]["loss"]
