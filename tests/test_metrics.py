"""Metrics: the formulas, batch by batch or at once."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from plainloop.metrics import METRICS, ClassificationMetric

LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(rows=LABELS)
def test_accuracy_and_f1_are_their_formulas(rows):
    references, predictions = (np.array(column) for column in zip(*rows, strict=True))
    hits = int(((predictions == 1) & (references == 1)).sum())
    wrong = int((predictions != references).sum())
    assert METRICS["accuracy"](references, predictions) == pytest.approx(1 - wrong / len(rows))
    f1 = 2 * hits / (2 * hits + wrong) if 2 * hits + wrong else 0.0
    assert METRICS["f1"](references, predictions) == pytest.approx(f1, abs=1e-12)


@given(rows=LABELS, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_batches_add_up_to_the_whole(rows, cuts):
    references, predictions = (np.array(column) for column in zip(*rows, strict=True))
    whole, parts = (ClassificationMetric(["accuracy", "f1"]) for _ in range(2))
    whole.add_batch(predictions=predictions, references=references)
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    for start, end in pairwise(edges):
        parts.add_batch(predictions=predictions[start:end], references=references[start:end])
    assert parts.compute() == whole.compute()


def test_compute_starts_anew():
    metric = ClassificationMetric(["accuracy"])
    metric.add_batch(predictions=[0, 0], references=[1, 1])
    assert metric.compute() == {"accuracy": 0.0}
    metric.add_batch(predictions=[1], references=[1])
    assert metric.compute() == {"accuracy": 1.0}


def test_nothing_added_and_unequal_lengths_are_errors():
    metric = ClassificationMetric(["accuracy"])
    with pytest.raises(ValueError, match="no batch was added"):
        metric.compute()
    with pytest.raises(ValueError, match="predictions for"):
        metric.add_batch(predictions=[1, 0], references=[1])
