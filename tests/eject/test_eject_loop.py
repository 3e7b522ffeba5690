"""A script's loop is loop.py's: only what this run's settings leave out may be missing."""

import difflib

import pytest
from conftest import ROOT
from loop_rules import RULES_OF, expected_loop, reduced_loop, without_opaque
from runs import make_runs

from plainloop.config.settings import TrainConfig
from plainloop.eject.branches import FULL_SCRIPT
from plainloop.eject.script import make_script

LOOP = (ROOT / "src" / "plainloop" / "training" / "loop.py").read_text(encoding="utf-8")
FULL = FULL_SCRIPT.read_text(encoding="utf-8")

DECIDED = {
    "accumulated": {"ACCUMULATES"},
    "one batch": set(),
    "one batch, weighted": {"WEIGHS_LABELS"},
}
# The conditions in the loop, and which of them are on in a run; the branches of the others are off.
USUAL = {"EVAL_STRATEGY != 'no'", "not FOLLOWS_METRIC"}
BEST = {"CHOOSES_BEST", "GREATER_IS_BETTER", "LOAD_BEST_MODEL_AT_END", "EARLY_STOPPING_PATIENCE"}
WEIGHTED = {"HAS_LOSS", "WEIGHS_LABELS"}
CONDITIONS = USUAL | BEST | WEIGHTED | {"ACCUMULATES", "EVAL_BY_STEPS", "FOLLOWS_METRIC"}
ON = {
    "pair": USUAL,
    "bfloat16, SGD": USUAL,
    "Adafactor": USUAL,
    "single text": USUAL,
    "regression": USUAL,
    "label names": USUAL,
    "class weights": USUAL | WEIGHTED,
    "multi-label": USUAL | {"HAS_LOSS"},
    "lists of labels": USUAL | {"HAS_LOSS"},
    "accumulation": USUAL | {"ACCUMULATES"},
    "cosine with warm-up": USUAL,
    "early stopping": USUAL | BEST,
    "all at once": USUAL | WEIGHTED | {"ACCUMULATES", "EVAL_BY_STEPS"},
    "by a metric": USUAL - {"not FOLLOWS_METRIC"} | {"FOLLOWS_METRIC"},
    "frozen layers": USUAL,
    "focal loss": USUAL | {"HAS_LOSS"},
    "focal loss of several labels": USUAL | {"HAS_LOSS"},
    "weighted sampling": USUAL,
    "sampling of several labels": USUAL,
    "grouped by length": USUAL,
    "new head": USUAL,
    "adapters": USUAL | BEST - {"EARLY_STOPPING_PATIENCE", "GREATER_IS_BETTER"},
    "adapters, merged": USUAL,
    "windows": USUAL,
    "windows of pairs": USUAL | {"ACCUMULATES"},
    "Arrow file": USUAL | WEIGHTED,
    "saved data set of several labels": USUAL,
    "files of two formats": USUAL,
    "no evaluation": USUAL - {"EVAL_STRATEGY != 'no'"} | {"HAS_LOSS"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data):
    return make_runs(tmp_path_factory.mktemp("files"), tiny_data)


def assert_same(found, wanted):
    difference = difflib.unified_diff(wanted.splitlines(), found.splitlines(), lineterm="")
    assert found == wanted, "\n".join(difference)


def both_loops(kind, source=LOOP):
    """The loop that the full script must have with its batches taken so, and the one it has."""
    found = reduced_loop(FULL, {"ACCUMULATES", "WEIGHS_LABELS"}, DECIDED[kind])
    return expected_loop(RULES_OF[kind], source), without_opaque(found)


@pytest.mark.parametrize("kind", RULES_OF)
def test_the_full_scripts_loop_is_that_of_train(kind):
    wanted, found = both_loops(kind)
    assert_same(found, wanted)


def test_every_run_is_pinned(runs):
    assert runs.keys() == ON.keys()


@pytest.mark.parametrize("name", ON)
def test_only_branches_that_are_off_are_missing(name, runs, tiny_model, tmp_path):
    script = make_script(TrainConfig(model=str(tiny_model), **runs[name]), tmp_path / "train_it.py")
    found = reduced_loop(script.source, set(), {"ACCUMULATES"})
    assert_same(found, reduced_loop(FULL, CONDITIONS, ON[name]))


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
@pytest.mark.parametrize("kind", RULES_OF)
def test_a_change_of_the_loop_is_seen(old, new, kind):
    assert LOOP.count(old) == 1
    wanted, found = both_loops(kind, LOOP.replace(old, new))
    assert found != wanted
