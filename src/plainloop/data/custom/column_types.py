"""What kind of values a column holds: text, numbers, lists, long text, few classes."""

import re
from typing import Any

import numpy as np
import pyarrow as pa

SAMPLE_ROWS = 10_000
LONG_TEXT, MOST_DIGITS = 20, 0.25  # characters on average; share of a text's characters
MOST_LABELS = 100
FEWEST_TEXTS = 5  # fewer different values, each twice on average, are no texts
YES = ("1", "1.0", "true", "wahr", "vrai", "verdadero")  # Excel writes its language's word
NO = ("0", "0.0", "false", "falsch", "faux", "falso")
NUMBER_OR_BOOLEAN = re.compile(r"\s*([+-]?\d*\.?\d+([eE][+-]?\d+)?|true|false)\s*", re.IGNORECASE)


def draw_sample(table: pa.Table) -> pa.Table:
    """At most 10,000 rows, always the same ones, in their order."""
    if table.num_rows <= SAMPLE_ROWS:
        return table
    # At random, as every n-th row might always be of the same class.
    rows = np.random.default_rng(0).choice(table.num_rows, SAMPLE_ROWS, replace=False)
    return table.take(pa.array(np.sort(rows)))


def filled(column: pa.ChunkedArray) -> list[Any]:
    """The values that are neither null nor an empty text."""
    return [value for value in column.to_pylist() if value is not None and value != ""]


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's types of text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's integers, floats or decimals."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def can_be_text(kind: pa.DataType) -> bool:
    """Whether a column of this type may be read as text: it is, or its numbers are written out."""
    return is_text(kind) or is_number(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's lists."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def describe(kind: pa.DataType) -> str:
    """What a column of this type holds, in a word."""
    if is_list(kind):
        return "lists"
    if pa.types.is_nested(kind):
        return "objects"
    if pa.types.is_null(kind):
        return "nothing but null"
    return "text" if is_text(kind) else "numbers" if is_number(kind) else str(kind)


def is_worded(column: pa.ChunkedArray) -> bool:
    """Text that is not only numbers or true and false; also where every text is empty."""
    if not is_text(column.type):
        return False
    texts = filled(column)
    return not texts or not all(map(NUMBER_OR_BOOLEAN.fullmatch, texts))


def has_some_values(column: pa.ChunkedArray) -> bool:
    """At least five different values, or values that are mostly unique."""
    values = filled(column)
    return len(set(map(str, values))) >= min(FEWEST_TEXTS, max(1, len(values) // 2 + 1))


def is_mostly_empty(column: pa.ChunkedArray) -> bool:
    """Whether less than half of the rows have a value."""
    return 2 * sum(str(value).strip() != "" for value in filled(column)) < len(column)


def is_constant(column: pa.ChunkedArray) -> bool:
    """Whether all values are one."""
    return len(set(map(str, filled(column)))) == 1


def is_repeated(column: pa.ChunkedArray) -> bool:
    """Words that are neither constant, mostly unique nor mostly empty."""
    values = filled(column)
    differ = len(set(map(str, values)))
    return is_worded(column) and 1 < differ < 0.9 * len(values) and not is_mostly_empty(column)


def mean_length(column: pa.ChunkedArray) -> float:
    """Characters of a value on average, without the empty ones."""
    values = filled(column)
    return sum(map(len, map(str, values))) / max(1, len(values))


def is_long_text(column: pa.ChunkedArray) -> bool:
    """Long and mostly unique texts: no addresses, codes or dates."""
    texts = filled(column) if is_text(column.type) else []
    size = sum(map(len, texts))
    # Without a space or a letter beyond ASCII it is an address, a file's name or a code.
    worded = sum(not text.isascii() or len(text.split()) > 1 for text in texts)
    digits = sum(character.isdigit() for text in texts for character in text)
    return (
        size > 0
        and size >= LONG_TEXT * len(texts)
        and 2 * len(set(texts)) >= len(texts)
        and 2 * worded >= len(texts)
        and digits < MOST_DIGITS * size
    )


def has_zeros_and_ones(column: pa.ChunkedArray) -> bool:
    """Both 1 and 0, true and false, or 1 and nothing, and no other value."""
    if pa.types.is_nested(column.type):
        return False
    found = column.unique().to_pylist()
    values = {"" if value is None else str(value).strip().lower() for value in found}
    return bool(values & {*YES}) and len(values) > 1 and values <= {*YES, *NO, ""}


def has_few_values(column: pa.ChunkedArray) -> bool:
    """Two to a hundred values, each twice on average, in at least half of the rows."""
    kind = column.type
    if not (is_text(kind) or is_number(kind) or is_list(kind) or pa.types.is_boolean(kind)):
        return False
    rows = filled(column)
    items = (item for row in rows for item in (row if isinstance(row, list) else [row]))
    most = min(MOST_LABELS, max(2, len(rows) // 2))
    return 2 * len(rows) >= len(column) and 1 < len(set(map(str, items))) <= most
