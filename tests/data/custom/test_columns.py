"""Finding text and label: real headers are read right, and what is not clear is asked."""

import pyarrow as pa
import pytest

from plainloop.data.custom.columns import find_columns
from plainloop.data.files.tables import Source
from plainloop.errors import UserError

ROWS = 24
TEXT = [f"the {word} of it was {word} enough for us" for word in map(chr, range(97, 97 + ROWS))]
OTHER = [f"and yet {word} times nobody came to {word}" for word in map(chr, range(97, 97 + ROWS))]
TITLE = [f"A {word} tale" for word in map(chr, range(97, 97 + ROWS))]
NUMBER = [str(row) for row in range(ROWS)]
CODE = [f"B00{row * 7919:x}Q" for row in range(ROWS)]
DATE = [f"2015-02-{row + 1:02} 11:35:52 -0800" for row in range(ROWS)]
LONG_DATE = [f"Tue Feb {row + 1:02} 2015 11:35:52 GMT+0000" for row in range(ROWS)]
LINK = [f"https://news.invalid/2015/stories/{code}.html" for code in CODE]
ONE = ["NO_QUERY"] * ROWS
EMPTY = [""] * ROWS


def cycle(*values):
    return [values[row % len(values)] for row in range(ROWS)]


SENTIMENT, BINARY, STARS = cycle("negative", "positive"), cycle("0", "1"), cycle("1", "3", "5")


def source_of(columns, path="train.csv"):
    return Source(pa.table(columns), path)


def refusal(columns, path="train.csv", **flags):
    with pytest.raises(UserError) as caught:
        find_columns(source_of(columns, path), **flags)
    return str(caught.value)


FOUND = {
    "IMDb": ({"review": TEXT, "sentiment": SENTIMENT}, "review", "sentiment"),
    "hub default": ({"text": TEXT, "label": BINARY}, "text", "label"),
    "Yelp": (
        {"review_id": CODE, "user_id": CODE, "stars": STARS, "date": DATE, "text": TEXT}
        | {"useful": cycle("0", "1", "2"), "funny": BINARY, "cool": BINARY},
        "text",
        "stars",
    ),
    "SMS spam": (
        {"v1": cycle("ham", "spam"), "v2": TEXT, "Unnamed: 2": EMPTY, "Unnamed: 3": EMPTY},
        "v2",
        "v1",
    ),
    "spam mails": (
        {"": NUMBER, "label": cycle("ham", "spam"), "text": TEXT, "label_num": BINARY},
        "text",
        "label",
    ),
    "spam messages": ({"Category": cycle("ham", "spam"), "Message": TEXT}, "Message", "Category"),
    "Quora questions": (
        {"id": NUMBER, "qid1": NUMBER, "qid2": NUMBER}
        | {"question1": TEXT, "question2": OTHER, "is_duplicate": BINARY},
        ("question1", "question2"),
        "is_duplicate",
    ),
    "SNLI": (
        {"gold_label": cycle("entailment", "neutral", "contradiction")}
        | {"sentence1_binary_parse": TEXT, "sentence2_binary_parse": OTHER}
        | {"sentence1": TEXT, "sentence2": OTHER, "captionID": CODE, "pairID": CODE}
        | {"label1": cycle("neutral", "entailment"), "label2": EMPTY},
        ("sentence1", "sentence2"),
        "gold_label",
    ),
    "MNLI on the hub": (
        {"premise": TEXT, "hypothesis": OTHER, "label": STARS, "idx": NUMBER},
        ("premise", "hypothesis"),
        "label",
    ),
    "QNLI": (
        {"index": NUMBER, "question": TEXT, "sentence": OTHER, "label": SENTIMENT},
        ("question", "sentence"),
        "label",
    ),
    "BoolQ": (
        {"question": TEXT, "passage": OTHER, "answer": cycle("True", "False")},
        ("question", "passage"),
        "answer",
    ),
    "STS-B": (
        {"genre": ONE, "filename": ONE, "year": ONE, "score": cycle("1.0", "2.4")}
        | {"sentence1": TEXT, "sentence2": OTHER},
        ("sentence1", "sentence2"),
        "score",
    ),
    "MRPC": (
        {
            "Quality": BINARY,
            "#1 ID": NUMBER,
            "#2 ID": NUMBER,
            "#1 String": TEXT,
            "#2 String": OTHER,
        },
        ("#1 String", "#2 String"),
        "Quality",
    ),
    "Amazon, US reviews": (
        {"marketplace": ONE, "product_id": CODE, "star_rating": STARS, "review_body": TEXT}
        | {"vine": cycle("N", "Y"), "review_date": DATE},
        "review_body",
        "star_rating",
    ),
    "banking77": ({"text": TEXT, "category": cycle("card_arrival", "top_up")}, "text", "category"),
    "CLINC": ({"utterance": TEXT, "intent": cycle("travel", "meal")}, "utterance", "intent"),
    "tweets of airlines": (
        {"tweet_id": NUMBER, "airline_sentiment": SENTIMENT}
        | {"airline_sentiment_confidence": cycle("1.0", "0.6"), "airline": cycle("Us", "Them")}
        | {"name": CODE, "text": TEXT, "tweet_created": DATE, "user_timezone": cycle("A", "B")},
        "text",
        "airline_sentiment",
    ),
    "Sentiment140": (
        {"target": cycle("0", "4"), "ids": NUMBER, "date": LONG_DATE, "flag": ONE}
        | {"user": CODE, "text": TEXT},
        "text",
        "target",
    ),
    "disaster tweets": (
        {"id": NUMBER, "keyword": cycle("fire", "flood"), "location": EMPTY}
        | {"text": TEXT, "target": BINARY},
        "text",
        "target",
    ),
    "tweets on the virus": (
        {"UserName": NUMBER, "ScreenName": NUMBER, "TweetAt": cycle("16-03-2020", "17-03-2020")}
        | {"OriginalTweet": TEXT, "Sentiment": SENTIMENT},
        "OriginalTweet",
        "Sentiment",
    ),
    "hate speech": (
        {"": NUMBER, "count": STARS, "hate_speech": BINARY, "class": STARS, "tweet": TEXT},
        "tweet",
        "class",
    ),
    "Rotten Tomatoes phrases": (
        {"PhraseId": NUMBER, "SentenceId": NUMBER, "Phrase": TEXT, "Sentiment": STARS},
        "Phrase",
        "Sentiment",
    ),
    "drug reviews": (
        {"uniqueID": NUMBER, "drugName": CODE, "condition": cycle("Pain", "Acne")}
        | {"review": TEXT, "rating": STARS, "date": DATE, "usefulCount": NUMBER},
        "review",
        "rating",
    ),
    "consumer complaints": (
        {"Date received": DATE, "Consumer complaint narrative": TEXT}
        | {"Complaint ID": NUMBER, "category": cycle("Mortgage", "Card")},
        "Consumer complaint narrative",
        "category",
    ),
    "movie comments in Korean": (
        {"id": NUMBER, "document": [f"정말 재미있는 영화 {n}" for n in NUMBER], "label": BINARY},
        "document",
        "label",
    ),
    "toxic comments, one label named": (
        {"id": CODE, "comment_text": TEXT, "is_toxic": BINARY},
        "comment_text",
        "is_toxic",
    ),
    "no known name at all": (
        {
            "uuid": CODE,
            "when": LONG_DATE,
            "where": LINK,
            "was sie sagten": TEXT,
            "urteil": SENTIMENT,
        },
        "was sie sagten",
        "urteil",
    ),
    "a label beside a score": (
        {"text": TEXT, "label": SENTIMENT, "score": cycle("0.9", "0.8")},
        "text",
        "label",
    ),
}


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


AMBIGUOUS = {
    "AG News": (
        {"Class Index": STARS, "Title": TITLE, "Description": TEXT},
        {},
        ("'Title'", "'Description'", "--text-column"),
    ),
    "Amazon, summary and text": (
        {"Id": NUMBER, "Score": STARS, "Time": NUMBER, "Summary": TITLE, "Text": TEXT},
        {},
        ("'Summary'", "'Text'", "--text-column"),
    ),
    "fake news": (
        {"id": NUMBER, "title": TITLE, "author": CODE, "text": TEXT, "label": BINARY},
        {},
        ("'title'", "'text'", "--text-column"),
    ),
    "TREC": (
        {"text": TEXT, "coarse_label": STARS, "fine_label": STARS},
        {},
        ("'coarse_label'", "'fine_label'", "--label-column"),
    ),
    "stance": (
        {"ID": NUMBER, "Target": SENTIMENT, "Tweet": TEXT, "Stance": SENTIMENT},
        {},
        ("'Target'", "'Stance'", "--label-column"),
    ),
    "toxic comments": (
        {"id": CODE, "comment_text": TEXT, "toxic": BINARY, "obscene": BINARY},
        {},
        ("'toxic'", "'obscene'", "--label-column"),
    ),
    "two pairs": (
        {"question": TEXT, "sentence": OTHER, "answer": TEXT, "label": BINARY},
        {},
        ("'question'", "'sentence'", "'answer'", "--text-column"),
    ),
    "two unknown texts": (
        {"left": TEXT, "right": OTHER, "label": BINARY},
        {},
        ("'left'", "'right'", "--text-column"),
    ),
    "names that differ by case": (
        {"text": TEXT, "Text": OTHER, "label": BINARY},
        {},
        ("'text'", "'Text'", "--text-column"),
    ),
    "Stack Overflow": (
        {"Id": NUMBER, "Title": TITLE, "Body": TEXT, "Tags": CODE, "Y": SENTIMENT},
        {},
        ("'Title'", "'Body'", "--text-column", "'Tags'", "'Y'", "--label-column"),
    ),
}


@pytest.mark.parametrize(("columns", "flags", "named"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_is_not_clear_is_refused_with_all_candidates_and_the_flag(columns, flags, named):
    message = refusal(columns, **flags)
    assert all(part in message for part in named)
    assert all(line.startswith("train.csv: ") for line in message.splitlines())


def test_the_flags_decide_what_is_not_clear():
    columns = AMBIGUOUS["Stack Overflow"][0]
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
