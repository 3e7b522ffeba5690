"""The data doctor: each finding where it is, and none where it is not."""

import cProfile
import json
import pstats
import subprocess
import sys

import numpy as np
import pytest
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Sequence,
    Value,
    concatenate_datasets,
)
from hypothesis import given, strategies as st
from sklearn.metrics import accuracy_score, f1_score

from plainloop.config.tasks import Task, get_task
from plainloop.data.glue import read_splits
from plainloop.data.quality.baselines import MOST_BASELINE_ROWS
from plainloop.data.quality.summary import check_data
from plainloop.model.tokenizer import load_tokenizer

SINGLE, MULTI, REGRESSION = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
MODEL_LIMIT = 64


def make_task(problem_type=SINGLE, label_names=("no", "yes"), columns=("text",)):
    names = () if problem_type == REGRESSION else label_names
    metrics = ("rmse",) if problem_type == REGRESSION else ("accuracy",)
    return Task("own", columns, names, metrics, problem_type)


def make_split(task, rows):
    """Rows of (text, ..., label); no label where the label is None in all."""
    features = {column: Value("string") for column in task.text_columns} | {"idx": Value("int32")}
    data = {column: [row[i] for row in rows] for i, column in enumerate(task.text_columns)}
    data["idx"] = list(range(len(rows)))
    labels = [row[-1] for row in rows]
    if not rows or labels[0] is not None:
        data["label"] = labels
        features["label"] = {
            SINGLE: ClassLabel(names=list(task.label_names)),
            MULTI: Sequence(Value("float32"), length=task.num_labels),
            REGRESSION: Value("float32"),
        }[task.problem_type]
    return Dataset.from_dict(data, Features(features))


def make_raw(task, train, validation, test=None):
    splits = {"train": train, "validation": validation} | ({"test": test} if test else {})
    return DatasetDict({name: make_split(task, rows) for name, rows in splits.items()})


def clean(task, start, num_rows=24):
    """Rows without anything to be found."""
    columns = len(task.text_columns)
    label = {
        SINGLE: lambda row: row % len(task.label_names),
        MULTI: lambda row: [float(row % 2 == i % 2) for i in range(task.num_labels)],
        REGRESSION: lambda row: row / 10,
    }[task.problem_type]
    return [
        (*(f"text number {row} in column {i}" for i in range(columns)), label(row))
        for row in range(start, start + num_rows)
    ]


def check(task, train=(), validation=(), test=None, *, quick=True, **options):
    """Check clean rows followed by these."""
    raw = make_raw(
        task,
        [*clean(task, 0), *train],
        [*clean(task, 100), *validation],
        test and [*clean(task, 200), *test],
    )
    return check_data(raw, task, quick=quick, **options)


def only(findings, kind):
    """The one finding, which is of this kind."""
    assert [finding.kind for finding in findings.found] == [kind], findings.found
    return findings.found[0]


ALL_TASKS = {
    "single": make_task(),
    "pair": make_task(columns=("text", "text_pair")),
    "multi": make_task(MULTI, ("a", "b", "c")),
    "regression": make_task(REGRESSION),
}
every_task = pytest.mark.parametrize("task", ALL_TASKS.values(), ids=ALL_TASKS)
OWN = ALL_TASKS["single"]
PAIR = ALL_TASKS["pair"]
NOT_QUICK = {"pairs_joined", "no_baseline"}


@every_task
def test_nothing_is_found_in_clean_rows(task):
    findings = check(task, test=clean(task, 300), quick=False)
    assert {finding.kind for finding in findings.found} <= NOT_QUICK
    assert not findings.warnings
    assert not findings.errors


@pytest.mark.parametrize("empty", ["", "  ", "\t\u00a0\n"])
def test_an_empty_text_is_found(empty):
    found = only(check(OWN, train=[(empty, 0), (empty, 1)]), "empty_text")
    assert (found.split, found.count, found.rows) == ("train", 2, (24, 25))
    assert found.shown == "rows 25, 26"
    assert str(found) == "train: 2 rows with an empty text: rows 25, 26"


@pytest.mark.parametrize("text", ["NA", "null", "-", "0"])
def test_a_text_that_only_looks_missing_is_not_empty(text):
    assert not check(OWN, train=[(text, 0)]).found


def test_the_empty_one_of_two_texts_is_named():
    found = only(check(PAIR, validation=[("some words", " ", 0)]), "empty_text")
    assert (found.split, found.message) == ("validation", "1 row with an empty text_pair")


def test_an_earlier_text_is_found_each_time_it_is_repeated():
    again = [("again", 0), ("other", 0), (" again", 0), ("again\n", 0), ("Again", 0)]
    found = only(check(OWN, train=again), "duplicate_text")
    assert (found.count, found.rows) == (2, (26, 27))


@pytest.mark.parametrize("task", [ALL_TASKS["multi"], ALL_TASKS["regression"]])
def test_a_repeated_row_is_found_with_every_kind_of_label(task):
    label = clean(task, 3)[0][-1]
    found = only(check(task, train=[("again", label)] * 2), "duplicate_text")
    assert found.rows == (25,)


def test_a_pair_is_repeated_only_where_both_texts_are():
    rows = [("a", "b", 0), ("a", "c", 0), ("d", "b", 0), ("b", "a", 0)]
    assert not check(PAIR, train=rows).found
    assert only(check(PAIR, train=[*rows, ("a", "b", 0)]), "duplicate_text").rows == (28,)


def test_a_pair_of_equal_texts_is_found():
    found = only(check(PAIR, train=[("same", " same ", 1), ("same", "Same", 1)]), "equal_pair")
    assert (found.count, found.rows) == (1, (24,))


def kinds(findings):
    return {finding.kind: finding for finding in findings.found}


@pytest.mark.parametrize(
    ("task", "one", "other"),
    [
        (OWN, 0, 1),
        (ALL_TASKS["multi"], [1, 0, 0], [1, 0, 1]),
        (ALL_TASKS["regression"], 1.5, 1.75),
    ],
    ids=["single", "multi", "regression"],
)
def test_a_text_with_several_labels_is_found(task, one, other):
    rows = [("b", one), ("a", one), ("c", one), ("b", other), ("a", other), ("c", one)]
    found = kinds(check(task, train=rows))["contradicting_labels"]
    assert (found.count, found.rows) == (4, (24, 27, 25, 28)), "a text's rows side by side"
    assert "(2 texts)" in found.message
    agreeing = [("b", one), ("a", other), ("b", one)]
    assert "contradicting_labels" not in kinds(check(task, train=agreeing))


@every_task
def test_a_row_that_train_has_too_is_found(task):
    known, new = clean(task, 3, 2), clean(task, 500, 1)
    found = only(check(task, validation=[*new, *known]), "in_train_too")
    assert (found.split, found.count, found.rows) == ("validation", 2, (25, 26))
    assert "another label" not in found.message
    assert only(check(task, test=known), "in_train_too").split == "test"


def test_a_shared_row_with_another_label_is_told_apart():
    known = [("text number 4 in column 0", 0), ("text number 6 in column 0", 1)]
    found = only(check(OWN, validation=known), "in_train_too")
    assert found.message == "2 rows with a text that is in train too (1 with another label)"


def test_a_row_of_an_unlabelled_test_split_that_train_has_is_found():
    task = OWN
    raw = make_raw(task, clean(task, 0), clean(task, 100), [("text number 4 in column 0", None)])
    found = only(check_data(raw, task, quick=True), "in_train_too")
    assert (found.split, found.rows) == ("test", (0,))


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (("pos", "pos "), True),
        (("pos", "Pos"), True),
        (("not ok", "notok"), True),
        (("pos", "post"), False),
    ],
)
def test_labels_that_differ_only_by_case_or_space_are_found(names, alike):
    findings = check(make_task(label_names=names))
    if alike:
        assert repr(names[1]) in only(findings, "label_spelling").message
    else:
        assert not findings.found


@pytest.mark.parametrize(("num_rows", "few"), [(9, True), (10, False)])
def test_a_class_with_few_rows_is_found(num_rows, few):
    task = make_task(label_names=("no", "yes", "rare"))
    train = [(f"w{row}", row % 2) for row in range(24)] + [(f"x{r}", 2) for r in range(num_rows)]
    raw = make_raw(task, train, clean(task, 100))
    findings = check_data(raw, task, quick=True)
    if few:
        assert "rare (9)" in only(findings, "few_rows").message
    else:
        assert not findings.found


def test_a_class_that_train_lacks_is_found_with_its_rows():
    task = make_task(label_names=("no", "yes", "new"))
    rows = [(f"w{row}", row % 2) for row in range(24)]
    other = [("v0", 2), ("v1", 0), ("v2", 2), ("v3", 1)]
    found = only(check_data(make_raw(task, rows, other), task, quick=True), "label_not_in_train")
    assert (found.split, found.rows) == ("validation", (0, 2))
    assert "(new)" in found.message


def test_a_class_that_only_train_has_is_found():
    task = make_task(label_names=("no", "yes", "old"))
    raw = make_raw(task, clean(task, 0, 36), [("v0", 0), ("v1", 1)])
    found = only(check_data(raw, task, quick=True), "label_only_in_train")
    assert (found.split, found.message) == ("validation", "no row has these labels of train: old")


def test_labels_of_a_multi_label_task_are_counted_one_by_one():
    task = make_task(MULTI, ("a", "b", "new"))
    train = [(f"w{row}", [1, row % 2, 0]) for row in range(18)]
    raw = make_raw(task, train, [("v0", [1, 1, 0]), ("v1", [1, 0, 1])])
    found = kinds(check_data(raw, task, quick=True))
    assert found.keys() == {"few_rows", "label_not_in_train"}
    assert "b (9)" in found["few_rows"].message
    assert found["label_not_in_train"].rows == (1,)


def misread(text, encoding):
    """UTF-8 read in another encoding; five bytes are no character of Windows-1252."""
    return text.encode("utf-8").decode(encoding, "replace").replace("\ufffd", "")


@pytest.mark.parametrize(
    "text",
    [
        "a caf\ufffd",
        *(misread(text, "latin-1") for text in ["café", "Zürich", "Ελλάδα", "привет"]),
        *(misread(text, "cp1252") for text in ["café", "it\u2019s", "mañana", "aquí", "50 £"]),
        *(misread(text, "cp1252") for text in ["한국말은 좋다", "😀 smile", "a\u00a0b"]),
        "a\x93quote\x94",
        "다시 올게요".encode("cp949").decode("latin-1"),
        "你好很高兴".encode("gbk").decode("latin-1"),
        "добрый день".encode("cp1251").decode("latin-1"),
    ],
)
def test_a_wrong_encoding_is_found(text):
    found = kinds(check(OWN, train=[("x" * 50 + text + "y" * 50, 0)], quick=False))
    assert found["wrong_encoding"].rows == (24,)
    assert "\x93" not in str(found["wrong_encoding"])


@pytest.mark.parametrize(
    "text",
    [
        "Un été à Paris, voilà « ça » ; là\u00a0» et ÉCOLE…",
        "L\u2019ESPAÑA” “CAFÉ” “IRMÃ” MAÇÃ… CORAÇÃO — ÂNGELA",
        "Straße, Größe, Ärger, naïve, ångström, smørrebrød, Łódź, Đặng",
        "Það er góð veðrátta, jääähyväiset, ÄÄÄÄÄ! ¡¿Él·lo?! ········ »»»»»» °°°°°°",
        "«Привет», — сказал он… Ελλάδα; “Καλημέρα”",
        "한국말은 “좋다”, 日本語のテキスト、中文。😀 20 °C ½ €5 £3 ©®™",
    ],
)
def test_good_text_of_any_language_is_not_taken_for_a_wrong_encoding(text):
    assert not check(OWN, train=[(text, 0)], quick=False).warnings


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f"])
def test_a_control_character_is_found_and_escaped(character):
    findings = check(OWN, train=[(f"red {character}[31m alert", 0)], quick=False)
    found = kinds(findings)["control_character"]
    assert found.rows == (24,)
    assert f"{ord(character):02x}" in found.message
    assert all(line.isprintable() for line in findings.lines())


@pytest.mark.parametrize(
    "text", ["one<br />two", "salt &amp; pepper", "<a href='x'>y</a>", "&#39;"]
)
def test_html_is_found(text):
    found = kinds(check(OWN, train=[(text, 0)], quick=False))["html"]
    assert found.rows == (24,)
    assert found.message.startswith("1 row with HTML tags or entities in text, as in '")


@pytest.mark.parametrize("text", ["a < b > c", "R&D; AT&T", "<3 <user> <URL>", "x <- y; i<p"])
def test_other_brackets_and_ampersands_are_no_html(text):
    assert not check(OWN, train=[(text, 0)], quick=False).warnings


def test_line_breaks_and_tabs_are_no_control_characters():
    assert not check(OWN, train=[("one\r\n\ttwo", 0)], quick=False).warnings


def test_names_from_the_data_are_printed_escaped():
    task = make_task(label_names=("a\x1b[31m", "b\nnote  c", "B\nnote  c"))
    task = Task("own\x1b[2J", ("te\x07xt",), task.label_names, ("accuracy",))
    findings = check(task, train=[("", 0), ("a\x00", 1)], quick=False)
    assert len(findings.found) >= 3
    assert all(line.isprintable() for line in findings.lines())


TRAIN, VALIDATION = clean(OWN, 0), clean(OWN, 100)


@pytest.mark.parametrize(
    ("task", "train", "validation", "kind"),
    [
        (OWN, [], VALIDATION, "no_rows"),
        (OWN, TRAIN, [], "no_rows"),
        (OWN, [("a", 1), ("b", 1)], VALIDATION, "one_label"),
        (OWN, [("", 1), (" ", 0)], VALIDATION, "only_empty_texts"),
        (PAIR, [("", "", 1), (" ", "", 0)], clean(PAIR, 1), "only_empty_texts"),
        (make_task(REGRESSION), [("a", 2.5), ("b", 2.5)], [("c", 1.0)], "one_label"),
        (make_task(MULTI), [("a", [0, 1]), ("b", [0, 1])], [("c", [0, 1])], "one_label"),
        (OWN, [("a", None), ("b", None)], VALIDATION, "no_labels"),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_what_makes_training_impossible_is_an_error(task, train, validation, kind, quick):
    findings = check_data(make_raw(task, train, validation), task, quick=quick)
    assert [finding.kind for finding in findings.errors] == [kind]
    assert findings.found[0].severity == "error", "errors come first"
    assert not findings.baselines
    assert any(line.startswith("error ") for line in findings.lines())
    json.dumps(findings.to_dict(), allow_nan=False)


def test_two_empty_texts_beside_others_make_training_no_less_possible():
    assert not check(OWN, train=[("", 0)]).errors
    assert not check(PAIR, train=[("", "b", 0), ("a", "", 1)]).errors


def test_at_most_five_rows_are_named_and_all_are_counted():
    findings = check(OWN, train=[("", 0)] * 8)
    found = only(findings, "empty_text")
    assert (found.count, found.rows) == (8, (24, 25, 26, 27, 28))
    assert found.shown == "rows 25, 26, 27, 28, 29 (+3 more)"


def test_rows_are_shown_as_the_caller_shows_them():
    asked = []

    def show(split, rows):
        asked.append((split, list(rows)))
        return "line 99"

    assert only(check(OWN, train=[("", 0)] * 7, show=show), "empty_text").shown == "line 99"
    assert asked == [("train", list(range(24, 31)))], "all rows, so that it can count them"


def test_rows_keep_the_numbers_of_their_source():
    task = OWN
    raw = make_raw(task, [*clean(task, 0), ("", 0), ("", 1)], clean(task, 100))
    raw["train"] = raw["train"].select([25, *range(20), 24])
    assert only(check_data(raw, task, quick=True), "empty_text").rows == (25, 24)


def test_the_summary_counts_rows_labels_and_lengths():
    raw = make_raw(OWN, [("ab", 0), ("abcd", 1), ("abcdef", 1), ("é", 1)], [("abc", 0)])
    train = check_data(raw, OWN, quick=True).splits["train"]
    assert train.rows == 4
    assert train.labels == {"no": {"rows": 1, "share": 0.25}, "yes": {"rows": 3, "share": 0.75}}
    assert train.characters["text"] == {
        "min": 1,
        "median": 3,
        "mean": 13 / 4,
        "percentile_95": pytest.approx(np.percentile([2, 4, 6, 1], 95)),
        "max": 6,
    }


def test_the_values_of_a_regression_are_described():
    summary = check(ALL_TASKS["regression"]).splits["train"]
    assert summary.labels is None
    assert summary.target["max"] == pytest.approx(2.3)
    assert summary.target["median"] == pytest.approx(1.15)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(str(tiny_model))


@pytest.mark.parametrize("task", [OWN, PAIR], ids=["single", "pair"])
@pytest.mark.parametrize("max_length", [None, 8, 9])
def test_tokens_are_those_of_the_model_before_they_are_cut(tokenizer, task, max_length):
    texts = ["the cat " * times for times in (1, 2, 3, 40)]
    train = [(*[text] * len(task.text_columns), row % 2) for row, text in enumerate(texts)]
    raw = make_raw(task, train, clean(task, 100))
    findings = check_data(raw, task, tokenizer=tokenizer, max_length=max_length)
    lengths = [len(tokenizer(*row[:-1])["input_ids"]) for row in train]
    limit = max_length or MODEL_LIMIT
    tokens = findings.splits["train"].tokens
    assert (tokens["min"], tokens["max"]) == (min(lengths), max(lengths))
    assert findings.splits["train"].truncated == np.mean([length > limit for length in lengths])
    assert findings.max_length == limit
    assert any(f"cut at {limit} tokens: train" in line for line in findings.lines())


def test_no_share_is_cut_where_the_tokenizer_has_no_limit():
    class Endless:
        model_max_length = 10**30

        def __call__(self, texts, truncation, verbose):
            return {"input_ids": [text.split() for text in texts]}

    findings = check(OWN, tokenizer=Endless(), quick=False)
    assert findings.max_length is None
    assert findings.splits["train"].tokens["max"] == 6
    assert findings.splits["train"].truncated is None


def word_decides(task, num_rows, start=0):
    """Rows whose label is the word "good", and for a multi-label task "big" too."""
    draw = np.random.default_rng(start)
    rows = []
    for row in range(start, start + num_rows):
        good, big = draw.random(2) < (0.4, 0.3)
        text = f"it is {'good' if good else 'bad'} {'big' if big else 'small'} number {row}"
        label = {SINGLE: int(good), MULTI: [good, big], REGRESSION: good * 2.0}[task.problem_type]
        rows.append((text, label))
    return rows


def test_the_baselines_are_scored_on_validation():
    train, validation = word_decides(OWN, 200), word_decides(OWN, 100, start=1000)
    majority = np.zeros(100)
    references = [label for _, label in validation]
    baselines = check_data(make_raw(OWN, train, validation), OWN).baselines
    assert list(baselines) == ["most frequent label", "TF-IDF + logistic regression"]
    constant, linear = baselines.values()
    assert constant["accuracy"] == accuracy_score(references, majority)
    assert constant["f1_macro"] == f1_score(references, majority, average="macro")
    assert linear["accuracy"] == 1.0


def test_a_multi_label_task_has_baselines():
    task = make_task(MULTI, ("good", "big"))
    raw = make_raw(task, word_decides(task, 200), word_decides(task, 100, start=1000))
    constant, linear = check_data(raw, task).baselines.values()
    labels = np.array(raw["validation"]["label"])
    assert constant["accuracy"] == (labels == 0).all(axis=1).mean(), "no label is in most rows"
    assert linear["accuracy"] > 0.95
    assert linear["f1_micro"] > 0.95


def test_a_regression_has_baselines():
    task = ALL_TASKS["regression"]
    raw = make_raw(task, word_decides(task, 200), word_decides(task, 100, start=1000))
    baselines = check_data(raw, task).baselines
    assert list(baselines) == ["mean", "TF-IDF + ridge"]
    constant, linear = baselines.values()
    values, mean = np.array(raw["validation"]["label"]), np.mean(raw["train"]["label"])
    assert constant["rmse"] == pytest.approx(np.sqrt(((values - mean) ** 2).mean()))
    assert constant["mae"] == pytest.approx(abs(values - mean).mean())
    assert linear["r2"] > 0.9


@pytest.mark.parametrize("label_names", [("a",), ("a", "b", "never", "always")])
def test_a_label_of_no_row_or_of_every_row_has_a_baseline(label_names):
    task = make_task(MULTI, label_names)
    labels = [[row % 2, (row + 1) % 2, 0, 1][: len(label_names)] for row in range(24)]
    rows = [(f"{'xy'[row % 2]} w{row}", label) for row, label in enumerate(labels)]
    raw = make_raw(task, rows, [(f"{text} v", label) for text, label in rows])
    linear = check_data(raw, task).baselines["TF-IDF + logistic regression"]
    assert linear["accuracy"] == 1.0


def test_texts_without_a_word_have_no_words_to_count():
    rows = [("\U0001f44d" * (row + 1), row % 2) for row in range(24)]
    other = [("!" * (row + 1), row % 2) for row in range(24)]
    findings = check_data(make_raw(OWN, rows, other), OWN)
    assert list(findings.baselines) == ["most frequent label"]
    assert "no_baseline" in kinds(findings)


def test_each_letter_of_a_text_without_spaces_is_a_word():
    rows = [(f"这是{'好' if row % 2 else '坏'}的第{row}个", row % 2) for row in range(60)]
    raw = make_raw(OWN, rows[:40], rows[40:])
    assert check_data(raw, OWN).baselines["TF-IDF + logistic regression"]["accuracy"] == 1.0


def test_what_the_baseline_cannot_do_or_leaves_out_is_said(monkeypatch):
    assert "pairs_joined" in kinds(check(PAIR, quick=False))
    monkeypatch.setattr("plainloop.data.quality.baselines.MOST_BASELINE_ROWS", 20)
    found = kinds(check(OWN, quick=False))["baseline_sample"]
    assert found.message == "the baselines use 20 random rows of 24"
    assert MOST_BASELINE_ROWS == 20_000


def test_the_same_data_give_the_same_findings(monkeypatch):
    monkeypatch.setattr("plainloop.data.quality.baselines.MOST_BASELINE_ROWS", 20)
    assert check(OWN, quick=False) == check(OWN, quick=False)


def test_quick_counts_no_tokens_and_fits_nothing(tokenizer):
    findings = check(OWN, train=[("caf\ufffd", 0)], tokenizer=tokenizer)
    assert not findings.found
    assert not findings.baselines
    assert findings.splits["train"].tokens is None


def test_check_json_has_rows_from_zero_and_as_they_are_shown():
    findings = check(PAIR, train=[("", "b", 0)], quick=False)
    written = json.loads(json.dumps(findings.to_dict(), allow_nan=False))
    assert list(written) == ["task", "problem_type", "max_length", "splits", "baselines", "found"]
    assert written["splits"]["train"]["labels"]["no"] == {"rows": 13, "share": 13 / 25}
    assert written["found"][0] == {
        "kind": "empty_text",
        "severity": "warning",
        "message": "1 row with an empty text",
        "split": "train",
        "count": 1,
        "rows": [24],
        "shown": "row 25",
    }


@given(
    st.lists(
        st.tuples(st.sampled_from(["", " ", "a", "b", " b", "c"]), st.integers(0, 1)), max_size=12
    ),
    st.lists(
        st.tuples(st.sampled_from(["", "a", "b", "d"]), st.integers(0, 1)), min_size=1, max_size=6
    ),
)
def test_counts_are_those_of_plain_python(train, validation):
    train = [("x", 0), ("y", 1), *train]
    found = {
        (finding.split, finding.kind): finding.count
        for finding in check_data(make_raw(OWN, train, validation), OWN, quick=True).warnings
    }
    texts = [text.strip() for text, _ in train]
    labels_of = {text: {label for t, label in train if t.strip() == text} for text in texts}
    expected = {
        "empty_text": texts.count(""),
        "duplicate_text": sum(bool(text) and text in texts[:i] for i, text in enumerate(texts)),
        "contradicting_labels": sum(bool(text) and len(labels_of[text]) > 1 for text in texts),
    }
    for kind, count in expected.items():
        assert found.get(("train", kind), 0) == count, kind
    shared = sum(bool(text) and text in texts for text, _ in validation)
    assert found.get(("validation", "in_train_too"), 0) == shared


@pytest.mark.parametrize("num_chunks", [1, 250])  # a csv file is read in chunks
def test_the_quick_part_calls_nothing_row_by_row(num_chunks):
    draw = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(2000)])
    texts = [" ".join(words[row]) for row in draw.integers(0, 2000, (110_000, 15))]
    rows = [
        (text, int(label)) for text, label in zip(texts, draw.integers(0, 2, 110_000), strict=True)
    ]
    raw = make_raw(OWN, rows[:100_000], rows[100_000:])
    parts = [raw["train"].shard(num_chunks, number) for number in range(num_chunks)]
    raw["train"] = concatenate_datasets(parts)
    with cProfile.Profile() as profile:
        check_data(raw, OWN, quick=True)
    # So that 100,000 rows take less than a second, on any machine.
    assert pstats.Stats(profile).total_calls < 50_000


def test_checking_imports_no_torch():
    script = (
        "import sys\n"
        "from plainloop.data.quality.summary import check_data\n"
        "from plainloop.data.glue import read_splits\n"
        "from plainloop.config.tasks import get_task\n"
        "task = get_task('demo')\n"
        "list(check_data(read_splits(task), task).lines())\n"
        "assert 'sklearn' in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_nothing_is_wrong_with_the_embedded_samples():
    task = get_task("demo")
    findings = check_data(read_splits(task), task)
    assert [finding.kind for finding in findings.found] == ["pairs_joined"]


def test_the_real_files_have_what_is_known_of_them(glue):
    mrpc, cola = get_task("mrpc"), get_task("cola")
    found = check_data(read_splits(mrpc, glue), mrpc, quick=True)
    assert found.splits["train"].labels["equivalent"]["rows"] == 2474
    assert not found.found
    found = check_data(read_splits(cola, glue), cola)
    rows = read_splits(cola, glue)["train"].to_list()
    shown = next(f for f in found.found if (f.split, f.kind) == ("train", "contradicting_labels"))
    first = [rows[row] for row in shown.rows[:2]]
    assert first[0]["sentence"].strip() == first[1]["sentence"].strip()
    assert first[0]["label"] != first[1]["label"]
    majority = found.baselines["most frequent label"]
    assert majority["accuracy"] == pytest.approx(721 / 1043)
    assert majority["matthews_correlation"] == 0


def of_kind(findings, kind):
    return [finding for finding in findings.found if finding.kind == kind]


def test_a_premise_that_many_pairs_share_is_found_with_the_flag():
    task = make_task(columns=("text", "text_pair"))
    rows = [(f"premise {n // 4}", f"hypothesis {n}", n // 2 % 2) for n in range(48)]
    raw = make_raw(task, rows[:40:2] + rows[40:44], rows[1:40:2] + rows[44:])
    pair = ("premise", "hypothesis")
    [found] = of_kind(check_data(raw, task, quick=True, pair=pair), "shared_side")
    assert (found.split, found.count) == ("validation", 20)
    assert "20 rows with a premise that train has in another pair" in str(found)
    assert str(found).endswith("--group-column premise separates them")
    assert not of_kind(check_data(raw, task, quick=True), "shared_side")


def test_targets_far_from_a_new_heads_outputs_are_found_with_the_lines_that_standardise():
    task = make_task(REGRESSION)
    rows = [(f"text number {n}", 270_000.0 + 1000 * (n % 2)) for n in range(24)]
    [found] = of_kind(check(task, rows[:20], rows[20:]), "target_scale")
    assert found.severity == "warning"
    wanted = "mean, deviation = "
    assert wanted in found.message
    assert "; target = (target - mean) / deviation" in found.message
    small = [(text, target / 100_000) for text, target in rows]
    assert not of_kind(check(task, small[:20], small[20:]), "target_scale")
