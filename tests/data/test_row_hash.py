"""A split's SHA-256: of its rows in their order, whatever their chunks, and without a copy of them."""

from itertools import pairwise

import pyarrow as pa
import pytest
from datasets import Dataset, concatenate_datasets
from hypothesis import given, strategies as st

from plainloop.data import row_hash
from plainloop.data.row_hash import hash_rows

ROWS = {"text": ["a cat", "ein Hund", "猫"], "label": [0, 1, 1]}


@pytest.fixture
def rows():
    return Dataset.from_dict(ROWS)


def test_runs_of_earlier_versions_know_their_rows_again(rows):
    assert hash_rows(rows) == "29eb59171194175d1344d99654f6758c1568c2d1b7130d99b7bfcdc2d911f8d0"


def test_chunks_and_a_choice_of_rows_do_not_matter_but_rows_and_their_order_do(rows):
    parts = [rows.select([0]), rows.select([1, 2])]
    assert hash_rows(concatenate_datasets(parts)) == hash_rows(rows)
    assert hash_rows(concatenate_datasets([rows, rows]).select([0, 1, 5])) == hash_rows(rows)
    assert hash_rows(rows.select([1, 0, 2])) != hash_rows(rows)
    assert hash_rows(Dataset.from_dict({**ROWS, "label": [0, 1, 0]})) != hash_rows(rows)


@given(
    texts=st.lists(st.text(max_size=5), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
def test_blocks_are_the_same_whatever_the_chunks_of_the_table(texts, cuts):
    columns = {"text": texts, "label": [[float(len(text)), 1.0] for text in texts]}
    whole = Dataset.from_dict(columns)
    edges = sorted({0, len(texts), *(cut for cut in cuts if cut < len(texts))})
    parts = [whole.select(range(*edge)) for edge in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_hash, "ROWS_HASHED_TOGETHER", 7)
        digest = hash_rows(whole)
        assert hash_rows(concatenate_datasets(parts)) == digest
        assert hash_rows(Dataset.from_dict({**columns, "text": [*texts[:-1], "another"]})) != digest


@pytest.mark.parametrize("chunks", [1, 50])
def test_the_rows_are_not_copied_to_be_hashed(chunks):
    part = Dataset.from_dict({"text": ["0123456789" * 10] * (400_000 // chunks)})
    rows = concatenate_datasets([part] * chunks)
    pool = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(pool)
    pa.set_memory_pool(counted)
    try:
        hash_rows(rows)
    finally:
        pa.set_memory_pool(pool)
    assert counted.max_memory() < 0.1 * rows.data.nbytes
