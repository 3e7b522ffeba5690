"""What is predicted is written whole, and read back as it was."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, strategies as st

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.tables import read_files
from plainloop.errors import UserError
from plainloop.predict.output_files import (
    check_schema,
    open_output,
    prediction_format,
    rows_with_nul,
    write_tables,
)

# All of Unicode but NUL, which csv cannot hold, and halves of a surrogate pair, which are no text.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8)


def written(form, *tables, **options):
    sink = io.BytesIO()
    write_tables(tables, sink, form, **options)
    return sink.getvalue()


def table_of(rows):
    return pa.table({"text": [text for text, _ in rows], "other": [other for _, other in rows]})


@given(ROWS)
@example([("", "\n\t")])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_text_is_read_back_as_it_was(tmp_path_factory, suffix, rows):
    table = table_of(rows)
    path = tmp_path_factory.mktemp("round") / f"out.{suffix}"
    path.write_bytes(written(suffix, table.slice(0, 1), table.slice(1)))
    # A cell with a line break and a tab could as well be two rows whose quotes are text: the reader
    # asks, and this is the answer.
    options = ReadOptions(quotes="enclose" if suffix == "tsv" else None)
    assert read_files([path], options).table.to_pydict() == table.to_pydict()


@pytest.mark.parametrize("text", ["a,b", 'say "hi"', '"quoted"', "two\nlines", "a\rb", "a\tb", ""])
def test_pythons_own_reader_agrees(text):
    lines = written("csv", table_of([(text, "x")])).decode()
    assert list(csv.reader(io.StringIO(lines, newline=""), strict=True))[1] == [text, "x"]


def test_cells_are_quoted_only_where_they_must_be():
    table = pa.table({"text": ["plain", "a,b", None], "n": [1, 2, 3], "p": [0.5, 1 / 3, 1e-9]})
    lines = written("csv", table).decode().split("\n")
    assert lines == ["text,n,p", "plain,1,0.5", '"a,b",2,0.3333333333333333', ",3,1e-9", ""]


def test_lists_and_objects_are_json_in_a_cell():
    table = pa.table({"labels": [["a, b", 'c"'], []], "more": [{"k": None}, None]})
    rows = list(csv.DictReader(io.StringIO(written("csv", table).decode()), strict=True))
    assert [json.loads(row["labels"]) for row in rows] == [["a, b", 'c"'], []]
    assert [row["more"] for row in rows] == ['{"k": null}', ""]


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_with_the_flag_no_text_is_a_formula(form):
    table = pa.table(
        {"=head": [*FORMULAS, "a=1", "'=1"], "n": [-1.5] * 8},
    )
    plain, safe = (written(form, table, spreadsheet_safe=flag).decode() for flag in (False, True))
    delimiter = "," if form == "csv" else "\t"

    def cells(lines):
        return list(csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter, strict=True))

    assert [row[0] for row in cells(plain)] == ["=head", *FORMULAS, "a=1", "'=1"]
    assert [row[0] for row in cells(safe)] == [
        "'=head",
        *(f"'{text}" for text in FORMULAS),
        "a=1",
        "'=1",
    ]
    assert {row[1] for row in cells(safe)[1:]} == {"-1.5"}  # a number is no formula


def test_jsonl_is_exact_whatever_the_flag():
    table = pa.table({"text": [*FORMULAS, "a\0b"]})
    for flag in (False, True):
        lines = written("jsonl", table, spreadsheet_safe=flag).decode().splitlines()
        assert [json.loads(line)["text"] for line in lines] == [*FORMULAS, "a\0b"]


def test_parquet_keeps_the_types():
    table = pa.table({"n": pa.array([1, 2], pa.int8()), "labels": [["a"], None], "b": [b"\0", b""]})
    assert pq.read_table(io.BytesIO(written("parquet", table, table))).equals(
        pa.concat_tables([table, table])
    )


def test_rows_with_a_nul_are_named():
    batch = pa.record_batch(
        {"n": [1, 2, 3], "a": ["x", "y\0", None], "b": pa.array(["\0", "", ""]).dictionary_encode()}
    )
    assert rows_with_nul(batch) == [0, 1]


def test_bytes_fit_into_parquet_alone():
    schema = pa.schema([("text", pa.string()), ("raw", pa.binary())])
    check_schema(schema, "parquet", "in.parquet")
    with pytest.raises(UserError, match=r"in.parquet: column 'raw' holds bytes, which csv cannot"):
        check_schema(schema, "csv", "in.parquet")


def test_the_suffix_is_the_format():
    assert [prediction_format(f"a.{s}", "csv") for s in ("CSV", "tsv", "ndjson", "parquet")] == [
        "csv",
        "tsv",
        "jsonl",
        "parquet",
    ]
    assert prediction_format("-", "tsv") == "tsv"
    for name, what in (("out.xlsx", "unknown suffix '.xlsx'"), ("out", "without a suffix")):
        with pytest.raises(UserError, match=rf"{what}.*\.csv, \.tsv, \.jsonl or \.parquet"):
            prediction_format(name, "csv")


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path):
    out = tmp_path / "out.csv"
    out.write_bytes(b"older")

    def fail_half_way(path):
        with open_output(str(path)) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    for path in (out, tmp_path / "other.csv"):
        with pytest.raises(KeyboardInterrupt):
            fail_half_way(path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("out.csv", b"older")
    ]


def test_a_whole_file_replaces_the_older_one_through_a_link(tmp_path):
    out, link = tmp_path / "out.csv", tmp_path / "link.csv"
    out.write_bytes(b"older")
    link.symlink_to(out)
    with open_output(str(link)) as file:
        file.write(b"whole")
        assert out.read_bytes() == b"older"
    assert out.read_bytes() == b"whole"
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "out.csv"]
