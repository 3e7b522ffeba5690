"""`plainloop predict` on two processes: the file of one process, also after a kill; errors once."""

import csv
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import python

from plainloop.config.settings import TrainConfig
from plainloop.training.fine_tune import fine_tune

pytestmark = pytest.mark.distributed

LAUNCH = [
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--main_process_port", "0", "--num_cpu_threads_per_process", "1", "-m", "plainloop"),
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TORCHRUN += ["-m", "plainloop"]
WORDS = ["the", "cat", "sees", "a", "car", "and", "the", "dog", "likes", "not", "a", "river"]


def write_rows(path, num_rows, *, labelled=False):
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "first", "second", *(["label"] if labelled else [])])
        for row in range(num_rows):
            text = " ".join(WORDS[row % 5 : row % 5 + 3 + row % 9])
            rows.writerow([row, text, WORDS[row % 7], *(["no", "yes"][row % 2 :][: int(labelled)])])


@pytest.fixture(scope="module")
def runs(tiny_model, tmp_path_factory):
    """Finished runs: on single texts, with sliding windows, and on pairs."""
    folder = tmp_path_factory.mktemp("runs")
    write_rows(folder / "train.csv", 60, labelled=True)
    kinds = {"texts": {}, "windows": {"max_length": 8, "stride": 2}, "pairs": {}}
    for kind, settings in kinds.items():
        columns = ("first", "second") if kind == "pairs" else ("first",)
        fine_tune(
            TrainConfig(
                train_file=(str(folder / "train.csv"),),
                text_column=columns,
                model=str(tiny_model),
                output_dir=folder / kind,
                max_steps=4,
                validation_fraction=0.3,
                save_strategy="no",
                products="default",  # not what measures faster, which may differ from time to time
                **settings,
            )
        )
    return folder


def start(words, folder, *flags):
    return subprocess.Popen(
        [python(), *words, "predict", *map(str, flags)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"TEST": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said_by(process):
    """What a command writes to stderr, without what launchers say of themselves."""
    out, errors = process.communicate(timeout=300)
    assert out == ""
    return re.findall(r"^(?:error:|Parts|Predicted|Found).*$", errors, re.MULTILINE), errors


@pytest.mark.parametrize(
    ("kind", "suffix"), [("texts", "csv"), ("windows", "jsonl"), ("pairs", "parquet")]
)
def test_two_processes_write_the_file_of_one(runs, run_command, tmp_path, kind, suffix):
    write_rows(tmp_path / "in.csv", 3_500)
    words = (runs / kind, "--file", "in.csv", "--batch-size", "16", "-o")
    run_command("-m", "plainloop", "predict", *words, f"one.{suffix}")
    launcher = TORCHRUN if kind == "pairs" else LAUNCH
    process = start(launcher, tmp_path, *words, f"two.{suffix}")
    said, errors = said_by(process)
    assert process.returncode == 0, errors
    assert said == [f"Predicted      two.{suffix}: added label, probability_no, probability_yes"]
    assert (tmp_path / f"two.{suffix}").read_bytes() == (tmp_path / f"one.{suffix}").read_bytes()
    assert not (tmp_path / f"two.{suffix}.parts").exists()


def ranks_of(folder):
    """The processes of a launch in a folder, but for the launcher: rank -> id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = dict(
                word.split(b"=", 1) for word in path.read_bytes().split(b"\0") if b"=" in word
            )
        except OSError:  # it has just ended
            continue
        if words.get(b"TEST") == str(folder).encode() and b"RANK" in words:
            found[int(words[b"RANK"])] = int(path.parent.name)
    return found


def wait_for_parts(process, folder, number):
    deadline = time.monotonic() + 200
    while len([*folder.glob("out.csv.parts/*.npy")]) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_both_killed_and_started_again_they_predict_the_rest(runs, run_command, tmp_path):
    write_rows(tmp_path / "in.csv", 40_000)
    words = (runs / "texts", "--file", "in.csv", "-o")
    run_command("-m", "plainloop", "predict", *words, "one.csv")
    process = start(LAUNCH, tmp_path, *words, "out.csv")
    wait_for_parts(process, tmp_path, 4)
    for pid in ranks_of(tmp_path).values():
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (tmp_path / "out.csv").exists()
    kept = len([*tmp_path.glob("out.csv.parts/*.npy")])
    assert 4 <= kept < 40
    process = start(LAUNCH, tmp_path, *words, "out.csv")
    said, errors = said_by(process)
    assert process.returncode == 0, errors
    assert said[0] == f"Parts          {kept} of out.csv.parts are kept"
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "one.csv", "out.csv"]


@pytest.mark.parametrize("rank", [0, 1])
def test_one_killed_the_other_says_so_in_one_line(runs, tmp_path, rank):
    write_rows(tmp_path / "in.csv", 40_000)
    process = start(LAUNCH, tmp_path, runs / "texts", "--file", "in.csv", "-o", "out.csv")
    wait_for_parts(process, tmp_path, 2)
    os.kill(ranks_of(tmp_path)[rank], signal.SIGKILL)
    said, errors = said_by(process)
    assert process.returncode != 0
    assert said == [f"error: rank {rank} has ended; run the same command again"], errors
    assert "plainloop/predict" not in errors, "no traceback of ours"
    assert ranks_of(tmp_path) == {}


INTERRUPTED = """
import os, signal, time

import plainloop as pl
from plainloop.cli.exits import expected_errors_exit
from plainloop.errors import StoppedError
from plainloop.run.rank_failure import announce_errors
from plainloop.run.signals import StopRequest

with expected_errors_exit(), StopRequest() as stop, announce_errors("run it again", stop):
    accelerator = pl.create_accelerator(pl.TrainConfig(use_cpu=True))
    accelerator.wait_for_everyone()
    if accelerator.process_index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        time.sleep(60)
    except StoppedError as error:
        raise ImportError("cut short by the signal") from error
"""


def test_a_rank_whose_import_the_launcher_interrupts_says_which_rank_has_ended(tmp_path):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED, encoding="utf-8")
    process = start([*LAUNCH[:-2], "interrupted.py"], tmp_path)
    said, errors = said_by(process)
    assert said == ["error: rank 0 has ended; run it again"], errors


def test_the_launcher_stopped_one_line_says_so(runs, tmp_path):
    write_rows(tmp_path / "in.csv", 40_000)
    process = start(LAUNCH, tmp_path, runs / "texts", "--file", "in.csv", "-o", "out.csv")
    wait_for_parts(process, tmp_path, 2)
    process.terminate()
    said, errors = said_by(process)
    assert process.returncode != 0
    assert said == ["error: stopped by SIGTERM outside the training"], errors
    assert ranks_of(tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv.parts"]


def test_what_both_find_is_said_once(runs, tmp_path):
    write_rows(tmp_path / "in.csv", 3)
    process = start(LAUNCH, tmp_path, runs / "texts", "--file", "inn.csv", "-o", "out.csv")
    [line], _ = said_by(process)
    assert "inn.csv" in line
    assert process.returncode != 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--text", "a"],
        ["--file", "in.csv"],
        ["--file", "-", "-o", "out.csv"],
        ["--glue-submission", "out", "--data-dir", "."],
    ],
)
def test_what_several_processes_cannot_share_is_refused(runs, run_command, tmp_path, flags):
    write_rows(tmp_path / "in.csv", 3)
    words = ["-m", "plainloop", "predict", runs / "texts", *flags]
    finished = run_command(*words, expect=2, WORLD_SIZE="2", RANK="0")
    [line] = finished.stderr.splitlines()
    assert line.startswith("error: plainloop predict: several processes share the rows of --file")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
