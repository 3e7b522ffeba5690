"""Texts that are not in columns: lines, fastText, folders of classes; and .txt files of columns."""

import json

import pytest

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.tables import open_files, read_files
from plainloop.errors import UserError

LINES = ["Good, and cheap", 'say "no"', "", "late; never again"]


def write(tmp_path, content, name="a.txt"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def rows_of(path, **options):
    rows = read_files([path], ReadOptions(**options)).table.to_pylist()
    streamed = [
        row for batch in open_files([path], ReadOptions(**options)) for row in batch.to_pylist()
    ]
    assert streamed == rows
    return rows


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_a_line_is_a_column_of_texts(tmp_path, end):
    path = write(tmp_path, end.join(LINES) + end * 2)
    assert rows_of(path) == [{"text": text} for text in LINES]
    assert read_files([path]).locate(3) == "line 4"


@pytest.mark.parametrize(
    "lines",
    [
        ["colour small very arrived, ok", "bad never never, ok", "a room, ok"],
        ["good, bad", "red, blue", "yes, no"],
        ["one", "two", "three"],
        ['"quoted"', "not, quoted", "x"],
        ["word, word, word", "word", "word, word"],
        ["the room was late and dirty;never again", "the staff was nice to us;thank you"],
    ],
)
def test_prose_with_separators_is_prose(tmp_path, lines):
    assert rows_of(write(tmp_path, "\n".join(lines))) == [{"text": line} for line in lines]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("id\ttext\n1\ta, b\n2\tc\n", [{"id": "1", "text": "a, b"}, {"id": "2", "text": "c"}]),
        (
            "text,label\na b,x\nc d,y\n",
            [{"text": "a b", "label": "x"}, {"text": "c d", "label": "y"}],
        ),
        ("text;label\na, b;x\n", [{"text": "a, b", "label": "x"}]),
        ('"text" "label"\n"1" "a b" "x"\n', [{"": "1", "text": "a b", "label": "x"}]),
        ('{"text": "a"}\n{"text": "b"}\n', [{"text": "a"}, {"text": "b"}]),
    ],
)
def test_a_txt_file_of_columns_is_read_as_columns(tmp_path, content, rows):
    assert rows_of(write(tmp_path, content)) == rows


def test_a_txt_file_of_tabs_without_a_header_is_asked_about(tmp_path):
    path = write(tmp_path, "".join(f"{label}\tit is {n}\n" for n, label in enumerate("aabbab")))
    with pytest.raises(UserError, match=r"no header: .*--no-header takes it"):
        read_files([path])
    assert len(rows_of(path, header=False)) == 6
    assert rows_of(write(tmp_path, "a;b, c\nd;e, f\n"), separator=";", header=False) == [
        {"1": "a", "2": "b, c"},
        {"1": "d", "2": "e, f"},
    ]


def test_fasttext_lines_are_labels_and_texts(tmp_path):
    content = (
        "__label__a  the  text \n__label__b __label__c x __label__d\n\n__label__a\nno label\n\n"
    )
    path = write(tmp_path, content)
    assert rows_of(path) == [
        {"label": ["a"], "text": "the  text"},
        {"label": ["b", "c"], "text": "x __label__d"},
        {"label": [], "text": ""},
        {"label": ["a"], "text": ""},
        {"label": [], "text": "no label"},
    ]
    assert read_files([path]).locate(4) == "line 5"


def test_a_folder_of_classes_is_read_by_the_names_of_its_folders(tmp_path):
    for name in ("neg/10.txt", "neg/2.txt", "pos/a", "pos/b.txt"):
        write(tmp_path, f"text of\n{name}\n", f"reviews/{name}")
    write(tmp_path, "hidden", "reviews/.git/config")
    write(tmp_path, "about these files", "reviews/README.md")
    assert rows_of(tmp_path / "reviews") == [
        {"text": f"text of\n{name}", "label": name[:3], "file": name}
        for name in ("neg/10.txt", "neg/2.txt", "pos/a", "pos/b.txt")
    ]
    with pytest.raises(UserError) as caught:
        read_files([tmp_path / "reviews" / "*" / "*.txt"])
    assert caught.value.what == "3 files of texts in 2 folders: are these classes?"
    assert caught.value.fix.endswith(f": {tmp_path / 'reviews'}")
    (tmp_path / "reviews" / "pos" / "c.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"c\.txt: byte 0xE9 on line 1 is not UTF-8"):
        read_files([tmp_path / "reviews"])
    assert rows_of(tmp_path / "reviews", encoding="latin-1")[-1]["text"] == "café"


def test_folders_of_tables_are_no_classes(tmp_path):
    for split in ("train", "test"):
        write(tmp_path, "text,label\na,b\n", f"data/{split}/rows.csv")
    with pytest.raises(UserError, match="save_to_disk did not write"):
        read_files([tmp_path / "data"])


ROWS = [{"text": f"it is {n}", "label": "ab"[n % 2]} for n in range(12)]
BY_COLUMN = {name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ("text", "label")}


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (BY_COLUMN, ()),
        ({str(n): row for n, row in enumerate(ROWS)}, ()),
        (
            {
                "columns": ["text", "label"],
                "index": [*range(12)],
                "data": [[*row.values()] for row in ROWS],
            },
            (),
        ),
        ({"version": 2, "rows": ROWS, "tags": ["x"]}, ("a.json: the rows are the list 'rows'",)),
        (
            {"schema": {"fields": [{"name": "text"}]}, "data": ROWS},
            ("a.json: the rows are the list 'data'",),
        ),
    ],
    ids=["columns", "index", "split", "one list", "table"],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_object_that_holds_the_rows_is_read(tmp_path, value, note, indent):
    path = write(tmp_path, json.dumps(value, indent=indent), "a.json")
    assert rows_of(path) == ROWS
    assert read_files([path]).notes == note


def test_an_object_of_several_lists_is_asked_about_and_a_row_is_a_row(tmp_path):
    for value in ({"train": ROWS, "val": ROWS}, {"train": [["a", "b"]]}):
        with pytest.raises(UserError, match="an object with the lists train") as caught:
            read_files([write(tmp_path, json.dumps(value), "a.json")])
        assert "a file of its own" in caught.value.fix
    row = {"text": "a", "labels": ["x", "y"], "meta": 1}
    assert rows_of(write(tmp_path, json.dumps(row, indent=1), "a.json")) == [row]
