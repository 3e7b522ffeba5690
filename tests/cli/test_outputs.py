"""What each command writes: never over its own input or a run's file, nothing unasked, refused at once."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import python

ROWS = "text,label\n" + "".join(
    f"The {subject} sees a car,{label}\n"
    for subject in ("cat", "dog", "girl", "boy", "nurse", "baker")
    for label in ("yes", "no")
)


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """A folder with training rows, a model, and a run on them."""
    from plainloop.config.settings import TrainConfig
    from plainloop.training.fine_tune import fine_tune

    folder = tmp_path_factory.mktemp("outputs")
    (folder / "train.csv").write_text(ROWS, encoding="utf-8")
    config = TrainConfig(
        train_file=(str(folder / "train.csv"),),
        model=str(tiny_model),
        max_steps=2,
        validation_fraction=0.5,
        save_strategy="no",
        output_dir=folder / "run",
    )
    fine_tune(config)
    return folder


@pytest.fixture
def folder(trained, tiny_model, tmp_path):
    """Links to them, and settings, in the folder of the command; no byte of them may change."""
    (tmp_path / "run").symlink_to(trained / "run")
    (tmp_path / "model").symlink_to(tiny_model)
    (tmp_path / "train.csv").symlink_to(trained / "train.csv")
    (tmp_path / "new.csv").write_text("text\nThe cat sees a car\n", encoding="utf-8")
    (tmp_path / "settings.py").write_text(
        "train_file: [train.csv]\nmodel: model\n", encoding="utf-8"
    )

    def content():
        folders = (tmp_path, trained, tiny_model)
        return {
            path: path.is_file() and path.read_bytes()
            for folder in folders
            for path in folder.rglob("*")
            if path.name != ".lock"
        }

    before = content()
    yield tmp_path
    assert content() == before


CHECK = ["check", "--train-file", "train.csv", "--model", "model", "--report"]
EVALUATE = ["evaluate", "run", "-o"]
TRAIN = ["train", "-o", "run", "--overwrite", "--train-file"]
EJECT = ["eject", "--config", "settings.py", "--overwrite", "-o"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([*CHECK, "train.csv"], "--report train.csv: is an input too"),
        ([*CHECK, "model/config.json"], "--report model/config.json: is an input too"),
        ([*CHECK, "run/metrics.json"], "is a file of the run"),
        (["check", "--config", "settings.py", "--report", "settings.py"], "is an input too"),
        ([*CHECK, "absent/check.json"], "no such folder"),
        ([*CHECK, "."], "--report .: is a folder"),
        ([*CHECK, "x" * 300], "File name too long"),
        ([*EVALUATE, "train.csv"], "--output train.csv: is an input too"),
        ([*EVALUATE, "new.csv", "--file", "new.csv"], "--output new.csv: is an input too"),
        ([*EVALUATE, "run/metrics.json"], "is a file of the run"),
        (["compare", "run", "run", "-o", "run/run.yaml"], "is a file of the run"),
        (["predict", "run", "--file", "new.csv", "-o", "new.csv"], "is an input too"),
        (
            ["predict", "run", "--file", "new.csv", "-o", "run/predictions/validation.parquet"],
            "is a file of the run",
        ),
        (
            [*TRAIN, "run/predictions/validation.parquet", "--model", "model"],
            "--overwrite would delete run/predictions/validation.parquet, which the new run reads",
        ),
        ([*TRAIN, "train.csv", "--model", "run"], "--overwrite would delete run, which"),
        ([*EJECT, "settings.py"], "--script settings.py: is an input too"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_file_that_would_be_lost_is_refused_in_a_line(folder, run_command, words, what):
    finished = run_command("-m", "plainloop", *words, expect=2)
    assert all(line.startswith("Reading ") for line in finished.stdout.splitlines())
    [line] = finished.stderr.splitlines()
    assert what in line


def test_stdin_is_an_input_too(folder):
    with (folder / "new.csv").open() as stdin:
        words = [python(), "-m", "plainloop", "predict", "run", "--file", "-", "-o", "new.csv"]
        finished = subprocess.run(
            words, check=False, stdin=stdin, cwd=folder, capture_output=True, text=True
        )
    assert finished.returncode == 2
    assert "--output new.csv: is an input too" in finished.stderr


def test_check_writes_nothing_unasked(folder, run_command):
    said = run_command("-m", "plainloop", *CHECK[:-1]).stdout
    assert "All of it" not in said


def test_a_full_device_ends_with_4_and_a_line(folder, run_command):
    said = run_command("-m", "plainloop", *CHECK, "/dev/full", expect=4).stderr
    assert said.startswith("error: --report /dev/full: cannot be written: the disk is full; ")
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_a_file_size_limit_ends_with_4_and_a_line(folder, run_command):
    """SIGXFSZ is ignored by Python, so that the write fails."""
    script = (
        "import resource, sys\n"
        "from plainloop.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "main()"
    )
    said = run_command("-c", script, *EVALUATE, "scores.json", expect=4).stderr
    assert "File too large" in said.splitlines()[-1]
    assert "Traceback" not in said
    said = run_command("-c", script, "report", "run", expect=4).stderr
    assert "File too large" in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [["evaluate", "run"], ["compare", "run", "run"], CHECK[:-1]])
def test_a_reader_that_has_ended_ends_a_command_without_a_traceback(folder, words):
    read, write = os.pipe()
    os.close(read)
    finished = subprocess.run(
        [python(), "-m", "plainloop", *words],
        check=False,
        stdout=write,
        cwd=folder,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (finished.returncode, finished.stderr) == (141, b"")


def test_a_training_outlives_the_readers_of_its_output(folder):
    """`| head -1` for both streams: it is finished, with all its files."""
    short = ["--train-file", "train.csv", "--model", "model", "--max-steps", "2", "-o", "new"]
    process = subprocess.Popen(
        [python(), "-m", "plainloop", "train", *short, "--save-strategy", "no"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith("Reading ")
    process.stdout.close()
    assert process.wait(300) == 0
    assert (folder / "new" / "report.html").is_file()
    shutil.rmtree(folder / "new")


def test_a_closed_stdout_is_no_error_and_nothing_is_printed_into_a_file(tmp_path):
    """The next file that is opened would get its number."""
    script = (
        "import sys\n"
        "from plainloop.cli.exits import expected_errors_exit\n"
        "with expected_errors_exit(), open('file', 'w') as file:\n"
        "    print('printed')\n"
        "    print('printed', file=sys.stderr, flush=True)\n"
        "    file.write('content')\n"
    )
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-c", script]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "content"
