"""One's own files, each with one mistake: what is said, with file and row, before torch is imported."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow
ROWS = "text,label\ngood one,yes\nbad one,no\nfine one,yes\npoor one,no\n"


def parquet_cut_short():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), sink)
    return sink.getvalue().to_pybytes()[:-20]


# name -> (file, content, more flags, what the line must hold)
MISTAKES = {
    "no rows": ("t.csv", "", [], ["t.csv", "empty"]),
    "header only": ("t.csv", "text,label\n", [], ["t.csv", "no rows"]),
    "spreadsheet": ("t.xlsx", "PK\x03\x04", [], ["t.xlsx", "damaged", "as csv"]),
    "unknown suffix": ("t.dat", ROWS, [], ["t.dat", "'.dat'", ".csv, .tsv, .json"]),
    "compressed": ("t.csv", gzip.compress(ROWS.encode(), mtime=0), [], ["t.csv", "gzip", ".gz"]),
    "parquet cut short": ("t.parquet", parquet_cut_short(), [], ["t.parquet"]),
    "broken JSON": (
        "t.jsonl",
        '{"text": "a", "label": "x"}\n{"text": "b" "label": "y"}\n',
        [],
        ["t.jsonl", "line 2", "column"],
    ),
    "nested text": (
        "t.jsonl",
        '{"text": ["a"], "label": "x"}\n{"text": ["b"], "label": "y"}\n',
        ["--text-column", "text"],
        ["t.jsonl", "'text'", "lists"],
    ),
    "ragged row": ("t.csv", ROWS + "a,b,c\n", [], ["t.csv", "line 6", "3 fields", "2"]),
    "unclosed quote": ("t.csv", ROWS + '"never closed,yes\n', [], ["t.csv", "quote", "line 6"]),
    "separator of two characters": ("t.csv", ROWS, ["--separator", ",,"], ["--separator", "one"]),
    "absent text column": (
        "t.csv",
        ROWS,
        ["--text-column", "txet"],
        ["t.csv", "'txet'", "text", "label"],
    ),
    "absent label column": ("t.csv", ROWS, ["--label-column", "lable"], ["'lable'", "label"]),
    "twice the same name": ("t.csv", "text,text,label\na,b,c\n", [], ["'text'", "twice"]),
    "text is the label": (
        "t.csv",
        ROWS,
        ["--text-column", "text", "--label-column", "text"],
        ["--label-column", "differ"],
    ),
    "no header": (
        "t.csv",
        "I liked it a lot,5\nIt was a waste of time,1\nGood value for the price,4\n",
        [],
        ["t.csv", "header"],
    ),
    "two texts": (
        "t.csv",
        "summary,review,label\na b,c d,x\ne f,g h,y\n",
        [],
        ["'summary'", "'review'", "--text-column"],
    ),
    "null text": (
        "t.jsonl",
        '{"text": null, "label": "x"}\n{"text": "b", "label": "y"}\n{"text": "c", "label": "x"}\n',
        [],
        ["t.jsonl", "line 1", "--on-null"],
    ),
    "null label": ("t.csv", ROWS + "an odd one,\n", [], ["t.csv", "line 6", "label"]),
    "one class only": ("t.csv", "text,label\na a,x\nb b,x\n", [], ["2 classes", "'x'"]),
    "labels differ by space": (
        "t.csv",
        ROWS + "some one, yes\n",
        [],
        ["' yes'", "line 6", "lines 2, 4"],
    ),
    "float labels": (
        "t.csv",
        "text,label\na b,0.5\nc d,1.5\ne f,2\n",
        [],
        ["0.5", "line 2", "--problem-type regression"],
    ),
    "word among targets": (
        "t.csv",
        "text,label\na b,0.5\nc d,good\ne f,2\n",
        ["--problem-type", "regression"],
        ["line 3", "'good'", "not a number"],
    ),
    "target not finite": (
        "t.csv",
        "text,label\na b,0.5\nc d,inf\ne f,2\n",
        ["--problem-type", "regression"],
        ["line 3", "not finite"],
    ),
    "unlabelled": ("t.csv", "text,label\na b,-1\nc d,-1\n", [], ["-1", "unlabelled"]),
    "Latin-1": (
        "t.csv",
        ROWS.replace("good", "gut é").encode("latin-1"),
        [],
        ["line 2", "0xE9", "--encoding"],
    ),
    "unknown encoding": ("t.csv", ROWS, ["--encoding", "utf-99"], ["--encoding", "utf-99"]),
    "a setting of a task": ("t.csv", ROWS, ["--data-dir", "."], ["--data-dir", "no effect"]),
    "class with one row": (
        "t.csv",
        ROWS + "other one,maybe\n",
        [],
        ["--validation-fraction", "for classes 'maybe' (line 6)"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_file_is_one_line_with_its_place(refused, tmp_path, tiny_model, mistake):
    name, content, flags, fragments = mistake
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    (tmp_path / name).write_bytes(data)
    [line] = refused("train", "--train-file", name, "--model", str(tiny_model), *flags)
    assert [part for part in fragments if part not in line] == []


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path.name


@pytest.mark.parametrize(
    ("validation", "fragments"),
    [
        ("text,labels\ngood one,yes\n", ["v.csv", "no column 'label'", "text, labels"]),
        (ROWS + "odd one,maybe\n", ["v.csv", "'maybe'", "line 6", "training"]),
    ],
    ids=["columns differ", "label only in validation"],
)
def test_a_validation_file_that_does_not_fit_is_one_line(
    refused, tmp_path, tiny_model, validation, fragments
):
    files = ["--train-file", write(tmp_path / "t.csv", ROWS)]
    files += ["--validation-file", write(tmp_path / "v.csv", validation)]
    [line] = refused("train", *files, "--model", str(tiny_model))
    assert [part for part in fragments if part not in line] == []


def test_a_missing_file_is_one_line_with_the_nearest(refused, tmp_path, tiny_model):
    write(tmp_path / "train.csv", ROWS)
    [line] = refused("train", "--train-file", "trian.csv", "--model", str(tiny_model))
    assert [part for part in ("trian.csv", "no such", "train.csv") if part not in line] == []


def test_texts_that_look_like_missing_values_and_a_byte_order_mark_are_read(
    run_command, tmp_path, tiny_model
):
    rows = "\ufefftext,label\nNA,yes\nnull,no\n,yes\nnone,no\n"
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    flags = ["--train-file", "t.csv", "--model", tiny_model, "--validation-fraction", "0.5"]
    said = run_command("-m", "plainloop", "train", *flags, "--dry-run").stdout
    assert "2 train, 2 validation" in said
