"""SIGTERM to real runs at 20 seeded moments, from the loading to the save: none is lost."""

import json
import random
import re
import shlex
import signal
from pathlib import Path
from typing import NamedTuple

import crash
import matrix
import pytest

from plainloop.run.atomic import find_corruption
from plainloop.run.checkpoints import list_checkpoints, step_of

pytestmark = pytest.mark.crash

TERMINATED = 128 + signal.SIGTERM
LINEAR = "torch.nn:Linear.forward"
KINDS = [
    matrix.Case(0, 4, 1, "signal"),
    matrix.Case(2, 1, 1, "signal"),
    matrix.Case(0, 4, 2, "signal"),
    matrix.Case(2, 1, 2, "signal"),
]


class Moment(NamedTuple):
    """Where a signal falls: in a call, a number of them after a step."""

    kind: matrix.Case
    phase: str
    place: str
    step: int
    count: int
    rank: str

    def __str__(self) -> str:
        return f"{self.phase}-{self.place.rpartition(':')[2]}-{'-'.join(map(str, self.kind[:3]))}"


def moments() -> list[Moment]:
    """Four in each phase, one in each kind of run, at steps and calls that the seed draws."""
    draw, found = random.Random(20), []
    places = {
        # Before the training every process has the signal, as a launcher or a scheduler sends it.
        "load": [
            "plainloop.training.fine_tune:load_tokenizer",
            "plainloop.training.fine_tune:create_model",
            "plainloop.training.fine_tune:create_scheduler",
            "plainloop.training.fine_tune:open_run",
        ],
        "tokenize": ["datasets:Dataset.map"] * 2
        + ["plainloop.training.fine_tune:keep_model_inputs"] * 2,
        "step": [
            LINEAR,
            "accelerate:Accelerator.backward",
            "torch:_fused_adamw_",
            "torch.optim.lr_scheduler:LRScheduler.step",
        ],
        "evaluation": [
            "plainloop.metrics.task_metric:TaskMetric.add_batch",
            "plainloop.metrics.task_metric:TaskMetric.compute",
            "plainloop.run.state:TrainState.record_evaluation",
            "plainloop.metrics.task_metric:TaskMetric.add_batch",
        ],
        "write": [
            "plainloop.run.atomic:fsync_path",
            "plainloop.run.checkpoints:save_model",
            "plainloop.run.rng:save_file",
            "plainloop.run.atomic:hash_file",
        ],
    }
    for phase, names in places.items():
        in_training = phase in ("step", "evaluation", "write")
        for kind, place in zip(KINDS, names, strict=True):
            last = 2 * kind.steps_per_epoch - 1
            step = draw.randint(1, last) if in_training else 0
            count = draw.randint(1, 3) if place == LINEAR or "hash" in place else 1
            of_rank_0 = phase == "write" and "generators" not in place
            rank = "0" if of_rank_0 else str(draw.randrange(kind.processes))
            found.append(Moment(kind, phase, place, step, count, rank if in_training else "all"))
    return found


def terminated(moment: Moment, run: Path, *, times: int = 1) -> tuple[list[int], str, dict]:
    """Run until the signal ends it: exit codes, what was printed, and when the signal came."""
    fell = run.with_suffix(".fell")
    codes = matrix.bench().start(
        run, moment.kind.processes, *moment.kind.words, fork=True,
        CRASH_AT=f"{moment.phase}/{moment.place}/after/{moment.step}/{moment.count}",
        CRASH_SIGNALS=",".join([str(int(signal.SIGTERM))] * times),
        CRASH_RANK=moment.rank, CRASH_LOG=fell,
    ).wait()  # fmt: skip
    printed = crash.log_of(run).read_text(errors="replace").replace("\r", "\n")
    assert fell.exists(), printed[-2000:]
    assert "Traceback" not in printed or times > 1, printed[-3000:]
    return codes, printed, json.loads(fell.read_text())


def test_the_moments_are_20_of_all_phases_with_workers_and_two_processes():
    found = moments()
    assert len(found) == len(set(found)) == 20
    assert sum(moment.kind.workers > 0 for moment in found) == 10
    assert sum(moment.kind.processes > 1 for moment in found) == 10


@pytest.mark.parametrize(
    "moment",
    [  # in CI one of each phase, by turns of another kind of run
        pytest.param(moment, marks=[pytest.mark.nightly] * ((number + number // 4) % 4 > 0))
        for number, moment in enumerate(moments())
    ],
    ids=str,
)
def test_a_terminated_run_ends_within_its_step_and_goes_on_to_the_same_bits(moment, tmp_path):
    run = tmp_path / "run"
    codes, printed, fell = terminated(moment, run)
    assert codes == [TERMINATED] * moment.kind.processes, printed[-3000:]
    if moment.phase in ("load", "tokenize"):
        assert "error: stopped by SIGTERM outside the training" in printed
        assert not list_checkpoints(run / "checkpoints")
        assert matrix.resume(moment.kind, run) == []
        log = crash.log_of(run).read_text(errors="replace")
        assert "no checkpoint to resume from yet: starting at step 0" in log
        return
    assert "SIGTERM: stopping after this step; once more to stop at once" in printed
    said = r"error: stopped after step (\d+); saved (\S+); to go on(?:, on 2 processes)?: (.*)$"
    step, saved, command = re.search(said, printed, re.MULTILINE).groups()
    assert fell["step"] <= int(step) <= fell["step"] + 1
    newest = list_checkpoints(run / "checkpoints")[-1]
    assert (newest, step_of(newest)) == (Path(saved), int(step))
    assert find_corruption(newest) is None
    assert not [*run.rglob(".tmp-*")]
    # With the command that was printed.
    program, *words = shlex.split(command)
    assert program == "plainloop"
    codes = crash.Run(words, run, moment.kind.processes, fork=True).wait()
    assert not any(codes), crash.log_of(run).read_text(errors="replace")[-3000:]
    different = crash.compare(crash.outcome(run), matrix.reference(moment.kind))
    assert different in ([], ["checkpoints"])  # the stop adds one


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2]], ids=["1 process", "2 processes"])
def test_a_second_signal_in_a_save_ends_at_once_and_the_old_checkpoint_is_whole(kind, tmp_path):
    """No rank goes on to a rename, and the one before is what the run goes on from."""
    run = tmp_path / "run"
    moment = Moment(
        kind, "write", "plainloop.run.checkpoints:save_file", 2 * kind.steps_per_epoch, 1, "0"
    )
    codes, _, _ = terminated(moment, run, times=2)
    assert codes[0] == -signal.SIGTERM
    whole = list_checkpoints(run / "checkpoints")
    assert [step_of(path) for path in whole] == [kind.steps_per_epoch]
    assert find_corruption(whole[0]) is None
    assert matrix.resume(kind, run, stop_adds_one=False) == []
