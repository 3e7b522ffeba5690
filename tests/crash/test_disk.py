"""A disk that fails one of two processes: neither waits for the other, and one says why."""

import errno
import time

import crash
import matrix
import pytest

from plainloop.run.atomic import find_corruption
from plainloop.run.checkpoints import list_checkpoints, step_of

pytestmark = pytest.mark.crash

KIND = matrix.Case(0, 4, 2, "disk")
FULL, READ_ONLY = "the disk is full", "the disk is read-only"


@pytest.mark.parametrize(
    ("place", "rank", "error", "said"),
    [
        ("plainloop.run.checkpoints:begin_folder", 0, errno.EROFS, READ_ONLY),
        ("plainloop.run.checkpoints:save_file", 0, errno.ENOSPC, FULL),
        ("plainloop.run.rng:save_file", 1, errno.ENOSPC, FULL),
        ("plainloop.run.atomic:fsync_path", 0, errno.ENOSPC, FULL),
        ("plainloop.run.checkpoints:commit_folder", 0, errno.EROFS, READ_ONLY),
    ],
    ids=["folder", "optimizer", "generators of rank 1", "flush", "best model"],
)
def test_all_processes_end_with_4_and_one_line_and_the_old_checkpoint_is_whole(
    tmp_path, place, rank, error, said
):
    run = tmp_path / "run"
    fell = run.with_suffix(".fell")
    step = 2 * KIND.steps_per_epoch
    codes = matrix.bench().start(
        run, 2, *KIND.words, fork=True,
        CRASH_AT=f"disk/{place}/after/{step}/1", CRASH_RANK=rank, CRASH_ERRNO=error,
        CRASH_LOG=fell,
    ).wait()  # fmt: skip
    waited = time.time() - fell.stat().st_mtime
    printed = crash.log_of(run).read_text(errors="replace")
    assert codes == [4, 4], printed[-3000:]
    assert waited < 60, "gloo's own limit is half an hour"
    assert printed.count("error: ") == 1, printed[-3000:]
    assert said in printed
    assert "Traceback" not in printed
    assert [step_of(path) for path in list_checkpoints(run / "checkpoints")][:1] == [3]
    assert all(find_corruption(path) is None for path in list_checkpoints(run / "checkpoints"))
    assert not [*run.rglob(".tmp-*")]
    assert matrix.resume(KIND, run, stop_adds_one=False) == []


def test_a_folder_that_cannot_be_opened_ends_both_processes_with_one_line(tmp_path):
    run = tmp_path / "run"
    codes = matrix.bench().start(
        run, 2, *KIND.words, fork=True,
        CRASH_AT="disk/plainloop.run.folder:lock_folder/before/0/1", CRASH_ERRNO=errno.ENOSPC,
        CRASH_LOG=run.with_suffix(".fell"),
    ).wait()  # fmt: skip
    printed = crash.log_of(run).read_text(errors="replace")
    assert codes == [4, 4], printed[-3000:]
    assert printed.count("error: ") == 1
    assert "Traceback" not in printed
