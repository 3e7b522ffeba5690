"""Reading a task's files: every text as it is written, and every bad file in one line."""

import logging

import pytest
from datasets import ClassLabel, Value
from hypothesis import given, strategies as st

from plainloop.config.tasks import get_task
from plainloop.data.glue import read_glue_tsv, read_splits
from plainloop.errors import UserError

DEMO, MRPC = get_task("demo"), get_task("mrpc")
HEADER = "sentence1\tsentence2\tlabel\n"
ROW = "a\tb\t1\n"


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Write a demo file of these characters or bytes."""
    path = tmp_path_factory.mktemp("written") / "train.tsv"

    def write(content):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows_of(path, task=DEMO):
    table = read_glue_tsv(path, task).to_pydict()
    return list(zip(table["sentence1"], table["sentence2"], table["label"], strict=True))


def refusal(path, task=DEMO):
    with pytest.raises(UserError) as caught:
        read_glue_tsv(path, task)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (HEADER + ROW, [("a", "b", 1)]),
        ("\ufeff" + HEADER + ROW, [("a", "b", 1)]),
        (HEADER + 'a "b\t"c"\t0\n"\t""\t1\n', [('a "b', '"c"', 0), ('"', '""', 1)]),
        (HEADER + "NA\tnull\t1\n\tNaN\t0\n", [("NA", "null", 1), ("", "NaN", 0)]),
        (HEADER + "1\t2.50\t1\n01\ttrue\t0\n", [("1", "2.50", 1), ("01", "true", 0)]),
        (HEADER + " a \t\\t\t1\n", [(" a ", "\\t", 1)]),
        ((HEADER + ROW + ROW).replace("\n", "\r\n"), [("a", "b", 1)] * 2),
        (HEADER + ROW + "\n\n\n", [("a", "b", 1)]),
        ((HEADER + ROW + "\n\n").replace("\n", "\r\n"), [("a", "b", 1)]),
        (HEADER + ROW.rstrip("\n"), [("a", "b", 1)]),
        ("label\tid\tsentence2\tsentence1\n1\t7\tb\ta\n", [("a", "b", 1)]),
    ],
    ids=[
        "plain",
        "byte order mark",
        "quotes",
        "missing values",
        "numbers",
        "spaces and backslashes",
        "Windows line ends",
        "blank lines at the end",
        "Windows blank lines at the end",
        "no line end at the end",
        "other columns and order",
    ],
)
def test_text_is_read_as_it_is_written(written, content, rows):
    assert rows_of(written(content)) == rows


def test_a_text_longer_than_a_block_of_arrows_is_read(written):
    long = "x" * 3_000_000
    assert rows_of(written(f"{HEADER}{long}\tb\t1\n")) == [(long, "b", 1)]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"))


@given(rows=st.lists(st.tuples(texts, texts, st.integers(0, 1)), min_size=1))
def test_any_text_without_tabs_and_line_ends_is_read_back(written, rows):
    lines = [f"{first}\t{second}\t{label}\n" for first, second, label in rows]
    assert rows_of(written(HEADER + "".join(lines))) == rows


@given(widths=st.lists(st.integers(1, 6), min_size=1).filter(lambda widths: set(widths) != {3}))
def test_rows_with_another_number_of_fields_are_reported_by_line(written, widths):
    lines = ["\t".join(["0"] * width) + "\n" for width in widths]
    error = refusal(written(HEADER + "".join(lines)))
    wrong = [(line, width) for line, width in enumerate(widths, start=2) if width != 3]
    shown = "; ".join(
        f"line {line} has {width} field{'s' * (width > 1)}" for line, width in wrong[:3]
    )
    more = f" (+{len(wrong) - 3} more)" if len(wrong) > 3 else ""
    assert error.what == f"{shown}{more}; expected 3"


def test_lines_are_counted_over_blank_lines_and_blocks(written):
    many = "x" * 500 + "\tb\t1\n"
    content = HEADER + many * 5000 + "\n" + "a\tb\n"
    assert refusal(written(content)).what == "line 5003 has 2 fields; expected 3"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("\ufeff", "the file is empty"),
        (HEADER, "no rows below the header"),
        (HEADER.rstrip("\n"), "no rows below the header"),
        (HEADER + "\n\n", "no rows below the header"),
        (HEADER + "a\t1\n", "line 2 has 2 fields; expected 3"),
        (HEADER + ROW + "a\tb\tc\t1\n", "line 3 has 4 fields; expected 3"),
        (HEADER + ROW + "\n" + ROW, "line 3 has the label ''"),
        (HEADER + ROW + "a\tb\tyes\n", "line 3 has the label 'yes'"),
        (HEADER + "a\tb\t2\na\tb\t1.0\n", "line 2 has the label '2'; line 3 has the label '1.0'"),
        (
            HEADER + "a\tb\tx\n" * 5,
            "line 2 has the label 'x'; line 3 has the label 'x'; line 4 has the label 'x' (+2 more)",
        ),
        (HEADER + "a\tb\t-1\n" * 2, "every label is -1: this is an unlabelled split"),
        (HEADER + "a\tb\t-1\n" + ROW, "line 2 has the label '-1'"),
        (
            "sentence1\tsentence2\na\tb\n",
            "no column 'label', so no labels: this looks like an unlabelled test split",
        ),
        (
            "sentence1\tsentense2\tlabel\na\tb\t1\n",
            "no column 'sentence2'; found: sentence1, sentense2, label",
        ),
        (
            (HEADER + ROW).replace("\t", ","),
            "no column 'sentence1'; found: sentence1,sentence2,label",
        ),
        (HEADER.encode() + b"caf\xe9\tb\t1\n", "byte 0xE9 on line 2 is not UTF-8"),
        ((HEADER + ROW).encode("utf-16"), "byte 0xFF on line 1 is not UTF-8"),
        ("label\t" + HEADER + "1\t" + ROW, "column 'label' appears twice (1, 4)"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_line_and_a_fix(written, content, what):
    path = written(content)
    error = refusal(path)
    assert (error.where, error.what) == (str(path), what)
    assert error.fix


@pytest.mark.parametrize(
    ("name", "where", "fix"),
    [
        ("gleu", "gleu", "in {}: did you mean glue?"),
        ("gleu/deep/er", "gleu", "in {}: did you mean glue?"),
        ("glue", "glue/train.tsv", "in {}/glue: did you mean train.txt"),
    ],
)
def test_a_missing_folder_or_file_is_refused_with_the_nearest_name(tmp_path, name, where, fix):
    (tmp_path / "glue").mkdir()
    (tmp_path / "glue" / "train.txt").touch()
    (tmp_path / "glue" / "validation.tsv").write_text(HEADER + ROW, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_splits(DEMO, tmp_path / name)
    assert caught.value.where == str(tmp_path / where)
    assert caught.value.fix.startswith(fix.format(tmp_path))


def test_a_file_that_is_given_for_a_folder_is_not_called_missing(tiny_data):
    with pytest.raises(UserError, match="folder") as caught:
        read_splits(DEMO, tiny_data / "train.tsv")
    assert caught.value.where == str(tiny_data / "train.tsv")
    assert "no such file" not in caught.value.what
    assert "did you mean train.tsv" not in caught.value.fix


def test_a_missing_folder_beside_nothing_is_refused_with_a_fix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file or folder") as caught:
        read_splits(DEMO, tmp_path / "glue")
    assert not caught.value.fix.endswith(": ")


def test_splits_have_text_label_names_and_row_numbers(tiny_data):
    raw = read_splits(DEMO, tiny_data, test_file=(str(tiny_data / "test.tsv"),))
    assert raw.num_rows == {"train": 43, "validation": 21, "test": 13}
    for split in raw.values():
        assert split.features == {
            "sentence1": Value("string"),
            "sentence2": Value("string"),
            "label": ClassLabel(names=["different", "paraphrase"]),
            "idx": Value("int32"),
        }
        assert list(split["idx"]) == list(range(len(split)))


def test_without_a_folder_the_embedded_samples_are_read():
    raw = read_splits(DEMO)
    assert set(raw) == {"train", "validation"}
    assert all(len(split) > 100 for split in raw.values())


@pytest.mark.parametrize(("wanted", "kept"), [(None, 43), (1, 1), (42, 42), (43, 43), (99, 43)])
def test_max_train_samples_keeps_the_first_rows_of_train_alone(tiny_data, wanted, kept):
    raw = read_splits(DEMO, tiny_data, max_train_samples=wanted)
    assert list(raw["train"]["idx"]) == list(range(kept))
    assert len(raw["validation"]) == 21


@pytest.fixture
def short_mrpc(tmp_path):
    (tmp_path / "MRPC").mkdir()
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    for name, rows in (("train", 2), ("dev", 408)):
        content = header + "1\t70\t71\ta\tb\n" * rows
        (tmp_path / "MRPC" / f"{name}.tsv").write_text(content, encoding="utf-8")
    return tmp_path


def test_fewer_rows_than_the_official_files_have_are_a_warning(short_mrpc, caplog):
    raw = read_splits(MRPC, short_mrpc)
    assert raw["train"][0] == {"sentence1": "a", "sentence2": "b", "label": 1, "idx": 0}
    assert caplog.record_tuples == [
        (
            "plainloop.data.glue",
            logging.WARNING,
            "mrpc train: 2 rows, the official file has 3668",
        )
    ]


def test_the_real_mrpc_files_are_whole_and_their_test_file_has_no_labels(glue, caplog):
    raw = read_splits(MRPC, glue)
    assert raw.num_rows == {"train": 3668, "validation": 408}
    assert caplog.records == []
    assert "unlabelled test split" in refusal(glue / "MRPC" / "test.tsv", MRPC).what
