"""What a training prints: in a pipe, in a terminal, as JSON lines."""

import io
import json
import os
import re

import pexpect
import pytest
from conftest import python
from rich.console import Console

from plainloop import console
from plainloop.cli.app import train
from plainloop.config.settings import TrainConfig
from plainloop.report import terminal

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[[0-9;]*(?:[349][0-9]|10[0-7])m")


@pytest.fixture
def config(tiny_model, tiny_data, tmp_path):
    return TrainConfig(
        task="demo",
        model=str(tiny_model),
        data_dir=tiny_data,
        num_train_epochs=2,
        logging_steps=2,
        learning_rate=1e-3,
        output_dir=tmp_path / "run",
    )


@pytest.fixture
def words(tiny_model, tiny_data):
    """A short training's command line."""
    short = ["--epochs", "2", "--logging-steps", "2", "--output-dir", "run"]
    paths = ["--model", tiny_model, "--data-dir", tiny_data]
    return [str(word) for word in ["-m", "plainloop", "train", "--task", "demo", *paths, *short]]


def in_terminal(words, folder, *, columns, **environment):
    """What a real terminal of this width gets."""
    # readline, which pytest imports, tells children a size that would beat the terminal's own.
    inherited = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
    child = pexpect.spawn(
        python(),
        words,
        cwd=str(folder),
        env={**inherited, "TERM": "xterm", **environment},
        dimensions=(30, columns),
        encoding="utf-8",
        timeout=120,
    )
    child.expect(pexpect.EOF)
    child.wait()  # close() sends SIGHUP to what has not ended 0.1 s later
    child.close()
    assert child.exitstatus == 0, child.before
    return child.before


def test_a_pipe_gets_short_lines_and_nothing_that_is_drawn(words, run_command):
    finished = run_command(*words)
    assert finished.stderr == ""
    lines = finished.stdout.splitlines()
    assert all(re.match(r"(\S.{13} |  epoch )\S", line) for line in lines), lines
    assert lines[-4].startswith("Validation     loss ")
    assert [line[:14].rstrip() for line in lines[-3:]] == ["Saved", "Report", "Model card"]
    assert len([line for line in lines if line.startswith("  epoch ")]) == 2


def test_a_terminal_of_40_columns_gets_a_bar_a_table_and_a_curve(words, tmp_path):
    said = in_terminal(words, tmp_path, columns=40, NO_COLOR="1")
    assert "Training: " in said
    assert not COLOURS.search(said)
    plain = ESCAPES.sub("", said)
    drawn = plain.partition("validation, 21 rows")[2].partition("Report  ")[0].splitlines()
    assert max(map(len, drawn)) <= 40
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))["analysis"]
    of = scores["validation"]
    low, high = of["intervals"]["scores"]["accuracy"]
    row = rf"accuracy +{of['scores']['accuracy']:.4f} +{low:.4f} to {high:.4f} +0\.\d{{4}}"
    assert re.search(row, "\n".join(drawn))
    assert "The best baseline is" in plain.replace("\r\n", " ").replace("  ", " ")
    assert any("(loss)" in line for line in drawn)
    assert "⠤⠤⠤ training   ⠤o⠤ validation" in plain


@pytest.mark.slow
def test_quiet_makes_a_terminal_a_pipe(words, tmp_path, run_command):
    elsewhere = tmp_path / "terminal"  # a second run in one folder says where the first is kept
    elsewhere.mkdir()
    quiet = in_terminal([*words, "--quiet"], elsewhere, columns=200)
    assert not ESCAPES.search(quiet)
    piped = run_command(*words).stdout
    assert quiet.splitlines() == piped.splitlines()


@pytest.mark.slow
def test_each_line_of_a_real_stdout_is_a_json_object(words, run_command):
    finished = run_command(*words, "--seeds", "2", "--log-format", "json")
    assert finished.stderr == ""
    events = [json.loads(line)["event"] for line in finished.stdout.splitlines()]
    assert set(events) == {"message", "step", "evaluation", "scores", "summary"}


@pytest.mark.slow
def test_what_is_read_is_said_before_large_libraries_are_imported_and_the_trainer_never_is(
    tmp_path, tiny_model, run_command
):
    (tmp_path / "films.csv").write_text(
        "text,label\n" + "".join(f"film {n},{n % 2}\n" for n in range(40)), encoding="utf-8"
    )
    probe = tmp_path / "probe.py"
    probe.write_text(
        """\
import sys
from plainloop import console
emit = console.emit
def note(event, record, line=None):
    loaded = [name for name in ("sklearn", "torch") if name in sys.modules]
    emit(event, record, line and f"{loaded} {line}")
console.emit = note
from plainloop.__main__ import main
main()
print("transformers.trainer" in sys.modules)
""",
        encoding="utf-8",
    )
    words = ["train", "films.csv", "--model", tiny_model, "--max-steps", "1"]
    said = run_command(probe, *words, new=True).stdout.splitlines()
    assert said[0] == "[] Reading        films.csv"
    before = [line.split()[1] for line in said if line.startswith("['sklearn'] ")]
    assert before == ["Data", *["Found"] * 4]
    assert said[6].startswith("['sklearn', 'torch'] Device")
    assert said[-1] == "False"


def test_json_lines_hold_what_the_files_of_the_run_hold(config, capsys):
    train(config, log_format="json")
    printed = capsys.readouterr()
    history = (config.run_path / "history.jsonl").read_text("utf-8").splitlines()
    metrics = json.loads((config.run_path / "metrics.json").read_text("utf-8"))
    found = {}
    for line in printed.out.splitlines():
        record = json.loads(line)
        found.setdefault(record.pop("event"), []).append(record)
    assert sorted(found) == ["evaluation", "message", "scores", "step"]
    assert found["step"] == [json.loads(line) for line in history]
    assert found["evaluation"] == metrics["evaluations"]
    [scores] = found["scores"]
    assert scores["split"] == "validation"
    place = {name: metrics["saved"][name] for name in ("step", "epoch")}
    assert scores["scores"] | place == metrics["saved"]
    assert scores["intervals"] == metrics["analysis"]["validation"]["intervals"]
    titles = [message["title"] for message in found["message"]]
    assert titles[0] == "Data"
    assert titles[-3:] == ["Saved", "Report", "Model card"]
    assert all(set(message) == {"title", "text"} for message in found["message"])


def test_what_a_library_prints_is_no_json_line(capsys):
    with console.printing("json", quiet=False):
        print("* a library says hello")
        console.say("Title", "text")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"event": "message", "title": "Title", "text": "text"}
    assert printed.err == "* a library says hello\n"
    console.say("Title", "text")
    assert capsys.readouterr().out == "Title          text\n"


def test_a_mistake_is_a_line_on_stderr_with_json_lines_too(words, refused, tmp_path):
    said = refused("train", "--task", "demo", "--model", tmp_path / "none", "--log-format", "json")
    assert len(said) == 1


def test_control_characters_of_the_data_reach_no_terminal(capsys):
    console.say("Found", "a\x1b[31m\r\n\u202eb")
    assert capsys.readouterr().out == "Found          a\\x1b[31m\\r\\n\\u202eb\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_a_terminal_cannot_encode_is_escaped(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    console.say("Found", "label 猫")
    console.print_line("猫\n猫")
    stream.seek(0)
    assert stream.read() == "Found          label \\u732b\n\\u732b\\n\\u732b\n"


def test_a_terminal_that_cannot_encode_a_label_gets_the_whole_help_and_every_line(run_command):
    """What others print, such as rich, is escaped by the stream itself."""
    script = (
        "from plainloop.cli.exits import expected_errors_exit\n"
        "with expected_errors_exit():\n    print('猫')"
    )
    said = run_command("-c", script, PYTHONIOENCODING="cp1252").stdout
    assert said == "\\u732b\n"


def draw(columns, monkeypatch, steps=(10, 20), losses=(0.7, 0.5), encoding="utf-8"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(width=columns, file=stream)
    head = ["", "score", "95 % CI", "base"]
    rows = [["Matthews' correlation", "-0.0123", "-0.1234 to 0.4567", "-0.0001"]]
    terminal.draw_table(
        console, head, rows, title="validation, 1,234,567 rows", notes=["x y " * 30]
    )
    terminal.draw_curves(console, {"training": (steps, losses), "none": ([], [])})
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("columns", [1, 20, 40, 41, 50, 59, 60, 61, 80, 83, 200])
def test_what_is_drawn_is_no_wider_than_the_terminal(columns, monkeypatch):
    drawn = draw(columns, monkeypatch)
    assert max(map(len, drawn.splitlines())) <= columns
    assert ("(loss)" in drawn) is (columns > 24)
    if columns >= 60:
        assert "Matthews' correlation  -0.0123  -0.1234 to 0.4567  -0.0001" in drawn


def test_a_terminal_without_unicode_gets_a_table_and_no_curve(monkeypatch):
    drawn = draw(80, monkeypatch, encoding="ascii")
    assert "-0.1234 to 0.4567" in drawn
    assert "(loss)" not in drawn


@pytest.mark.parametrize(
    ("losses", "shown"),
    [((0.5, 0.5), "0.5"), ((0.0, 0.0), "0"), ((1e-9, 123456.0), "e+05"), ((-1.0, 1.0), "-1")],
)
def test_any_finite_losses_are_drawn(losses, shown, monkeypatch):
    assert shown in draw(80, monkeypatch, losses=losses)
    assert "(loss)" not in draw(80, monkeypatch, steps=(1,), losses=(0.5,))


KEEPING = """
import logging, sys
from plainloop.console import outliving_readers, say
with outliving_readers():
    logging.kept = sys.stdout, sys.stderr
    say("Saved", "run")
"""


def test_what_is_printed_into_a_file_is_there_although_a_library_keeps_the_stream(run_command):
    assert run_command("-c", KEEPING, new=True).stdout == f"{'Saved':<14} run\n"
