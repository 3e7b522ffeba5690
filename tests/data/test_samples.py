"""The embedded sentence pairs: large enough, labelled alike twice, and no cue in the words."""

from pathlib import Path

import numpy as np
import pytest
from bag_of_words import FEATURES, bag_of_words_accuracy, rows
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from plainloop.config.tasks import get_task

SECOND_LABELS = Path(__file__).parent / "second_labels"
TASK = get_task("demo")
BAG_OF_WORDS_LIMIT = 0.65


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


@pytest.mark.parametrize(
    "vectorizer", [CountVectorizer(), TfidfVectorizer()], ids=["counts", "tf-idf"]
)
@pytest.mark.parametrize("features", FEATURES)
def test_a_bag_of_words_cannot_read_the_label(vectorizer, features):
    assert bag_of_words_accuracy(vectorizer, features) < BAG_OF_WORDS_LIMIT
