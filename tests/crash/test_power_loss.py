"""A power failure at any moment of a run loses nothing that was saved, and nothing torn is used.

The states are made from the recorded operations of real runs; see power_loss.py. What else a run
writes is added as one more function to `JUDGES`.
"""

import hashlib
import json
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import crash
import pytest
from accelerate import Accelerator
from power_loss import Recording, draw_state, materialize, record
from tiny import run_tiny

from plainloop.config.settings import TrainConfig
from plainloop.errors import CheckpointError, PlainloopError, UserError
from plainloop.run.atomic import find_corruption
from plainloop.run.checkpoints import Checkpoints, list_checkpoints, step_of
from plainloop.run.folder import RunFolder, check_output_dir, has_saved_model, load_metrics
from plainloop.run.manifest import verify_run
from plainloop.training import final_evaluation

pytestmark = pytest.mark.crash

SETTINGS = {
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "save_strategy": "steps",
    "save_steps": 3,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "load_best_model_at_end": True,
    "calibrate": True,
}
DISTINCT = 300  # folder contents of each model of a file system
Content = dict[str, bytes]


def content(folder: Path) -> Content:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@dataclass
class Watched:
    """A recorded run, and what it had written whenever something was finished.

    Attributes:
        recording: its operations, with a mark where something has begun and where it has ended.
        saved: mark -> what was then in the folder.
        old: content of the run that it has replaced.
    """

    recording: Recording
    saved: dict[str, Content] = field(default_factory=dict)
    old: Content | None = None


def watch(root: Path, *, overwrite: bool = False, **settings) -> Watched:
    """Record a run in ROOT/run."""
    run = root / "run"
    old = content(run) if overwrite else None
    with record(root) as recording:
        watched = Watched(recording, old=old)

        def marked(original, name):
            def call(*args, **kwargs):
                state = args[1] if name == "checkpoint" else None
                label = name if state is None else f"{name} {state.step}"
                label = f"{name} {args[2]}" if name == "best" else label
                recording.mark(f"begun {label}")
                result = original(*args, **kwargs)
                recording.mark(f"ended {label}")
                watched.saved[label] = content(run)
                return result

            return call

        create = RunFolder.create.__func__
        with (
            patch.object(Checkpoints, "save", marked(Checkpoints.save, "checkpoint")),
            patch.object(Checkpoints, "save_best", marked(Checkpoints.save_best, "best")),
            patch.object(RunFolder, "create", classmethod(marked(create, "run.yaml"))),
            patch.object(RunFolder, "save", marked(RunFolder.save, "model")),
            patch.object(
                final_evaluation,
                "write_manifest",
                marked(final_evaluation.write_manifest, "manifest"),
            ),
        ):
            run_tiny(run, overwrite=overwrite, **settings)
    return watched


@dataclass
class Left:
    """What a power failure has left, and how far the run had come before it."""

    run: Path
    saved: dict[str, Content]
    ended: list[str]
    begun: list[str]

    def steps(self, kind: str, of: list[str]) -> list[int]:
        return [int(label.split()[1]) for label in of if label.startswith(f"{kind} ")]

    def below(self, label: str, folder: str) -> Content:
        """What was in a folder of the run when something had ended."""
        held = self.saved[label]
        return {k.removeprefix(folder): v for k, v in held.items() if k.startswith(folder)}


def judge_run_yaml(left: Left) -> str:
    """It is there, or the folder is one that a run may begin in."""
    path = left.run / "run.yaml"
    if path.exists():
        assert path.read_bytes() in {held["run.yaml"] for held in left.saved.values()}
        return "run.yaml"
    assert "run.yaml" not in left.ended, "run.yaml is lost"
    return "no run.yaml"


def judge_checkpoints(left: Left) -> str:
    """The newest is one that was saved, as it was saved, and none that had ended is lost."""
    checkpoints = Checkpoints(left.run / "checkpoints", left.run / "best", Accelerator(), {})
    saved = left.steps("checkpoint", left.ended)
    try:
        newest = checkpoints.newest()
    except CheckpointError:
        assert not saved, "every checkpoint is damaged"
        return "checkpoints refused"
    if newest is None:
        assert not saved, "every checkpoint is lost"
        return "no checkpoint"
    step = step_of(newest)
    assert step >= max(saved, default=0), "the last checkpoint is lost"
    assert step in left.steps("checkpoint", left.begun)
    held = left.below(f"checkpoint {step}", f"checkpoints/step-{step:06d}/")
    assert content(newest) == held, "a checkpoint is used that was not saved so"
    return f"step {step}"


def judge_best_model(left: Left) -> str:
    """The last one is as it was saved; the one that a checkpoint needs is there, or a later one."""
    saved = left.steps("best", left.ended)
    whole = []
    for path in list_checkpoints(left.run / "best"):
        if find_corruption(path) is None:
            step = step_of(path)
            held = left.below(f"best {step}", f"best/step-{step:06d}/")
            assert content(path) == held, "a best model is used that was not saved so"
            whole.append(step)
    assert max(whole, default=0) >= max(saved, default=0), "the best model is lost"
    return f"best {max(whole, default=None)}"


def judge_finished_run(left: Left) -> str:
    """What predict, compare and report take is what the run has written, or it is refused."""
    last = left.saved["manifest"]
    try:
        metrics = load_metrics(left.run)
        versions = [held["metrics.json"] for held in left.saved.values() if "metrics.json" in held]
        assert metrics in [json.loads(version) for version in versions], "torn metrics are used"
    except UserError:
        assert "model" not in left.ended, "the metrics are lost"
    if not has_saved_model(left.run):
        assert "model" not in left.ended, "the model is lost"
        return "no model"
    try:
        verify_run(left.run)()
    except CheckpointError:
        assert "manifest" not in left.ended, "a finished run is damaged"
        return "model refused"
    is_finished = (left.run / "manifest.json").exists()
    assert is_finished or "manifest" not in left.ended, "the manifest is lost"
    needed = last if is_finished else {"model.safetensors", "config.json", "tokenizer.json"}
    now = content(left.run)
    changing = ("checkpoints/", "best/", ".plainloop-")
    for name in needed:
        if not name.startswith(changing):
            assert hash(now.get(name)) == hash(last[name]), f"{name} is used as it was not written"
    return "finished" if is_finished else "model"


def judge_commands(left: Left) -> str:
    """--resume is never refused because of what a failure has left."""
    check_output_dir(TrainConfig(task="demo", output_dir=left.run, resume=True))
    return ""


JUDGES = (
    judge_run_yaml,
    judge_checkpoints,
    judge_best_model,
    judge_finished_run,
    judge_commands,
)


@dataclass
class Found:
    """What the states of a recording came to.

    Attributes:
        contents: hashes of the distinct folder contents.
        choices: what is used or refused -> a state in which it is.
        problems: what was lost or silently wrong, and where.
    """

    contents: set[str] = field(default_factory=set)
    choices: dict[str, dict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def judge_states(watched: Watched, folder: Path, model: str, distinct: int, judges=JUDGES) -> Found:
    """Draw states until so many are distinct, and judge each."""
    draw, found, operations = random.Random(0), Found(), watched.recording.operations
    for number in range(50 * distinct):
        if len(found.contents) >= distinct:
            break
        cut = draw.randrange(watched.recording.start, len(operations) + 1)
        state = draw_state(watched.recording, cut, model, draw)
        key = hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()
        if key in found.contents:
            continue
        found.contents.add(key)
        place = folder / f"state-{number}"
        place.mkdir()
        materialize(state, watched.recording.root, place)
        marks = [operation[1] for operation in operations[:cut] if operation[0] == "mark"]
        ended, begun = (
            [mark.removeprefix(f"{kind} ") for mark in marks if mark.startswith(kind)]
            for kind in ("ended", "begun")
        )
        left = Left(place / "run", watched.saved, ended, begun)
        try:
            choice = ", ".join(judge(left) for judge in judges)
            found.choices.setdefault(choice, state)
        except (AssertionError, PlainloopError) as error:
            found.problems.append(
                f"{model}: after {cut}, {operations[cut - 1][:2]}: {str(error)[:200]}"
            )
        shutil.rmtree(place)
    return found


@pytest.fixture(scope="module")
def settings(tiny_model, tiny_data):
    return {"model": str(tiny_model), "data_dir": tiny_data, **SETTINGS}


@pytest.fixture(scope="module")
def watched(tmp_path_factory, settings):
    return watch(tmp_path_factory.mktemp("recorded"), **settings)


def outcome(run: Path) -> dict:
    """All that must be equal; what is left of older checkpoints that were to be deleted may differ."""
    found = crash.outcome(run)
    for name in ("checkpoints", "damaged", "left over"):
        del found[name]
    metrics = json.loads((run / "metrics.json").read_text())
    best = f"step-{metrics['best']['step']:06d}"
    verify_run(run)()
    found |= {"best model": found["best model"][best]}
    return found | {name: metrics[name] for name in ("analysis", "decision", "data")}


@pytest.mark.parametrize("model", ["ordered", "weak"])
def test_no_state_is_silently_wrong_and_each_choice_goes_on_to_the_same_bits(
    watched, tmp_path, settings, model
):
    found = judge_states(watched, tmp_path, model, DISTINCT)
    assert found.problems == []
    assert len(found.contents) == DISTINCT
    steps = {choice.split(", ")[1] for choice in found.choices}
    assert steps >= {"no checkpoint", "step 3", "step 6", "step 9", "step 12"}
    reference = outcome(watched.recording.root / "run")
    for number, (choice, state) in enumerate(sorted(found.choices.items())):
        place = tmp_path / f"resumed-{number}"
        place.mkdir()
        materialize(state, watched.recording.root, place)
        if "refused" in choice.split(", ")[1]:
            before = content(place)
            with pytest.raises(CheckpointError):
                run_tiny(place / "run", resume=True, **settings)
            assert content(place) == before
            continue
        run_tiny(place / "run", resume=True, **settings)
        assert crash.compare(outcome(place / "run"), reference) == [], choice
    print(f"{model}: {len(found.contents)} contents, {len(found.choices)} choices, all resumed")


@pytest.mark.parametrize("model", ["ordered", "weak"])
def test_an_overwrite_loses_neither_the_old_run_nor_the_new_one(tmp_path, settings, model):
    root = tmp_path / "recorded"
    root.mkdir()
    quick = {**settings, "num_train_epochs": 1}
    run_tiny(root / "run", **quick)
    watched = watch(root, overwrite=True, **quick, seed=1)

    def judge_old_run(left: Left) -> str:
        """It is in one of the two folders, or in both, until the new run has a checkpoint."""
        here, there = (content(path) for path in (left.run, left.run.with_name("run.old")))
        names = [name for name in watched.old if {**there, **here}.get(name) == watched.old[name]]
        kept = all(name in names or there.get(name) == watched.old[name] for name in watched.old)
        assert kept or "checkpoint 3" in left.ended, "the old run is lost"
        if not kept:
            assert "step" in judge_checkpoints(left), "neither of the runs is left"
        check_output_dir(TrainConfig(task="demo", output_dir=left.run, overwrite=True))
        return "old run" if kept else "new run"

    found = judge_states(watched, tmp_path, model, DISTINCT // 2, (judge_old_run,))
    assert found.problems == []
    assert {*found.choices} == {"old run", "new run"}


@pytest.mark.parametrize(
    ("without", "lost"),
    [
        pytest.param(
            lambda run, path: True, "is used as it was not written|lost|damaged", id="any"
        ),
        pytest.param(lambda run, path: path == str(run), "lost", id="of the run's folder"),
        pytest.param(
            *(lambda run, path: path == str(run.parent), "lost"),
            id="of its parent",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *(lambda run, path: path.endswith("model.safetensors"), "damaged|not written"),
            id="of the model",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_without_a_flush_the_states_show_what_is_lost(watched, tmp_path, without, lost):
    run = watched.recording.root / "run"
    operations = [
        operation
        for operation in watched.recording.operations
        if operation[0] != "fsync" or not without(run, operation[1])
    ]
    weaker = Watched(Recording(watched.recording.root, operations), watched.saved)
    found = judge_states(weaker, tmp_path, "weak", DISTINCT)
    assert found.problems
    assert any(re.search(lost, problem) for problem in found.problems)
