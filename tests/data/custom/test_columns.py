"""Finding text and label: real headers are read right, and what is not clear is asked."""

import pyarrow as pa
import pytest
from header_sets import (
    AMBIGUOUS,
    BINARY,
    FOUND,
    NUMBER,
    OTHER,
    REFUSED,
    ROWS,
    SENTIMENT,
    STARS,
    TEXT,
    cycle,
)

from plainloop.data.custom.column_types import has_zeros_and_ones
from plainloop.data.custom.columns import find_columns
from plainloop.data.files.tables import Source
from plainloop.errors import UserError


def source_of(columns, path="train.csv"):
    return Source(pa.table(columns), path)


def refusal(columns, path="train.csv", **flags):
    with pytest.raises(UserError) as caught:
        find_columns(source_of(columns, path), **flags)
    return str(caught.value)


@pytest.mark.parametrize(("columns", "text", "label"), FOUND.values(), ids=FOUND)
def test_the_columns_of_known_data_sets_are_found(columns, text, label):
    found = find_columns(source_of(columns))
    assert found.text == ((text,) if isinstance(text, str) else text)
    assert found.label == label
    assert len(found.reasons) == 2
    assert all(reason.isprintable() for reason in found.reasons)
    assert all(repr(name) in found.reasons[0] for name in found.text)
    assert repr(label) in found.reasons[1]


def test_the_order_of_the_columns_changes_nothing():
    for columns, text, label in FOUND.values():
        found = find_columns(source_of(dict(reversed(columns.items()))))
        assert found.text == ((text,) if isinstance(text, str) else text)
        assert found.label == label


@pytest.mark.parametrize(("columns", "texts", "labels"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_is_not_clear_is_asked_with_all_candidates_and_the_flag(columns, texts, labels):
    asked = []
    if texts:
        shown = " or ".join(map(repr, texts))
        flags = (
            f"--text-column {texts[0]!r} takes one, --text-column {texts[0]!r} {texts[1]!r} a pair"
        )
        asked.append(f"train.csv: the text may be {shown}; {flags}")
    if labels:
        shown = " or ".join(map(repr, labels))
        names = " ".join(map(repr, labels))
        fix = f"--label-column {labels[0]!r} takes one, --label-column {names} several in a row"
        if not all(has_zeros_and_ones(pa.chunked_array([columns[name]])) for name in labels):
            fix = "--label-column NAME decides"
        asked.append(f"train.csv: the label may be {shown}; {fix}")
    assert refusal(columns).splitlines() == asked


@pytest.mark.parametrize(("columns", "texts", "labels"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_the_answer_to_each_question_is_taken(columns, texts, labels):
    for text in texts or [()]:
        for label in labels or [None]:
            flags = {"text_column": (text,) if text else (), "label_column": label}
            found = find_columns(source_of(columns), **flags)
            assert not text or found.text == (text,)
            assert not label or found.label == label


@pytest.mark.parametrize(("columns", "message"), REFUSED.values(), ids=REFUSED)
def test_columns_without_a_candidate_are_refused(columns, message):
    assert refusal(columns).startswith(f"train.csv: {message}")


def test_the_header_sets_are_as_many_as_the_rule_promises():
    assert len(FOUND) + len(AMBIGUOUS) + len(REFUSED) >= 60
    assert len(AMBIGUOUS) >= 20


def test_a_known_name_that_is_not_taken_is_explained():
    columns = FOUND["a subject of few values"][0]
    assert find_columns(source_of(columns)).reasons[0] == (
        "text: column 'Ticket Text' (the only column of long, mostly unique text; "
        "'Subject': empty or few values)"
    )


def test_the_flags_decide_what_is_not_clear():
    columns = AMBIGUOUS["Stack Overflow"][0]
    assert find_columns(source_of(columns), text_column=("Body",)).label == "Y"
    found = find_columns(source_of(columns), text_column=("Title", "Body"), label_column="Y")
    assert (found.text, found.label) == (("Title", "Body"), "Y")
    assert found.reasons == (
        "text: columns 'Title' and 'Body' (--text-column)",
        "label: column 'Y' (--label-column)",
    )


def test_flags_beat_known_names():
    columns = {"text": TEXT, "other": OTHER, "label": BINARY, "kind": SENTIMENT}
    found = find_columns(source_of(columns), text_column=("other",), label_column="kind")
    assert (found.text, found.label) == (("other",), "kind")


def test_a_column_that_is_the_label_is_no_text():
    columns = {"question": TEXT, "answer": SENTIMENT}
    found = find_columns(source_of(columns), label_column="answer")
    assert (found.text, found.label) == (("question",), "answer")


def test_the_group_column_is_no_candidate():
    columns = {"text": TEXT, "author": cycle("a", "b", "c"), "verdict": SENTIMENT}
    assert "'author' or 'verdict'" in refusal(columns)
    assert find_columns(source_of(columns), group_column="author").label == "verdict"


def test_a_group_may_be_one_of_the_texts():
    columns = {"premise": TEXT, "hypothesis": OTHER, "label": BINARY}
    flags = {"text_column": ("premise", "hypothesis"), "group_column": "premise"}
    assert find_columns(source_of(columns), **flags).text == ("premise", "hypothesis")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"text_column": ("txt",)},
            (
                "train.csv: no column 'txt'; columns: 'text', 'label'; "
                "--text-column: did you mean 'text'?"
            ),
        ),
        (
            {"label_column": "zzz"},
            (
                "train.csv: no column 'zzz'; columns: 'text', 'label'; "
                "--label-column: give one of these"
            ),
        ),
        (
            {"group_column": "labels"},
            (
                "train.csv: no column 'labels'; columns: 'text', 'label'; "
                "--group-column: did you mean 'label'?"
            ),
        ),
        (
            {"text_column": ("label",), "label_column": "label"},
            (
                "--text-column and --label-column: column 'label' is named twice; the two must differ; "
                "columns: 'text', 'label'"
            ),
        ),
        (
            {"text_column": ("text", "text")},
            (
                "--text-column: column 'text' is named twice; the two must differ; "
                "columns: 'text', 'label'"
            ),
        ),
        (
            {"label_column": "label", "group_column": "label"},
            (
                "--label-column and --group-column: column 'label' is named twice; "
                "the two must differ; columns: 'text', 'label'"
            ),
        ),
        (
            {"text_column": ("text", "label", "text")},
            "--text-column: 3 columns; give one, or two: a pair",
        ),
    ],
)
def test_a_flag_that_cannot_be_used_is_explained(flags, message):
    assert refusal({"text": TEXT, "label": BINARY}, **flags) == message


def test_all_absent_columns_are_reported_together():
    columns = {"text": TEXT, "label": BINARY}
    message = refusal(columns, text_column=("a",), label_column="b", group_column="c")
    assert [line.split("'")[1] for line in message.splitlines()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("column", "holds"),
    [
        ([["a", "b"]] * ROWS, "lists"),
        ([{"en": "a"}] * ROWS, "objects"),
        ([True] * ROWS, "bool"),
        ([None] * ROWS, "nothing but null"),
    ],
)
def test_a_text_column_of_anything_else_is_refused(column, holds):
    for flags in ({}, {"text_column": ("text",)}):
        message = refusal({"text": column, "label": BINARY}, "train.parquet", **flags)
        assert message.startswith(f"train.parquet: column 'text' holds {holds}, need text; ")


def test_numbers_are_a_text_only_where_a_flag_says_so():
    columns = {"text": list(range(ROWS)), "label": BINARY}
    assert "no column is known or looks like the text" in refusal(columns, "train.jsonl")
    found = find_columns(source_of(columns, "train.jsonl"), text_column=("text",))
    assert "text: column 'text' holds numbers; they are read as text" in found.reasons


def test_lists_of_labels_are_a_label():
    columns = {"text": TEXT, "genres_of_it": cycle(["drama"], [], ["drama", "crime"])}
    assert find_columns(source_of(columns, "train.jsonl")).label == "genres_of_it"


@pytest.mark.parametrize(
    "columns",
    [
        {"ham": cycle("ham", "spam"), "Go until jurong point": TEXT},
        {"spam": cycle("ham", "spam"), "Free entry in a weekly competition": TEXT},
        {"0": BINARY, "A film that knows what it wants to be": TEXT},
        {"Nothing": TEXT, "1": cycle("1", "2")},
    ],
)
def test_a_header_that_is_a_row_of_data_is_named(columns):
    message = refusal(columns)
    assert message.startswith("train.csv: no header: the first row looks like data (")
    assert refusal(columns, text_column=("text",), label_column="label") == message


def test_only_a_table_of_text_can_lack_a_header():
    columns = {"v1": cycle("v1", "v2"), "v2": TEXT}
    assert "no header" in refusal(columns, "train.csv")
    assert find_columns(source_of(columns, "train.jsonl")).text == ("v2",)


def test_a_sentence_is_a_good_name_beside_a_known_one():
    columns = {"text": TEXT, "How well did you like our service?": STARS}
    assert find_columns(source_of(columns)).label == "How well did you like our service?"


def test_an_unlabelled_file_is_recognized():
    columns = {"id": NUMBER, "text": TEXT}
    assert refusal(columns).endswith(
        "columns: 'id', 'text'; name it: --label-column NAME; or is this an unlabelled test split?"
    )
    found = find_columns(source_of(columns), label_column="label", labelled=False)
    assert (found.text, found.label, len(found.reasons)) == (("text",), None, 1)


def test_a_label_that_need_not_be_there_is_taken_where_it_is():
    source = source_of({"text": TEXT, "label": BINARY})
    assert find_columns(source, label_column="label", labelled=False).label == "label"
    assert find_columns(source, labelled=False).label is None


def test_control_characters_of_a_name_are_not_printed():
    message = refusal({"te\x1b[31mxt\n": TEXT, "label": BINARY}, text_column=("a\x07",))
    assert message.isprintable()


def test_rare_and_sorted_classes_of_a_large_file_are_seen():
    rows = 50_000
    columns = {
        "said": [f"{TEXT[0]} for the time {number}" for number in range(rows)],
        "verdict": ["a"] * (rows - 2_000) + ["b"] * 2_000,
    }
    assert find_columns(source_of(columns)).label == "verdict"
