"""plainloop predict and plainloop evaluate as real commands: files, pipes, kills, memory, mistakes."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import python

SUBJECTS = ["cat", "dog", "girl", "boy", "nurse", "baker", "farmer", "pilot"]
OBJECTS = ["car", "tree", "house", "river", "song", "letter", "cake", "boat"]

ROWS = "text,label\n" + "".join(
    f"The {subject} sees a {thing},{'yes' if row % 2 else 'no'}\n"
    for row, (subject, thing) in enumerate(zip(SUBJECTS * 3, OBJECTS * 3, strict=True))
)


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    """A folder with the rows, the run that was trained on them, and one that was not finished."""
    from plainloop.config.settings import TrainConfig
    from plainloop.training.fine_tune import fine_tune

    folder = tmp_path_factory.mktemp("commands")
    (folder / "train.csv").write_text(ROWS, encoding="utf-8")
    settings = {
        "train_file": (str(folder / "train.csv"),),
        "model": str(tiny_model),
        "max_steps": 4,
        "validation_fraction": 0.5,
        "save_strategy": "no",
    }
    fine_tune(TrainConfig(output_dir=folder / "run", **settings))
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "run.yaml").write_bytes((folder / "run" / "run.yaml").read_bytes())
    return folder


def command(*words, program=None, **options):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [program or python(), "-m", "plainloop", *map(str, words)]
    return subprocess.Popen(command, **streams)


def test_evaluate_prints_the_scores_and_each_labels_and_writes_them(run_command, folder, tmp_path):
    saved = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))["saved"]
    said = run_command("-m", "plainloop", "evaluate", folder / "run", "-o", "scores.json").stdout
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["validation"]
    assert scores == {key: saved[key] for key in scores}
    headline, header, *labels = said.splitlines()
    assert headline.split()[:3] == ["Validation", "loss", f"{scores['loss']:.4f},"]
    assert header.split() == ["precision", "recall", "f1", "support"]
    assert [line.split()[0] for line in labels] == ["no", "yes"]
    assert [int(line.split()[-1]) for line in labels] == [6, 6]


def test_predict_writes_the_file_and_says_what_was_added(run_command, folder, tmp_path):
    words = ["predict", folder / "run", "--file", folder / "train.csv", "--output", "out.csv"]
    finished = run_command("-m", "plainloop", *words)
    assert finished.stdout == ""
    last = finished.stderr.splitlines()[-1]
    assert last.endswith("out.csv: added prediction, probability_no, probability_yes")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [f"{row['text']},{row['label']}" for row in rows] == ROWS.splitlines()[1:]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_rows_flow_from_stdin_to_stdout(folder):
    text = 'id,text\n1,"a, ""quoted"" cat"\n2,"two\nlines"\n3,\n'
    process = command(
        "predict", folder / "run", "--file", "-", "--output", "-", stdin=subprocess.PIPE
    )
    out, errors = process.communicate(text.encode())
    assert process.returncode == 0, errors
    rows = list(csv.DictReader(io.StringIO(out.decode(), newline=""), strict=True))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["text"] for row in rows] == ['a, "quoted" cat', "two\nlines", ""]
    assert list(rows[0]) == ["id", "text", "label", "probability_no", "probability_yes"]


def test_the_format_of_pipes_can_be_named(folder):
    flags = ["--format", "jsonl", "--spreadsheet-safe"]
    process = command(
        "predict", folder / "run", "--file", "-", "-o", "-", *flags, stdin=subprocess.PIPE
    )
    out, errors = process.communicate(b'{"text": "=cat", "more": [1, null]}\n')
    assert process.returncode == 0, errors
    [row] = map(json.loads, out.decode().splitlines())
    assert (row["text"], row["more"]) == ("=cat", [1, None])


def test_a_reader_that_has_seen_enough_ends_it_quietly(folder, tmp_path):
    write_rows(tmp_path / "in.csv", 20_000)
    process = command("predict", folder / "run", "--file", tmp_path / "in.csv", "-o", "-")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert process.wait() == 141
    assert "Traceback" not in said
    assert "error" not in said.lower()


def test_stdin_is_called_stdin(folder):
    process = command(
        "predict", folder / "run", "--file", "-", "--output", "-", stdin=subprocess.PIPE
    )
    out, errors = process.communicate(b"text\na\nb,c\n")
    assert process.returncode == 2
    assert out == b""
    assert errors.decode().startswith("error: stdin.csv: line 3 has 2 fields, expected 1")


def write_rows(path, num_rows):
    lines = [
        f"{row},The {SUBJECTS[row % 8]} sees a {OBJECTS[row % 7]}\n" for row in range(num_rows)
    ]
    path.write_text("id,text\n" + "".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_killed_half_way_it_leaves_nothing_under_the_final_name(folder, tmp_path, number, code):
    write_rows(tmp_path / "in.csv", 100_000)
    out = tmp_path / "out.csv"
    process = command("predict", folder / "run", "--file", tmp_path / "in.csv", "--output", out)
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size for path in tmp_path.glob(".plainloop-*.tmp")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code, errors
    assert not out.exists()
    assert b"Traceback" not in errors
    if number != signal.SIGKILL:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv.parts"]


def peak_of(*words):
    """The peak memory of a command, in KiB on Linux."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = command(*words, program=sys.executable, **silent)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_rows(folder, tmp_path, suffix):
    peaks = []
    for num_rows in (10_000, 100_000):
        write_rows(tmp_path / "in.csv", num_rows)
        out = tmp_path / f"out.{suffix}"
        peaks.append(peak_of("predict", folder / "run", "--file", tmp_path / "in.csv", "-o", out))
    if suffix == "parquet":
        assert pq.read_metadata(out).num_rows == 100_000
    assert peaks[1] < 1.15 * peaks[0], peaks


def copy_run(folder, tmp_path):
    """The runs where the command is called, so that messages have short names."""
    (tmp_path / "runs").symlink_to(folder)


# what is given besides the run -> the line that is said
MISTAKES = {
    "no such run": (["runs/rum", "--file", "in.csv", "-o", "o.csv"], ["runs/rum", "mean run?"]),
    "no run": (["runs", "--file", "in.csv", "-o", "o.csv"], ["not a run"]),
    "unfinished": (["runs/unfinished", "--file", "in.csv", "-o", "o.csv"], ["not finished"]),
    "no such file": (["runs/run", "--file", "inn.csv", "-o", "o.csv"], ["inn.csv", "in.csv"]),
    "unknown suffix": (["runs/run", "--file", "in.csv", "-o", "o.xlsx"], ["'.xlsx'", ".parquet"]),
    "output is input": (["runs/run", "--file", "in.csv", "-o", "in.csv"], ["is an input"]),
    "no folder": (["runs/run", "--file", "in.csv", "-o", "a/o.csv"], ["no such folder"]),
    "no text column": (
        ["runs/run", "--file", "texts.csv", "-o", "o.csv"],
        ["texts.csv", "'text'", "did you mean 'texts'?"],
    ),
    "absent text column": (
        ["runs/run", "--file", "in.csv", "-o", "o.csv", "--text-column", "ix"],
        ["in.csv", "'ix'", "columns: 'id', 'text'"],
    ),
    "null text": (["runs/run", "--file", "n.jsonl", "-o", "o.csv"], ["line 2", "--on-null empty"]),
    "NUL": (["runs/run", "--file", "nul.jsonl", "-o", "o.csv"], ["line 1", "NUL", ".jsonl"]),
    "bytes": (["runs/run", "--file", "b.parquet", "-o", "o.csv"], ["'raw' holds bytes"]),
    "ragged": (["runs/run", "--file", "ragged.csv", "-o", "o.csv"], ["line 3", "expected 2"]),
    "stdin and more": (["runs/run", "--file", "in.csv", "-", "-o", "o.csv"], ["stdin"]),
    "batch of none": (
        ["runs/run", "--file", "in.csv", "-o", "o.csv", "--batch-size", "0"],
        ["--batch-size", "at least 1"],
    ),
    "no data folder": (["runs/run", "--glue-submission", "out"], ["--data-dir", "missing"]),
    "no task": (["runs/run", "--glue-submission", "out", "--data-dir", "."], ["--task", "mnli"]),
    "another task": (
        ["runs/run", "--glue-submission", "out", "--data-dir", ".", "--task", "mrpc"],
        ["--task mrpc", "other labels"],
    ),
    "a task of none": (
        ["runs/run", "--file", "in.csv", "-o", "o.csv", "--task", "ax"],
        ["--task", "no effect without --glue-submission"],
    ),
}


@pytest.mark.parametrize(("words", "fragments"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_torch_is_imported(
    refused, folder, tmp_path, words, fragments
):
    copy_run(folder, tmp_path)
    for name, content in {
        "in.csv": "id,text\n1,a\n",
        "texts.csv": "id,texts\n1,a\n",
        "ragged.csv": "id,text\n1,a\n2\n",
        "n.jsonl": '{"text": "a"}\n{"text": null}\n',
        "nul.jsonl": '{"text": "a\\u0000b"}\n',
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    pq.write_table(pa.table({"text": ["a"], "raw": [b"a"]}), tmp_path / "b.parquet")
    [line] = refused("predict", *words)
    assert [part for part in fragments if part not in line] == []


def test_all_that_is_wrong_is_said_at_once(refused, folder, tmp_path):
    copy_run(folder, tmp_path)
    flags = ["--text", "a", "--task", "ax", "--batch-size", "0", "--data-dir", "."]
    lines = refused("predict", "runs/run", "in.csv", *flags)
    said = {line.split(":")[1].strip() for line in lines}
    assert said == {"--text", "--task", "--batch-size", "--data-dir"}


def predictions(out):
    rows = list(csv.DictReader(io.StringIO(out, newline=""), strict=True))
    assert all(list(row) == ["text", "label", "probability_no", "probability_yes"] for row in rows)
    return {row.pop("text"): row for row in rows}


def test_texts_of_the_command_line_lines_of_stdin_and_a_file_give_the_same(folder, tmp_path):
    texts = ["The cat sees a car", 'a "quoted", boat', "= üni\tcode"]
    command_line = command("predict", folder / "run", "--text", *texts)
    lines = command("predict", folder / "run", stdin=subprocess.PIPE)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    file = command("predict", folder / "run", tmp_path / "in.jsonl")
    outputs = [
        command_line.communicate()[0],
        lines.communicate("\ufeff".encode() + "\r\n".join([*texts, "", ""]).encode())[0],
        file.communicate()[0],
    ]
    assert [process.returncode for process in (command_line, lines, file)] == [0, 0, 0]
    assert list(predictions(outputs[0].decode())) == texts
    assert outputs[1:] == outputs[:1] * 2


@pytest.mark.parametrize(
    ("stdin", "fragments"),
    [
        (b"", ["nothing to predict", "--text"]),
        (b"id,text\n1,a\n", ["first line, id,text,", "table", "--file -"]),
        (b"text\na\n", ["first line, text,", "table"]),
        (b'"id"\t"text"\n', ["table"]),
        (b'{"id": 1, "text": "a"}\n', ["table"]),
        (b"a\n\nb\n", ["no text in line 2", "--on-null empty"]),
        (b"a\n\xff\n", ["stdin, line 2: not UTF-8"]),
    ],
)
def test_lines_of_stdin_that_are_no_texts_are_refused(folder, stdin, fragments):
    process = command("predict", folder / "run", stdin=subprocess.PIPE)
    out, errors = process.communicate(stdin)
    assert (process.returncode, out) == (2, b"")
    [line] = errors.decode().splitlines()
    assert [part for part in fragments if part not in line] == []


@pytest.mark.slow
def test_pairs_are_two_texts_after_each_other_or_a_line_with_a_tab(tiny_model, tmp_path):
    from plainloop.config.settings import TrainConfig
    from plainloop.training.fine_tune import fine_tune

    rows = ROWS.replace("text", "first,second").replace(",yes", ",b,yes").replace(",no", ",b,no")
    (tmp_path / "pairs.csv").write_text(rows, encoding="utf-8")
    fine_tune(
        TrainConfig(
            train_file=(str(tmp_path / "pairs.csv"),),
            text_column=("first", "second"),
            output_dir=tmp_path / "run",
            model=str(tiny_model),
            max_steps=1,
            save_strategy="no",
        )
    )
    words = command("predict", tmp_path / "run", "--text", "a cat", "a dog", "a boy", "a girl")
    lines = command("predict", tmp_path / "run", stdin=subprocess.PIPE)
    out = words.communicate()[0]
    assert lines.communicate(b"a cat\ta dog\na boy\ta girl\n")[0] == out
    read = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
    assert [(row["first"], row["second"]) for row in read] == [
        ("a cat", "a dog"),
        ("a boy", "a girl"),
    ]
    one = command("predict", tmp_path / "run", "--text", "a cat", "a dog", "a boy")
    out, errors = one.communicate()
    assert (one.returncode, out) == (2, b"")
    assert b"text 2: the run predicts first and second, and this has 1 texts" in errors


def test_an_unknown_flag_is_no_file(refused, folder, tmp_path):
    copy_run(folder, tmp_path)
    assert refused("predict", "runs/run", "--texts", "a") == [
        "error: plainloop predict: unknown flag --texts; did you mean --text?"
    ]


def test_evaluate_takes_the_file_without_a_flag(run_command, folder):
    named = run_command(
        "-m", "plainloop", "evaluate", folder / "run", "--file", folder / "train.csv"
    )
    bare = run_command("-m", "plainloop", "evaluate", folder / "run", folder / "train.csv")
    assert bare.stdout == named.stdout


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["runs/run", "--file", "other.csv"], ["other.csv", "no column 'text'", "words, label"]),
        (["runs/run", "--file", "odd.csv"], ["odd.csv", "'maybe'", "line 3"]),
        (["runs/run", "-o", "absent/scores.json"], ["absent", "no such folder"]),
    ],
)
def test_a_mistake_in_what_is_evaluated_is_one_line(refused, folder, tmp_path, words, fragments):
    copy_run(folder, tmp_path)
    (tmp_path / "other.csv").write_text("words,label\na,yes\n", encoding="utf-8")
    (tmp_path / "odd.csv").write_text("text,label\na,yes\nb,maybe\n", encoding="utf-8")
    [line] = refused("evaluate", *words)
    assert [part for part in fragments if part not in line] == []
