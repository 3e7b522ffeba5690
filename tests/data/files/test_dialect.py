"""How text files of columns are written: separators, headers, row names, columns without a name."""

import pandas as pd
import pyarrow as pa
import pytest

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.tables import open_files, read_files
from plainloop.errors import UserError

TEXTS = ['Good, and "cheap"', "late; never again", "tab\tand | bar", "two\nlines"] * 5
LABELS = ["pos", "neg", "pos", "neg"] * 5
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


def as_written(separator, *, end="\n", quote_all=False, header=("text", "label"), names=False):
    """The rows as Excel and R write them."""

    def field(text):
        needs = quote_all or any(character in text for character in f'{separator}"\r\n')
        return '"' + text.replace('"', '""') + '"' if needs else text

    lines = [separator.join(field(name) for name in header)] if header else []
    for number, row in enumerate(ROWS, start=1):
        cells = [str(number)] * names + list(row.values())
        lines.append(separator.join(map(field, cells)))
    return "".join(line + end for line in lines)


def of_pandas(**settings):
    return pd.DataFrame(ROWS).to_csv(**settings).encode()


# What each program writes where its menu says csv, or text: separator, line end, marks, quotes.
WRITERS = {
    "pandas": ("a.csv", of_pandas(index=False)),
    "pandas with its index": ("a.csv", of_pandas()),
    "pandas with bars": ("a.csv", of_pandas(sep="|", index=False)),
    "pandas, unpacked as it is read": ("a.csv.gz", None),
    "Excel, English": ("a.csv", as_written(",", end="\r\n").encode("utf-8-sig")),
    "Excel, German": ("a.csv", as_written(";", end="\r\n").encode("utf-8-sig")),
    "Excel, French, for Excel": ("a.csv", b"sep=;\r\n" + as_written(";", end="\r\n").encode()),
    "Excel, Spanish, named tsv": ("a.tsv", as_written(";", end="\r\n").encode()),
    "Excel, Korean, Unicode text": ("a.tsv", as_written("\t", end="\r\n").encode("utf-16")),
    "Excel, tabs, named csv": ("a.csv", as_written("\t", end="\r\n").encode("utf-16")),
    "R's write.csv2": (
        "a.csv",
        as_written(";", quote_all=True, header=("", "text", "label"), names=True).encode(),
    ),
    "R's write.table": ("a.tsv", as_written("\t", quote_all=True, names=True).encode()),
    "R's write.table with spaces": ("a.csv", as_written(" ", quote_all=True, names=True).encode()),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_rows_of_many_writers_are_read_with_no_flag(tmp_path, writer):
    name, content = WRITERS[writer]
    path = tmp_path / name
    if content is None:
        pd.DataFrame(ROWS).to_csv(path, index=False)
    else:
        path.write_bytes(content)
    source = read_files([path])
    assert source.table.select(["text", "label"]).to_pylist() == ROWS
    assert [row for batch in open_files([path], rows=3) for row in batch.to_pylist()] == (
        source.table.to_pylist()
    )
    content = pa.input_stream(str(path)).read()
    lines = content.decode("utf-16" if content.startswith(b"\xff\xfe") else "utf-8-sig")
    assert source.locate(0) == f"line {lines.partition('Good')[0].count(chr(10)) + 1}"
    assert source.locate(19) == f"line {lines.rpartition('two')[0].count(chr(10)) + 1}"


def read(tmp_path, content, name="a.csv", **options):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return read_files([path], ReadOptions(**options))


def refusal(tmp_path, content, name="a.csv", **options):
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, name, **options)
    return caught.value


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("text;label\na, b;x\nc, d;y\n", "separated by semicolons"),
        ("id;one, two;label\n1;a, b;x\n2;c, d;y\n", "separated by semicolons"),
        ("text|label\na,b|x\n", "separated by bars"),
        ("sep=^\ntext^label\na,b^x\n", "separated by '^'"),
        ('"sep=;"\ntext;label\na,b;x\n', "separated by semicolons"),
        ("text\tlabel\na\tx\n", "separated by tabs"),
    ],
)
def test_a_separator_that_the_suffix_does_not_say_is_found_and_said(tmp_path, content, note):
    source = read(tmp_path, content)
    assert source.notes == (f"a.csv: {note}",)
    assert source.table.column_names[-1] == "label"
    assert source.table.num_rows == content.count("\n") - 1 - ("sep=" in content)


@pytest.mark.parametrize(
    "content",
    [
        "text,label\na; b,x\nc; d,y\n",
        "text\na; b\nc; d\ne; f\n",
        "one; two\na\nb; c\nd\n",
        '"a;b",label\n"c;d",x\n',
        "n,text\n1,x\n2,y\n",
    ],
)
def test_a_file_of_commas_stays_one(tmp_path, content):
    source = read(tmp_path, content)
    assert source.notes == ()
    assert source.table.to_pylist() == pd.read_csv(
        tmp_path / "a.csv", dtype=str, keep_default_na=False
    ).to_dict("records")


def test_a_separator_that_is_given_is_taken(tmp_path):
    content = "text,a;label,b\nx,1;y,2\n"
    assert read(tmp_path, content, separator=";").table.column_names == ["text,a", "label,b"]
    assert read(tmp_path, "a\tb\nx\ty\n", separator=r"\t").table.column_names == ["a", "b"]
    assert read(tmp_path, "a\tb\nx\ty\n", separator="tab").table.column_names == ["a", "b"]
    for wrong in (";;", "", "é", '"', "\n"):
        assert refusal(tmp_path, content, separator=wrong).where == "--separator"


@pytest.mark.parametrize(
    "content",
    [
        "no,bad thing\nno,bad thing\nyes,so so\nyes,ok then\nno,so so\nyes,nice one\n",
        "neg,a very long and boring film\n" + "pos,a film that I liked\nneg,oh no not again\n" * 3,
        "1,A title of some words\n2,Another title of some words\n3,x\n",
        "spam\tcall us\nham\thello\nspam\tyou won\nham\tbye\nham\tsee you\n",
        "0,1467810369,NO_QUERY,user,oh no\n0,1467810672,NO_QUERY,other,is upset\n" * 2,
    ],
)
def test_a_first_row_that_is_data_is_asked_about_and_no_header_takes_it(tmp_path, content):
    error = refusal(tmp_path, content)
    assert error.what.startswith("no header: the first row looks like data (")
    assert error.fix.startswith("--no-header takes it as a row of columns 1, 2")
    source = read(tmp_path, content, header=False)
    lines = content.splitlines()
    assert source.table.num_rows == len(lines)
    assert source.table.column_names == [str(n + 1) for n in range(source.table.num_columns)]
    separator = "\t" if "\t" in content else ","
    assert [separator.join(row.values()) for row in source.table.to_pylist()] == lines
    assert source.locate(0) == "line 1"
    named = read(tmp_path, content, header=True)
    assert named.table.num_rows == len(lines) - 1
    assert separator.join(named.table.column_names) == lines[0]


@pytest.mark.parametrize(
    "header",
    [
        "text,label",
        "0,1",
        "What is the one thing that we could do better the next time you come?,theme",
        "long " * 30 + ",label",
        "text text text text text text,no",
    ],
)
def test_names_that_are_numbers_or_sentences_are_a_header_if_the_rest_fits(tmp_path, header):
    rows = "the staff was very friendly {0},staff\nit is too dear for us {0},price\n"
    source = read(tmp_path, f"{header}\n" + "".join(rows.format(n) for n in range(5)))
    assert ",".join(source.table.column_names) == header
    assert source.table.num_rows == 10


def test_a_header_that_is_repeated_below_is_a_header(tmp_path):
    content = "text,label\n" + "a,x\nb,y\n" * 4
    assert read(tmp_path, content * 3).table.num_rows == 26


def test_row_names_are_numbers_and_nothing_else(tmp_path):
    error = refusal(tmp_path, "text,label\ngood, really,pos\nbad, really,neg\n")
    assert error.what == "line 2 has 3 fields; line 3 has 3 fields, expected 2"
    error = refusal(tmp_path, "text,label\n1,x,pos\n1,y,neg\n")
    assert error.what == "line 2 has 3 fields; line 3 has 3 fields, expected 2"


def test_columns_without_a_name_are_left_out_if_they_are_empty_and_called_so_if_not(tmp_path):
    source = read(tmp_path, "v1,v2,,,\nham,hello,,,\nspam,call,,,\n")
    assert source.table.to_pylist() == [{"v1": "ham", "v2": "hello"}, {"v1": "spam", "v2": "call"}]
    assert source.notes == ("a.csv: 3 empty columns without a name are left out",)
    source = read(tmp_path, 'v1,v2,"",\nham,"he\nllo",,\nspam,call, us,\n')
    assert source.table.column_names == ["v1", "v2", "Unnamed: 2"]
    assert source.table["Unnamed: 2"].to_pylist() == ["", " us"]
    assert source.locate(1) == "line 4"
    assert source.notes == (
        "a.csv: 1 empty columns without a name are left out",
        "a.csv: columns without a name are called 'Unnamed: 2'",
    )
    [batch] = open_files([tmp_path / "a.csv"])
    assert batch.to_pylist() == source.table.to_pylist()


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_compressed_files_are_read_and_damage_is_found(tmp_path, suffix, name):
    path = tmp_path / f"{name}{suffix}"
    frame = pd.DataFrame(ROWS * 50)
    content = (
        frame.to_csv(index=False)
        if name == "a.csv"
        else frame.to_json(orient="records", lines=True)
    )
    with pa.output_stream(path, compression="detect") as file:
        file.write(content.encode())
    source = read_files([path])
    assert source.table.to_pylist() == ROWS * 50
    assert source.locate(3) == ("line 5" if name == "a.csv" else "line 4")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged or cut short"):
        read_files([path])
