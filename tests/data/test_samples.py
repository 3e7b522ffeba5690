"""The embedded sentence pairs: large enough, labelled alike twice, and no cue in the words."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from plainloop.data.read import SAMPLES_DIR, read_glue_tsv
from plainloop.tasks import get_task

SECOND_LABELS = Path(__file__).parent / "second_labels"
TASK = get_task("demo")
BAG_OF_WORDS_LIMIT = 0.65


def rows(split):
    return read_glue_tsv(SAMPLES_DIR / f"{split}.tsv", TASK).to_pydict()


def test_there_are_enough_rows_half_of_them_paraphrases():
    assert len(rows("train")["label"]) >= 400
    assert len(rows("validation")["label"]) >= 100
    for split in ("train", "validation"):
        assert np.mean(rows(split)["label"]) == pytest.approx(0.5, abs=0.01)


def test_no_sentence_stands_twice():
    sentences = [
        sentence
        for split in ("train", "validation")
        for column in TASK.text_columns
        for sentence in rows(split)[column]
    ]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_second_blind_labelling_agrees(split):
    second = (SECOND_LABELS / f"{split}.tsv").read_text(encoding="utf-8").split()[1:]
    first = rows(split)["label"]
    assert len(second) == len(first)
    agreement = np.mean([int(ours) == theirs for ours, theirs in zip(second, first, strict=True)])
    assert agreement >= 0.95


def words(sentence):
    return set(re.findall(r"\w+", sentence.lower()))


def overlap(split):
    """Shared share of the words, and the lengths: what else a bag of words could show."""
    pairs = [
        (words(a), words(b))
        for a, b in zip(rows(split)["sentence1"], rows(split)["sentence2"], strict=True)
    ]
    return np.array(
        [[len(a & b) / len(a | b), len(a) + len(b), abs(len(a) - len(b))] for a, b in pairs]
    )


@pytest.mark.parametrize(
    "vectorizer", [CountVectorizer(), TfidfVectorizer()], ids=["counts", "tf-idf"]
)
@pytest.mark.parametrize("features", ["words", "shared and unshared words", "overlap"])
def test_a_bag_of_words_cannot_read_the_label(vectorizer, features):
    def both(split):
        return [
            " ".join(pair)
            for pair in zip(rows(split)["sentence1"], rows(split)["sentence2"], strict=True)
        ]

    vectorizer.fit(both("train"))

    def matrix(split):
        if features == "words":
            return vectorizer.transform(both(split))
        if features == "overlap":
            return overlap(split)
        one, two = (vectorizer.transform(rows(split)[name]) for name in TASK.text_columns)
        return sparse.hstack([abs(one - two), one.multiply(two), overlap(split)]).tocsr()

    model = LogisticRegression(max_iter=5000).fit(matrix("train"), rows("train")["label"])
    assert model.score(matrix("validation"), rows("validation")["label"]) < BAG_OF_WORDS_LIMIT
