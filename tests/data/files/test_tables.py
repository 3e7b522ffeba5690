"""Reading a person's files: every value as it is written, and every bad file in one line."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from plainloop.config.read_options import ReadOptions
from plainloop.data.files import csv_reader, tables
from plainloop.data.files.tables import open_files, read_files
from plainloop.errors import UserError

ROWS = [{"text": "one", "label": "a"}, {"text": "two", "label": "b"}]
TABLE = pa.Table.from_pylist(ROWS)


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Write a file of this name with these characters or bytes."""
    folder = tmp_path_factory.mktemp("files")

    def write(name, content):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows_of(*paths, **settings):
    return read_files(paths, ReadOptions(**settings)).table.to_pylist()


def refusal(*paths, **settings):
    """The one line that both ways of reading give."""
    with pytest.raises(UserError) as caught:
        read_files(paths, ReadOptions(**settings))
    with pytest.raises(UserError) as streamed:
        list(open_files(paths, ReadOptions(**settings)))
    assert str(streamed.value) == str(caught.value)
    assert str(caught.value).isprintable()
    return caught.value


def write_parquet(path):
    pq.write_table(TABLE, path)
    return path


def write_arrow(path, kind=pa.ipc.new_file):
    with kind(path, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\none,a\ntwo,b\n"),
        ("a.csv", "\ufefftext,label\r\none,a\r\ntwo,b\r\n"),
        ("a.csv", "text,label\rone,a\rtwo,b"),
        ("a.CSV", '"text","label"\n"one","a"\n"two","b"\n\n\n'),
        ("a.tsv", "text\tlabel\none\ta\ntwo\tb\n"),
        ("a.jsonl", '{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n\n'),
        ("a.ndjson", '\ufeff{"text": "one", "label": "a"}\r\n{"label": "b", "text": "two"}'),
        ("a.json", '{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n'),
        ("a.json", "\n" + json.dumps(ROWS, indent=2)),
    ],
)
def test_a_text_file_is_read_by_its_suffix(write, name, content):
    assert rows_of(write(name, content)) == ROWS


def test_parquet_and_both_arrow_formats_are_read(tmp_path):
    for path in (
        write_parquet(tmp_path / "a.parquet"),
        write_arrow(tmp_path / "a.feather"),
        write_arrow(tmp_path / "a.arrow", pa.ipc.new_stream),
    ):
        assert rows_of(path) == ROWS
        assert read_files([path]).locate(1) == "row 2"


def test_a_save_to_disk_folder_is_read_with_its_label_names(tmp_path):
    from datasets import ClassLabel, Dataset

    data = Dataset.from_dict({"text": ["x", "y", "z"], "label": [1, 0, 1]})
    data = data.cast_column("label", ClassLabel(names=["no", "yes"]))
    data.save_to_disk(tmp_path / "saved", num_shards=2)
    source = read_files([tmp_path / "saved"])
    assert source.table.to_pydict() == {"text": ["x", "y", "z"], "label": [1, 0, 1]}
    assert source.path == str(tmp_path / "saved")
    features = json.loads(source.table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"]["names"] == ["no", "yes"]


def test_text_types_of_parquet_become_string(tmp_path):
    columns = {
        "large": pa.array(["x", None], pa.large_string()),
        "coded": pa.array(["x", "y"]).dictionary_encode(),
        "number": pa.array([1, 2], pa.int8()),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = read_files([tmp_path / "a.parquet"]).table
    assert table.schema.types == [pa.string(), pa.string(), pa.int8()]
    assert table.to_pydict() == {"large": ["x", None], "coded": ["x", "y"], "number": [1, 2]}


@pytest.mark.parametrize(
    "value", ["NA", "null", "", "NaN", "1", "01", "true", "2024-01-01", " x ", "\\t"]
)
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_every_cell_of_csv_is_text(write, name, separator, value):
    path = write(name, f"text{separator}label\n{value}{separator}{value}\n")
    table = read_files([path]).table
    assert table.schema.types == [pa.string(), pa.string()]
    assert table.to_pylist() == [{"text": value, "label": value}]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("text\n\nx\n\n\n", ["", "x"]),
        ('text\nx\n""\n', ["x", ""]),
        ("text\n\n\n", None),
    ],
)
def test_a_blank_line_is_a_row_only_in_one_column_and_above_another_row(write, content, rows):
    path = write("a.csv", content)
    if rows is None:
        assert refusal(path).what == "no rows below the header"
    else:
        assert read_files([path]).table["text"].to_pylist() == rows


def test_quotes_in_tsv_quote_where_they_can_and_are_text_elsewhere(write):
    quoted = write("a.tsv", 'text\tlabel\n"He said ""x\ty"""\ta\n"two\nlines"\tb\n')
    assert read_files([quoted]).table["text"].to_pylist() == ['He said "x\ty"', "two\nlines"]
    literal = write("a.tsv", 'text\tlabel\n"Well," he said\ta\n"open\tb\n')
    assert read_files([literal]).table["text"].to_pylist() == ['"Well," he said', '"open']


QUOTED_ROWS = "".join(f'"row {n} ""so"" said"\ta\n' for n in range(5))


@pytest.mark.parametrize(
    ("rows", "as_text", "enclosed"),
    [
        ('"Never say never\ta\nx\tb\nthe end"\ta\n', "3 rows", "1 rows"),
        (QUOTED_ROWS + '"Odd" start\ta\n', "6 rows", "an error (line 7: text follows"),
    ],
    ids=["rows merged", "one odd quote"],
)
def test_a_tsv_whose_quotes_give_different_rows_is_asked(write, rows, as_text, enclosed):
    path = write("a.tsv", "text\tlabel\n" + rows)
    with pytest.raises(UserError) as caught:
        read_files([path])
    said = str(caught.value)
    assert f"as text they give {as_text}, as marks that enclose fields {enclosed}" in said
    assert said.endswith("choose with --quotes text or --quotes enclose")
    texts = read_files([path], ReadOptions(quotes="text")).table["text"].to_pylist()
    assert texts == [line.split("\t")[0] for line in rows.splitlines()]
    if "error" in enclosed:
        with pytest.raises(UserError, match="text follows the closing quote"):
            read_files([path], ReadOptions(quotes="enclose"))
    else:
        found = read_files([path], ReadOptions(quotes="enclose")).table["text"].to_pylist()
        assert found == ["Never say never\ta\nx\tb\nthe end"]


def test_the_rule_for_quotes_in_a_tsv_is_said(write):
    for rows, note in (
        (QUOTED_ROWS, ("a.tsv: quotes enclose fields (--quotes text or enclose)",)),
        ('"Well," he said\ta\nx\tb\n', ("a.tsv: quotes are text (--quotes text or enclose)",)),
        ("x\ta\n", ()),
    ):
        assert read_files([write("a.tsv", "text\tlabel\n" + rows)]).notes == note


def test_bytes_in_another_encoding_name_those_that_decode_the_file(write, tmp_path):
    path = tmp_path / "k.csv"
    path.write_bytes("text,label\n배송이 늦어요,1\n".encode("cp949"))
    with pytest.raises(UserError) as caught:
        read_files([path])
    assert "line 2 is not UTF-8; name the encoding in which it reads right" in str(caught.value)
    assert "cp949 ('배송이 늦어요,1')" in str(caught.value)


def test_the_errors_of_many_files_are_summarised(write):
    files = [write(f"{number}.csv", "text,label\n") for number in range(9)]
    with pytest.raises(UserError) as caught:
        read_files([files[0].parent / "[0-9].csv"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "6 more of 9 files cannot be read" in lines[-1]


def test_a_blank_line_further_up_is_to_be_deleted(write):
    with pytest.raises(UserError, match=r"line 3 is blank, expected 2; delete the blank lines"):
        read_files([write("a.csv", "text,label\nx,a\n\nz,b\n")])


def test_keys_that_are_missing_or_null_are_null_and_kinds_stay(write):
    lines = ['{"text": "2024-01-01", "n": 1}', '{"labels": ["a"], "n": 2.5}', '{"text": null}']
    table = read_files([write("a.jsonl", "\n".join(lines))]).table
    assert table.schema.types == [pa.string(), pa.float64(), pa.list_(pa.string())]
    assert table.to_pydict() == {
        "text": ["2024-01-01", None, None],
        "n": [1.0, 2.5, None],
        "labels": [None, ["a"], None],
    }


def test_kinds_are_widened_across_blocks_of_rows(write):
    rows = [{"a": None, "b": 1}] * 10_000 + [{"a": ["x"], "b": 0.5}]
    path = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert rows_of(path) == rows
    assert [row for batch in open_files([path], rows=64) for row in batch.to_pylist()] == rows


@pytest.mark.parametrize("rows_before", [1, 10_001], ids=["the same block", "a later block"])
def test_several_choices_beside_single_ones_are_json_text_as_in_label_studios_csv(
    write, rows_before
):
    rows = [{"a": "x"}] * rows_before + [{"a": {"choices": ["x", "é"]}}]
    table = read_files([write("a.json", json.dumps(rows))]).table
    assert table["a"].to_pylist() == ["x"] * rows_before + ['{"choices": ["x", "é"]}']


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_other_encodings_are_read_when_they_are_named(write, encoding, name):
    text = "text,label\ncafé,a\n" if name == "a.csv" else '{"text": "café", "label": "a"}\n'
    path = write(name, text.encode(encoding))
    assert rows_of(path, encoding=encoding) == [{"text": "café", "label": "a"}]


def test_cp949_is_read(write):
    path = write("a.csv", 'text,label\n"좋은, 영화",긍정\n'.encode("cp949"))
    assert rows_of(path, encoding="cp949") == [{"text": "좋은, 영화", "label": "긍정"}]
    assert refusal(path).what == "byte 0xC1 on line 2 is not UTF-8"


HEADER = "text,label\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "\n\n", "the file is empty"),
        ("a.csv", "\n" + HEADER, "line 1 is blank"),
        ("a.csv", HEADER, "no rows below the header"),
        ("a.csv", HEADER + "x,a,b\n", "line 2 has 3 fields, expected 2"),
        ("a.csv", HEADER + "x\n\ny,a\n", "line 2 has 1 field; line 3 is blank, expected 2"),
        (
            "a.csv",
            HEADER + '"x\r\ny",a\n' + "z\n" * 5,
            "line 4 has 1 field; line 5 has 1 field; line 6 has 1 field (+2 more), expected 2",
        ),
        ("a.csv", HEADER + 'x,"a\nb",c\n', "lines 2 to 3 are one row of 3 fields, expected 2"),
        ("a.csv", HEADER + '"a\nb",a\nx,"y\nz,b\n', "quote opened on line 4 never closes"),
        ("a.csv", HEADER + '"a\nb","y\nz,b\n', "quote opened on line 3 never closes"),
        ("a.csv", HEADER + 'x,"', "quote opened on line 2 never closes"),
        ("a.csv", HEADER + '"x" y,a\n', "line 2: text follows the closing quote of a field"),
        (
            "a.csv",
            HEADER + 'x,"\ny" z,a\n',
            "line 3: text follows the closing quote of a field (its row begins on line 2)",
        ),
        ("a.csv", "text,text\nx,a\n", "column 'text' appears twice"),
        (
            "a.csv",
            "a nice film,1\na bad film,0\n",
            "first row looks like data ('a nice film', '1')",
        ),
        ("a.csv", HEADER + "x,a\ny\0,b\n", "NUL byte on line 3"),
        ("a.csv", HEADER.encode() + b"x,a\r\ncaf\xe9,b\n", "byte 0xE9 on line 3 is not UTF-8"),
        ("a.csv", HEADER.encode() + b"x,a\xc3", "byte 0xC3 on line 2 is not UTF-8"),
        ("a.csv", (HEADER + "x,a\n").encode("utf-16-le"), "NUL byte on line 1"),
        ("a.csv", b"\x1f\x8b\x08\0", "compressed with gzip"),
        ("a.csv", b"PK\x03\x04...", "a zip archive or a spreadsheet"),
        ("a.csv", b"PAR1...", "a Parquet file"),
        ("a.json", "", "no rows in the file"),
        ("a.json", "[]", "no rows in the file"),
        ("a.json", '[{"a": 1}, 2]', "row 2 is a number, not an object"),
        ("a.json", '[\n {"a": 1},\n {"a" 2}\n]', "line 3, column 7: Expecting ':' delimiter"),
        ("a.json", '[{"a": 1}] x', "line 1, column 12: Extra data"),
        ("a.json", '[{"a": 1}, {"a": "x"}]', "row 2: column 'a' holds text, and a number before"),
        ("a.json", '[{"a": 1, "a": 2}]', "key 'a' appears twice in one object"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", '{"a": 1}\n{"a": 2,}\n', "line 2, column 9: "),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n', "line 2 is blank"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "line 2 is a list, not an object"),
        ("a.jsonl", '{"a": 1}\nnull\n', "line 2 is null, not an object"),
        ("a.jsonl", '{"a": 1}\n{}\n', "line 2 is empty"),
        (
            "a.jsonl",
            '{"a": null}\n{"a": 1}\n{"a": true}\n',
            "line 3: column 'a' holds true or false",
        ),
        ("a.jsonl", '{"a": 1.5}\n{"a": true}\n', "line 2: column 'a' holds true or false"),
        (
            "a.jsonl",
            '{"a": ["x"]}\n{"a": [1]}\n',
            "holds a list of number, and a list of text before",
        ),
        ("a.jsonl", '{"a": "x"}\n{"a": ["x"]}\n', "holds a list of text, and text before"),
        ("a.json", '[{"a": "x"}, {"a": {"b": 1}}]', "holds an object, and text before"),
        ("a.jsonl", '{"a": ["x", 1]}\n', "line 1: column 'a' holds a list of several kinds"),
        ("a.jsonl", '{"a": "\\ud800"}\n', "line 1: column 'a' holds '\\ud800'"),
        ("a.jsonl", '{"a": 1%s}\n' % ("0" * 30), "which Arrow cannot hold"),
        ("a.jsonl", '{"\\u001b[1m": 1}\n{"\\u001b[1m": ""}\n', "column '\\x1b[1m' holds text"),
        ("a.parquet", "text,label\n", "not a Parquet file"),
        ("a.parquet", b"PAR1" + bytes(20), "the footer at its end is missing"),
        ("a.parquet", b"PAR1" + bytes(20) + b"PAR1", "damaged or cut short"),
        ("a.arrow", "text,label\n", "damaged or cut short"),
        ("a.xlsx", b"PK\x03\x04", "damaged, or has a password"),
        ("a.sqlite", b"SQLite format 3\0", "this is an SQLite database"),
        ("a.csv", b"SQLite format 3\0", "this is an SQLite database"),
        ("a.csv.gz", b"\x1f\x8b", "damaged or cut short"),
        ("a.csv.xz", b"\xfd7zXZ\x00", "this is compressed"),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "this is compressed"),
        ("a.pkl", b"\x80\x04", "this is a pickle, which may run any code when it is read"),
        ("a.dat", b"\x80\x04", "unknown suffix '.dat'"),
        ("a", HEADER, "a file without a suffix"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(write, name, content, message):
    path = write(name, content)
    error = refusal(path)
    assert error.where == str(path)
    assert message in error.what
    assert error.fix


def test_a_mixed_kind_is_found_far_down(write):
    lines = ['{"a": "x"}\n'] * 25_000
    lines[20_123] = '{"a": 1}\n'
    error = refusal(write("a.jsonl", "".join(lines)))
    assert error.what == "line 20124: column 'a' holds a number, and text before"


def test_an_index_without_a_name_as_pandas_writes_it_is_read(write):
    assert rows_of(write("a.csv", ",text\n0,x\n")) == [{"": "0", "text": "x"}]


def test_an_encoding_that_is_not_known_is_refused(write):
    path = write("a.csv", HEADER + "x,a\n")
    for encoding in ("latin-11", "rot13", "hex"):
        assert refusal(path, encoding=encoding).where == "--encoding"


def test_what_is_missing_is_refused_with_the_nearest_names(tmp_path):
    (tmp_path / "train.csv").write_text(HEADER)
    assert refusal(tmp_path / "tran.csv").fix.endswith("did you mean train.csv?")
    assert refusal(tmp_path / "dta" / "train.csv").what == "no such file"
    assert refusal(tmp_path / "*.tsv").what == "no file matches this pattern"
    assert "save_to_disk did not write" in refusal(tmp_path).what
    assert "given twice" in refusal(tmp_path / "train.csv", tmp_path / "*.csv").what


def test_a_saved_folder_cannot_name_files_outside_it(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    write_arrow(tmp_path / "secret.arrow", pa.ipc.new_stream)
    (folder / "dataset_info.json").write_text("{}")
    for state, message in [
        ({"_data_files": [{"filename": "../secret.arrow"}]}, "not a file of this folder"),
        ({"_data_files": [{"filename": str(tmp_path / "secret.arrow")}]}, "not a file of this"),
        ({"_data_files": [{"filename": "data-0.arrow"}]}, "is missing"),
        ({}, "state.json is damaged"),
    ]:
        (folder / "state.json").write_text(json.dumps(state))
        assert message in refusal(folder).what
    (folder / "dataset_dict.json").write_text("{}")
    (folder / "train").mkdir()
    assert refusal(folder).what == "holds several splits: train"


def test_shards_are_read_in_order_and_rows_are_found_in_them(write):
    a = write("s-1.csv", 'text,label\n"x\ny",a\nz,b\n')
    b = write("s-2.csv", "label,text\nc,w\n")
    source = read_files([a.parent / "s-*.csv"])
    assert source.path == str(a.parent / "s-*.csv")
    assert source.table.to_pydict() == {"text": ["x\ny", "z", "w"], "label": ["a", "b", "c"]}
    assert source.show([0, 1, 2]) == "s-1.csv, lines 2, 4; s-2.csv, line 2"
    assert source.locate(2) == "s-2.csv, line 2"
    batches = list(open_files([b, a], rows=1))
    assert [batch["text"].to_pylist() for batch in batches] == [["w"], ["x\ny"], ["z"]]


def test_shards_with_other_columns_or_kinds_are_refused(write):
    a, b = write("a.csv", HEADER + "x,a\n"), write("b.csv", "text,target\nx,a\n")
    lines = str(refuse_together(a, b)).splitlines()
    assert lines[0].startswith("b.csv: lacks 'label', which a.csv has")
    assert lines[1].startswith("a.csv: lacks 'target', which b.csv has")
    c = write("c.jsonl", '{"text": "x", "label": 1}\n')
    assert "of another kind than in a.csv" in refusal(a, c).what


def refuse_together(*paths):
    with pytest.raises(UserError) as caught:
        read_files(paths)
    return caught.value


def test_all_bad_files_are_reported_together(write):
    error = refuse_together(write("a.csv", HEADER + "x\n"), write("b.csv", ""))
    assert [line.rpartition("/")[2][:5] for line in str(error).splitlines()] == ["a.csv", "b.csv"]


def test_rows_are_shown_as_lines_and_the_rest_counted(write):
    source = read_files([write("a.csv", HEADER + "x,a\n" * 9)])
    assert source.show([2, 7, 8]) == "lines 4, 9, 10"
    assert source.show(range(9)) == "lines 2, 3, 4 (+6 more)"
    array = read_files([write("a.json", json.dumps(ROWS))])
    assert array.show([0, 1]) == "rows 1, 2"


def test_bad_rows_are_known_before_the_first_batch_is_read(write):
    path = write("a.csv", HEADER + "x,a\n" * 1000 + "x\n")
    with pytest.raises(UserError, match="line 1002 has 1 field"):
        open_files([path])


@pytest.mark.slow
def test_a_row_of_any_sane_length_is_read(write):
    long = "x" * 10_000_000
    path = write("a.csv", f"{HEADER}x,a\n{long},b\ny,c\n")
    assert read_files([path]).table["text"].to_pylist() == ["x", long, "y"]
    assert "longer than 16 MB" in refusal(write("a.csv", f'{HEADER}"{long * 2}",b\n')).what


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from('",;\t\r\n')
)
columns = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1)
)


@pytest.mark.parametrize(("name", "separator"), [("h.csv", ","), ("h.tsv", "\t")])
@given(rows=columns, end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_text_in_quotes_is_read_back_and_found_again(write, name, separator, rows, end):
    names = [f"c{n}" for n in range(len(rows[0]))]
    lines = [separator.join(map(as_field, row)) + end for row in [names, *rows]]
    path = write(name, "".join(lines))
    options = ReadOptions(quotes="enclose")  # not asked how a tsv's quotes are meant
    source = read_files([path], options)
    assert [list(row.values()) for row in source.table.to_pylist()] == rows
    streamed = [row for batch in open_files([path], options, rows=2) for row in batch.to_pylist()]
    assert streamed == source.table.to_pylist()
    for row in range(len(rows)):
        above = len(re.findall("\r\n|\r|\n", "".join(lines[: row + 1])))
        assert source.locate(row) == f"line {above + 1}"


def as_field(text):
    """RFC 4180; the writer of Python 3.11 leaves some line ends bare."""
    bare = text and not re.search('[",;\t\r\n]', text)
    return text if bare else '"' + text.replace('"', '""') + '"'


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.text() | st.integers())
)


@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), values, min_size=1), min_size=1))
def test_json_is_read_back_as_it_is_or_refused(write, rows):
    path = write("h.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    try:
        found = rows_of(path)
    except UserError:
        return
    assert found == [{name: row.get(name) for name in found[0]} for row in rows]
    for row, expected in zip(found, rows, strict=True):
        kinds = {name: type(value) for name, value in row.items() if value is not None}
        for name, kind in kinds.items():
            assert kind is type(expected[name]) or {kind, type(expected[name])} == {int, float}


@pytest.mark.parametrize("most_held", [2**22, 0])
def test_a_file_is_checked_once_and_a_small_one_read_once(write, monkeypatch, most_held):
    checks, reads = [], []
    check_rows, open_csv = csv_reader._check_rows, csv_reader.arrow_csv.open_csv
    monkeypatch.setattr(
        csv_reader, "_check_rows", lambda *a, **k: checks.append(a) or check_rows(*a, **k)
    )
    monkeypatch.setattr(
        csv_reader.arrow_csv, "open_csv", lambda *a, **k: reads.append(a) or open_csv(*a, **k)
    )
    monkeypatch.setattr(tables, "SMALL_FILE_BYTES", most_held)
    batches = open_files([write("twice.csv", "text,label\none,a\ntwo,b\n")])
    for _ in range(2):
        assert [row for batch in batches for row in batch.to_pylist()] == ROWS
    assert (len(checks), len(reads)) == (1, 1 if most_held else 2)
