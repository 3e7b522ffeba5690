"""Bag-of-words baselines of the embedded data: words, shared and unshared words, overlap."""

import re
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from plainloop.config.tasks import get_task
from plainloop.data.glue import SAMPLES_DIR, read_glue_tsv

TASK = get_task("demo")
FEATURES = ("words", "shared and unshared words", "overlap")


def rows(split: str) -> dict[str, list[Any]]:
    return read_glue_tsv(SAMPLES_DIR / f"{split}.tsv", TASK).to_pydict()


def pairs(split: str) -> list[tuple[str, str]]:
    return list(zip(rows(split)["sentence1"], rows(split)["sentence2"], strict=True))


def overlap(split: str) -> np.ndarray:
    """Shared share of the words, and the lengths: what else a bag of words could show."""
    bags = [
        [set(re.findall(r"\w+", sentence.lower())) for sentence in pair] for pair in pairs(split)
    ]
    return np.array(
        [[len(a & b) / len(a | b), len(a) + len(b), abs(len(a) - len(b))] for a, b in bags]
    )


def bag_of_words_accuracy(vectorizer: CountVectorizer, features: str) -> float:
    """Accuracy on the validation rows of a logistic regression fitted on the training rows."""
    vectorizer.fit([" ".join(pair) for pair in pairs("train")])

    def matrix(split: str) -> Any:
        if features == "words":
            return vectorizer.transform([" ".join(pair) for pair in pairs(split)])
        if features == "overlap":
            return overlap(split)
        one, two = (vectorizer.transform(rows(split)[name]) for name in TASK.text_columns)
        return sparse.hstack([abs(one - two), one.multiply(two), overlap(split)]).tocsr()

    model = LogisticRegression(max_iter=5000).fit(matrix("train"), rows("train")["label"])
    return float(model.score(matrix("validation"), rows("validation")["label"]))


def best_accuracy() -> float:
    """The best of all of them."""
    return max(
        bag_of_words_accuracy(vectorizer, features)
        for vectorizer in (CountVectorizer(), TfidfVectorizer())
        for features in FEATURES
    )
