"""Baselines to compare a model with: the best constant, and a linear model of TF-IDF features."""

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plainloop.config.tasks import Task
from plainloop.console import progress_bar
from plainloop.data.quality.findings import Finding, Split
from plainloop.metrics.formulas import LABEL_METRICS, VALUE_METRICS
from plainloop.metrics.scorer import Scorer, Scores

MOST_BASELINE_ROWS = 20_000
SEED = 0
BASELINE_METRICS = {
    "single_label_classification": ("accuracy", "f1_macro"),
    "multi_label_classification": ("accuracy", "f1_micro", "f1_macro"),
    "regression": ("rmse", "mae", "r2"),
}
MOST_WORDS = 50_000
# Each Chinese or Japanese character is a word, since these languages put no space between words.
WORD = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+"


def score_baselines(
    train: Split, validation: Split, task: Task
) -> tuple[dict[str, Scores], list[Finding]]:
    """Fit the constant that fits best, and a linear model of TF-IDF; score both on validation.

    Words and pairs of adjacent words in at least two rows, at most 50,000; a pair's texts are
    joined. The linear model is scikit-learn's LogisticRegression, one for each label where a row
    may have several, or Ridge. At most 20,000 rows of each split are used.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer

    notes = []
    if len(train.texts) > 1:
        message = "the TF-IDF baseline joins both texts: it cannot see which words they share"
        notes.append(Finding("pairs_joined", "note", message))
    samples = []
    for split in (train, validation):
        rows = np.arange(len(split.idx))
        if len(rows) > MOST_BASELINE_ROWS:
            draw = np.random.default_rng(SEED)
            rows = np.sort(draw.choice(rows, MOST_BASELINE_ROWS, replace=False))
            message = f"the baselines use {len(rows)} random rows of {len(split.idx)}"
            notes.append(Finding("baseline_sample", "note", message, split.name))
        joined = pc.binary_join_element_wise(*split.texts, pa.scalar(" ", pa.large_string()))
        assert split.labels is not None, split.name  # noqa: S101
        samples.append((joined.take(pa.array(rows)).to_pylist(), split.labels[rows]))
    (texts, labels), (other_texts, references) = samples
    constant, names = (
        DummyClassifier(strategy="most_frequent"),
        ("most frequent label", "logistic regression"),
    )
    if task.problem_type == "regression":
        constant, names = DummyRegressor(), ("mean", "ridge")
    constant.fit(texts, labels)
    scores = {names[0]: score_predictions(references, constant.predict(other_texts), task)}
    # A word of a single row would shrink the others of its row, unlike in the rows of validation.
    words = TfidfVectorizer(
        token_pattern=WORD, ngram_range=(1, 2), min_df=2, max_features=MOST_WORDS, sublinear_tf=True
    )
    bar = progress_bar(total=1, desc="TF-IDF baseline", delay=1)
    with bar:
        try:
            features = words.fit_transform(texts)
        except ValueError:  # scikit-learn's word for an empty vocabulary
            features = None
        if features is None or (labels == labels[0]).all():
            message = "no TF-IDF baseline: no word in two rows, or one label in the rows drawn"
            return scores, [*notes, Finding("no_baseline", "note", message, "train")]
        predictions = predict_linearly(features, labels, words.transform(other_texts), task)
        bar.update()
    return {
        **scores,
        f"TF-IDF + {names[1]}": score_predictions(references, predictions, task),
    }, notes


def predict_linearly(features: Any, labels: NDArray[Any], others: Any, task: Task) -> NDArray[Any]:
    """Fit scikit-learn's LogisticRegression, one for each label of a multi-label task, or Ridge.

    Args:
        features: of the training rows, array or sparse matrix (rows, features).
        labels: of these rows.
        others: features of the rows to predict.
        task: its problem type.

    Returns:
        Predicted labels or values of the other rows, in the form of `labels`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    model: Any = LogisticRegression(max_iter=200)
    if task.problem_type == "multi_label_classification":
        # Here in a third of the default solver's time: 16 s for 20 labels of 20,000 rows.
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear", random_state=SEED))
    elif task.problem_type == "regression":
        model = Ridge()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # good enough for a baseline
        warnings.filterwarnings("ignore", message="Label .* is present in all")
        model.fit(features, labels)
    return np.asarray(model.predict(others))


def score_predictions(references: NDArray[Any], predictions: NDArray[Any], task: Task) -> Scores:
    """Score a baseline's predictions by its own metrics and those of the task that need only labels."""
    named = dict.fromkeys((*BASELINE_METRICS[task.problem_type], *task.metrics))
    names = [name for name in named if name in {*LABEL_METRICS, *VALUE_METRICS}]
    rows = np.reshape(predictions, references.shape)
    return Scorer(names, references, rows, num_labels=task.num_labels).plain_scores()
