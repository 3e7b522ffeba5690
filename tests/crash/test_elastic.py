"""A launcher that starts its processes again after one was killed: the run goes on by itself."""

import shutil

import crash
import matrix
import pytest

pytestmark = pytest.mark.crash

KIND = matrix.Case(0, 4, 2, "restart")


@pytest.mark.parametrize(
    ("step", "rank", "said"),
    [
        pytest.param(
            *(KIND.steps_per_epoch + 1, "1", "step-000003, step 3"),
            id="after the first checkpoint",
        ),
        pytest.param(
            *(1, "0", "no checkpoint to resume from yet: starting at step 0"),
            id="before the first checkpoint",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_a_killed_rank_is_started_again_and_the_run_ends_with_the_same_bits(
    tmp_path, step, rank, said
):
    run = tmp_path / "run"
    started = matrix.bench().start(
        run, 2, *KIND.words, fork=False, max_restarts=1,
        CRASH_AT=f"backward/accelerate:Accelerator.backward/before/{step}/1",
        CRASH_RANK=rank, CRASH_LOG=run.with_suffix(".fell"),
    )  # fmt: skip
    assert started.wait() == [0]
    assert run.with_suffix(".fell").exists()
    printed = crash.log_of(run).read_text(errors="replace")
    assert printed.count(said) == 1
    assert printed.count("starting at step 0") == ("0" in rank)
    assert crash.compare(crash.outcome(run), matrix.reference(KIND)) == []


def test_a_restart_without_a_checkpoint_does_not_take_the_folder_of_a_finished_run(tmp_path):
    """It says what is there, as --resume does, and changes nothing."""
    run = tmp_path / "run"
    assert not any(matrix.bench().start(run, 2, *KIND.words, fork=True).wait())
    shutil.rmtree(run / "checkpoints")
    before = (run / "model.safetensors").read_bytes()
    again = matrix.bench().start(run, 2, *KIND.words, fork=True, TORCHELASTIC_RESTART_COUNT="1")
    assert again.wait() == [3, 3]
    printed = crash.log_of(run).read_text(errors="replace")
    assert printed.count("error: ") == 1
    assert "a finished run without checkpoints" in printed
    assert (run / "model.safetensors").read_bytes() == before
