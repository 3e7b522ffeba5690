"""A script's loop is loop.py's: only what this run's flags leave out may be missing."""

import difflib

import pytest
from conftest import ROOT
from loop_rules import BODY, expected_loop, loop_of, rules_for
from runs import make_runs

from plainloop.config.settings import TrainConfig
from plainloop.eject.script import make_script

LOOP = (ROOT / "src" / "plainloop" / "training" / "loop.py").read_text(encoding="utf-8")

# What is missing, and the flag that is off or what a script does without.
ALWAYS = {
    ("if hasattr(train_dataloader, 'set_epoch'):", "a loader of another kind"),
    ("max_grad_norm = config.max_grad_norm or math.inf", "stands where it is used"),
    (
        "checks.after_step(outputs, batch.inputs['labels'], state.step)",
        "mistakes in a changed loop",
    ),
    ("rows = count_rows(train_dataloader, state.batches_done, len(micro_batches))", "samples/s"),
    ("is_logged = state.step % config.logging_steps == 0", "stands in its condition"),
    ("if is_logged or accelerator.device.type == 'cpu':", "is looked at when logged"),
    ("session.save_or_stop(model, optimizer, lr_scheduler)", "--save-strategy, signals"),
}
ONE = "--gradient-accumulation-steps 1"
ONE_BATCH = {
    ("step_loss = torch.zeros((), device=accelerator.device)", ONE),
    ("for batch, denominator in zip(micro_batches, denominators, strict=True):", ONE),
    ("is_last = batch is micro_batches[-1]", ONE),
    ("with nullcontext() if is_last else accelerator.no_sync(model):", ONE),
    ("step_loss += loss.detach()", ONE),
}
EXACT = f"{ONE}: the factor is exactly 1"
ROWS_ALIKE = ONE_BATCH | {
    ("denominators = [loss_denominator(loss_fn, batch.labels) for batch in micro_batches]", EXACT),
    ("step_denominator = all_reduce_sum(sum(denominators), accelerator)", EXACT),
    ("loss = loss * (denominator * accelerator.num_processes / step_denominator)", EXACT),
}
IS_FINISHED = "if session.training_is_done:"
NO_PATIENCE = {(IS_FINISHED, "--early-stopping-patience")}
WHOLE_EPOCHS = NO_PATIENCE | {(IS_FINISHED, "--early-stopping-patience, --num-train-epochs")}
PINNED = {
    "pair": ROWS_ALIKE | WHOLE_EPOCHS,
    "single text": ROWS_ALIKE | WHOLE_EPOCHS,
    "regression": ROWS_ALIKE | WHOLE_EPOCHS,
    "label names": ROWS_ALIKE | WHOLE_EPOCHS,
    "class weights": ONE_BATCH | WHOLE_EPOCHS,
    "multi-label": ROWS_ALIKE | WHOLE_EPOCHS,
    "lists of labels": ROWS_ALIKE | WHOLE_EPOCHS,
    "accumulation": NO_PATIENCE,
    "cosine with warm-up": ROWS_ALIKE | WHOLE_EPOCHS,
    "early stopping": ROWS_ALIKE,
    "all at once": NO_PATIENCE,
    "by a metric": ROWS_ALIKE
    | WHOLE_EPOCHS
    | {("if not (by_metric or accelerator.optimizer_step_was_skipped):", "--lr-scheduler-type")},
    "no evaluation": ROWS_ALIKE
    | WHOLE_EPOCHS
    | {
        (
            "if session.should_evaluate:",
            "--eval-strategy no",
        )
    },
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data):
    return make_runs(tmp_path_factory.mktemp("files"), tiny_data)


@pytest.fixture
def both_loops(runs, tiny_model, tmp_path):
    """The loop that a run's script must have, the one it has, and the rules between it and loop.py's."""

    def both_loops(name, source=LOOP):
        config = TrainConfig(model=str(tiny_model), **runs[name])
        script = make_script(config, tmp_path / "train_it.py").source
        rules = rules_for(
            config,
            has_loss=config.class_weights is not None or config.label_smoothing_factor > 0,
            weighs_labels=config.class_weights is not None and "pos_weight" not in script,
        )
        wanted, used = expected_loop(rules, source)
        return wanted, loop_of(script, rules), used

    return both_loops


def test_every_run_is_pinned(runs):
    assert runs.keys() == PINNED.keys()


@pytest.mark.parametrize("name", PINNED)
def test_only_branches_that_are_off_are_missing(name, both_loops):
    wanted, found, used = both_loops(name)
    difference = difflib.unified_diff(wanted.splitlines(), found.splitlines(), lineterm="")
    assert found == wanted, "\n".join(difference)
    missing = {(rule.statement, rule.because) for rule in used if rule.becomes in ("", BODY)}
    for statement, because in sorted(missing):
        print(f"{because:<50} {statement}")
    assert missing == ALWAYS | PINNED[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("                optimizer.step()\n", ""),
        ("                model.train()\n", "                model.eval()\n"),
        ("accelerator.backward(loss)", "accelerator.backward(loss * 2)"),
        (
            "                optimizer.zero_grad()\n\n",
            "                optimizer.zero_grad()\n                new_line()\n\n",
        ),
        ("                    lr_scheduler.step()\n", "                    lr_scheduler.step(1)\n"),
    ],
    ids=["a line less", "evaluation mode", "another loss", "a line more", "another schedule"],
)
def test_a_change_of_the_loop_is_seen(old, new, both_loops):
    assert LOOP.count(old) == 1
    wanted, found, _ = both_loops("accumulation", LOOP.replace(old, new))
    assert found != wanted
