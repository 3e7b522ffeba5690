"""SIGTERM and SIGINT to the real command: it stops soon, says what it saved, and goes on from it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import python, write_pairs

from plainloop.config.settings import TrainConfig
from plainloop.errors import StoppedError
from plainloop.run.atomic import find_corruption
from plainloop.run.checkpoints import list_checkpoints
from plainloop.run.signals import StopRequest
from plainloop.training import fine_tune

ENDLESS = ("--epochs", "100000", "--logging-steps", "1")
NEVER = ("--save-strategy", "no")
EACH_STEP = ("--save-strategy", "steps", "--save-steps", "1")


def copy_until_closed(terminal: int, file: int) -> None:
    with suppress(OSError):  # the terminal's way to end
        while shown := os.read(terminal, 4096):
            os.write(file, shown)
    os.close(terminal)
    os.close(file)


class Command:
    """A plainloop train in the background, that would run for hours."""

    def __init__(
        self, folder: Path, model: Path, data: Path, *more: str,
        save=NEVER, on_terminal=False, new=False,
    ):  # fmt: skip
        self.python = sys.executable if new else python()
        self.run, self.errors = folder / "run", folder / "stderr"
        words = ("--task", "demo", "--model", str(model), "--data-dir", str(data))
        self.words = [*words, "--output-dir", str(self.run), *ENDLESS, *save, *more]
        self.start(on_terminal=on_terminal)

    def start(self, *more: str, on_terminal=False):
        errors = os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        terminal, stderr = pty.openpty() if on_terminal else (None, errors)
        self.process = subprocess.Popen(
            [self.python, "-m", "plainloop", "train", *self.words, *more],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=self.run.parent,
            start_new_session=True,
        )
        os.close(stderr)
        self.copier = None
        if on_terminal:  # what it shows goes to the file, too
            termios.tcsetwinsize(terminal, (24, 80))
            words = (terminal, errors)
            self.copier = threading.Thread(target=copy_until_closed, args=words, daemon=True)
            self.copier.start()

    def wait_for(self, what):
        deadline = time.monotonic() + 300
        while not what():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.errors.read_text()[-2000:]
            time.sleep(0.02)

    def steps(self):
        history = self.run / "history.jsonl"
        return history.read_bytes().count(b"\n") if history.exists() else 0

    def said(self, text):
        return lambda: text in self.errors.read_text()

    def end(self, *, killed=True):
        """The exit code and stderr. It would run for hours, and on a busy machine a step takes seconds."""
        code = self.process.wait(60)
        if self.copier:
            self.copier.join(60)
        if killed:
            self.kill()
        errors = self.errors.read_text().replace("\r", "\n")
        assert "Traceback" not in errors, errors[-3000:]
        return code, errors

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def saved(self, errors):
        """The step of the one checkpoint, which is whole and which the last line names."""
        line = [line for line in errors.splitlines() if "error: " in line][-1]
        step, folder = re.search(r"stopped after step (\d+); saved ([^;\s]+)", line).groups()
        assert list_checkpoints(self.run / "checkpoints")[-1] == Path(folder)
        assert find_corruption(Path(folder)) is None
        assert "--resume" in line
        assert not list((self.run / "checkpoints").glob(".*"))
        return int(step)


@pytest.fixture
def command(tmp_path, tiny_model, tiny_data):
    started = []

    def start(*more, data=tiny_data, **settings):
        started.append(Command(tmp_path, tiny_model, data, *more, **settings))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_a_signal_in_a_step_saves_and_the_same_command_goes_on_from_there(command):
    train = command()
    stopped = 0
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        train.wait_for(lambda: train.steps() > stopped + 3)  # noqa: B023
        train.process.send_signal(number)
        ended, errors = train.end()
        assert ended == code
        stopped = train.saved(errors)
        history = (train.run / "history.jsonl").read_text()
        steps = [int(step) for step in re.findall(r'"step": (\d+)', history)]
        assert steps == list(range(1, stopped + 1)), "none is missing or there twice"
        if number != signal.SIGHUP:
            train.start("--resume")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.nightly)],
)
def test_a_signal_to_the_whole_group_stops_a_run_with_loader_workers(command, number, code):
    """As Ctrl-C, systemd and Slurm send it: the workers have it, too, and none stays behind."""
    train = command("--dataloader-num-workers", "2", new=True)
    train.wait_for(lambda: train.steps() > 3)
    os.killpg(train.process.pid, number)
    ended, errors = train.end(killed=False)
    assert ended == code
    assert train.saved(errors)
    with pytest.raises(ProcessLookupError):
        os.killpg(train.process.pid, 0)


@pytest.fixture
def long_evaluation(tmp_path, tiny_data):
    """The tiny data with an evaluation of minutes."""
    folder = tmp_path / "long"
    folder.mkdir()
    (folder / "train.tsv").write_bytes((tiny_data / "train.tsv").read_bytes())
    write_pairs(folder / "validation.tsv", 20_000, seed=2)
    return folder


EVERY_FOURTH = ("--eval-strategy", "steps", "--eval-steps", "4")


@pytest.mark.slow
def test_a_signal_in_an_evaluation_saves_and_the_evaluation_is_done_on_resume(
    command, long_evaluation
):
    one_by_one = (*EVERY_FOURTH, "--eval-batch-size", "1")
    train = command(*one_by_one, data=long_evaluation, on_terminal=True)
    train.wait_for(train.said("Evaluating"))
    train.process.terminate()
    ended, errors = train.end()
    assert ended == 143
    assert train.saved(errors) == 4
    train.start("--resume", on_terminal=True)
    train.wait_for(train.said("Evaluating"))
    assert train.steps() == 4, "the evaluation comes before the next step"


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "torch.nn",
        pytest.param("transformers.models.bert.modeling_bert", marks=pytest.mark.nightly),
    ],
)
def test_a_signal_before_the_training_leaves_nothing_half_written(command, tmp_path, module):
    """It comes when this module is imported: with torch, and when the model is loaded."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        train = command(new=True)
    ended, errors = train.end()
    assert ended == 143
    assert len(errors.strip().splitlines()) == 1
    assert not train.run.exists()


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_the_old_checkpoint_is_whole(command, tmp_path):
    """The save of step 2 never ends: its disk does not answer."""
    slow = tmp_path / "sitecustomize.py"
    slow.write_text(
        "import os, time\n"
        "fsync = os.fsync\n"
        "def stuck(descriptor):\n"
        "    if 'tmp-step-000001' not in os.readlink(f'/proc/self/fd/{descriptor}'):\n"
        "        if 'tmp-step' in os.readlink(f'/proc/self/fd/{descriptor}'):\n"
        "            open('stuck', 'w').close()\n"
        "            time.sleep(60)\n"
        "    fsync(descriptor)\n"
        "os.fsync = stuck\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        train = command(save=EACH_STEP, new=True)
    train.wait_for((tmp_path / "stuck").exists)
    train.process.terminate()
    train.wait_for(train.said("once more to stop at once"))
    train.process.terminate()
    ended, _ = train.end()
    assert ended == -signal.SIGTERM
    whole = list_checkpoints(train.run / "checkpoints")
    assert [path.name for path in whole] == ["step-000001"]
    assert find_corruption(whole[0]) is None


# What the process does with a signal, without a process.


@pytest.mark.parametrize(
    ("place", "save_strategy"),
    [("finish_trackers", "epoch"), ("evaluate_saved", "epoch"), ("finish_trackers", "no")],
)
def test_a_signal_after_the_last_step_ends_the_run_with_its_model_saved(
    tiny_model, tiny_data, tmp_path, place, save_strategy
):
    """Before the model is saved, and in the evaluation of the saved one."""
    function = getattr(fine_tune, place)

    def interrupted(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **settings)

    folder = tmp_path / "run"
    config = TrainConfig(
        task="demo",
        model=str(tiny_model),
        data_dir=tiny_data,
        max_steps=2,
        save_strategy=save_strategy,
        output_dir=folder,
    )
    with pytest.MonkeyPatch.context() as patch, StopRequest() as stop:
        patch.setattr(fine_tune, place, interrupted)
        with pytest.raises(StoppedError) as caught:
            fine_tune.fine_tune(config, stop=stop)
    again = {
        "epoch": f"for its scores and pages: plainloop train --config {folder}/run.yaml --resume",
        "no": f"for its scores: plainloop evaluate {folder}",
    }[save_strategy]
    what = f"stopped by SIGTERM after the training; the model is saved in {folder}"
    assert str(caught.value) == f"{what}; {again}"
    assert caught.value.exit_code == 143
    assert (folder / "model.safetensors").is_file()
    assert "analysis" not in json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_a_hangup_that_was_ignored_at_the_start_stays_ignored():
    """As nohup does it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal_number is None
            os.kill(os.getpid(), signal.SIGURG)  # for the handlers to run
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with StopRequest() as stop, pytest.raises(StoppedError) as caught:
            os.kill(os.getpid(), signal.SIGHUP)
        assert caught.value.exit_code == 129
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_a_library_swallows_before_the_training_still_stops_it():
    """A bare or broad except in an import, a C callback: the exception can be lost there."""
    with StopRequest() as stop:
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_number == signal.SIGTERM, "the loop stops after its first step"


def test_a_signal_that_an_import_turns_into_another_error_is_no_traceback():
    """A module of C code that is interrupted raises ImportError."""

    def interrupted():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except StoppedError as error:
            raise ImportError("initialization failed") from error

    with pytest.raises(StoppedError) as caught, StopRequest():
        interrupted()
    assert caught.value.exit_code == 143


def test_a_signal_while_stderr_is_blocked_is_noted_and_not_a_reentrant_call():
    script = (
        "import sys\n"
        "from plainloop.run.signals import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    stop.deferred = True\n"
        "    print('ready', flush=True)\n"
        "    sys.stderr.write('x' * 300_000 + '\\n')\n"
        "    sys.stderr.flush()\n"
        "    print(stop.signal_number)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)  # until the pipe is full
    process.terminate()
    time.sleep(0.2)
    printed, errors = process.communicate(timeout=20)
    assert "reentrant" not in errors
    assert (process.returncode, printed) == (0, "15\n")
