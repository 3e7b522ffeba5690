"""What is wrong with the rows, the labels and the characters of a data set."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plainloop.config.tasks import Task
from plainloop.errors import printable

if TYPE_CHECKING:
    from datasets import DatasetDict

Severity = Literal["error", "warning", "note"]
ShowRows = Callable[[str, Sequence[int]], str]

MOST_SHOWN = 5
FEW_ROWS = 10
CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"
# UTF-8 read as Windows-1252 or Latin-1: what its bytes 0x80 to 0xBF become, and of these what may
# also close a word in good text, such as a quote after an upper-case letter.
AFTER_FIRST = bytes(range(0x80, 0xC0)).decode("cp1252", "ignore")
CLOSING = "…\u2019”\u2013—™\u203a»®°ª\u00a0"
WRONG_ENCODING = "|".join(
    [
        "[\ufffd\u0080-\u009f]",
        f"[ÂÃ][{''.join(sorted(set(AFTER_FIRST) - set(CLOSING)))}]",
        f"(?:^|\\P{{Lu}})[ÂÃ][{CLOSING}]",
        "â€|ðŸ|ï»¿|ï¿½",
        f"(?:[Ä-ß][{AFTER_FIRST}]){{3}}",
        f"(?:[à-ï][{AFTER_FIRST}]{{2}}){{2}}",
    ]
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        kind: a stable name, such as "duplicate_text".
        severity: error (training is impossible), warning, or note.
        message: one printable line, without the split and the rows.
        split: where it is; None where it is about the data set as a whole.
        count: how many rows have it.
        rows: `idx` of the first of these rows, from 0.
        shown: these rows as a person finds them, such as "rows 5, 9" (from 1).
    """

    kind: str
    severity: Severity
    message: str
    split: str | None = None
    count: int = 0
    rows: tuple[int, ...] = ()
    shown: str = ""

    def __str__(self) -> str:
        before = f"{self.split}: " if self.split else ""
        return f"{before}{self.message}" + (f": {self.shown}" if self.shown else "")


@dataclass(frozen=True)
class Split:
    """One split as arrays of one entry a row.

    Attributes:
        name: train, validation, ...
        texts: a column of large strings for each text column.
        trimmed: the same without the white space around each text; this is what is compared.
        idx: each row's number in its source, int64.
        labels: int64 numbers, float32 targets, multi-hot (rows, num_labels); None: no labels.
        text_codes: int64; rows of any split with equal texts have equal codes.
        row_codes: the same for texts and labels together; None: no labels.
        empty: whether all of a row's texts are empty.
    """

    name: str
    texts: tuple[pa.ChunkedArray, ...]
    trimmed: tuple[pa.ChunkedArray, ...]
    idx: NDArray[np.int64]
    labels: NDArray[Any] | None
    text_codes: NDArray[np.int64]
    row_codes: NDArray[np.int64] | None
    empty: NDArray[np.bool_]


def read_arrays(raw: "DatasetDict", task: Task) -> list[Split]:
    """The raw splits as arrays, texts and labels numbered across all of them."""
    names = list(raw)
    tables = [raw[name].with_format("arrow")[:] for name in names]
    # Large strings, as the texts of all splits together may be above the 2 GB of the small ones.
    texts = [
        tuple(table[column].cast(pa.large_string()) for column in task.text_columns)
        for table in tables
    ]
    trimmed = [tuple(map(pc.utf8_trim_whitespace, columns)) for columns in texts]
    labels = [
        _labels_of(table["label"], task) if "label" in table.column_names else None
        for table in tables
    ]
    text_codes = _number_texts(trimmed)
    row_codes = _number_rows(text_codes, labels)
    return [
        Split(
            name=names[i],
            texts=texts[i],
            trimmed=trimmed[i],
            idx=tables[i]["idx"].to_numpy().astype(np.int64),
            labels=labels[i],
            text_codes=text_codes[i],
            row_codes=row_codes[i],
            empty=np.logical_and.reduce([_is_empty(column) for column in trimmed[i]]),
        )
        for i in range(len(names))
    ]


def _labels_of(column: pa.ChunkedArray, task: Task) -> NDArray[Any]:
    if task.problem_type == "multi_label_classification":
        flat = pc.list_flatten(column).to_numpy()
        return np.asarray(flat.reshape(len(column), len(task.label_names)))
    return np.asarray(column.to_numpy())


def _number_texts(splits: Sequence[tuple[pa.ChunkedArray, ...]]) -> list[NDArray[np.int64]]:
    lengths = [len(columns[0]) for columns in splits]
    codes = np.zeros(sum(lengths), np.int64)
    for column in zip(*splits, strict=True):
        chunks = [chunk for split in column for chunk in split.chunks]
        # Unifying the dictionaries of many chunks instead takes the square of their number.
        whole = pa.chunked_array(chunks, pa.large_string()).combine_chunks()
        numbers = pc.dictionary_encode(whole).indices.to_numpy()
        codes = np.unique(codes * (len(codes) + 1) + numbers, return_inverse=True)[1]
    return np.split(codes.astype(np.int64), np.cumsum(lengths)[:-1])


def _number_rows(
    text_codes: Sequence[NDArray[np.int64]], labels: Sequence[NDArray[Any] | None]
) -> list[NDArray[np.int64] | None]:
    given = [found for found in labels if found is not None]
    if not given:
        return [None] * len(labels)
    whole = np.concatenate(given)
    if whole.ndim > 1:
        whole = np.packbits(whole > 0, axis=1)
    unique, codes = np.unique(whole, axis=0, return_inverse=True)
    parts = iter(np.split(codes.reshape(-1), np.cumsum(list(map(len, given)))[:-1]))
    return [
        None if found is None else texts * len(unique) + next(parts)
        for texts, found in zip(text_codes, labels, strict=True)
    ]


def _is_empty(trimmed: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.equal(pc.binary_length(trimmed), 0).to_numpy())


def at_rows(
    kind: str, what: str, split: Split, rows: NDArray[np.int64], *, show: ShowRows
) -> Finding:
    """A warning about the rows at these positions of the split: "12 rows" and what they have."""
    idx = split.idx[rows].tolist()
    message = f"{len(idx)} row{'s' * (len(idx) > 1)} {what}"
    shown = show(split.name, idx)
    return Finding(kind, "warning", message, split.name, len(idx), tuple(idx[:MOST_SHOWN]), shown)


def find_in_texts(splits: Sequence[Split], task: Task, show: ShowRows) -> Iterator[Finding]:
    """Empty texts, equal pairs, duplicates, contradictions, and rows that train shares.

    Texts are compared without the white space around them. An empty text is reported once, as such.
    """
    train = next(split for split in splits if split.name == "train")
    for split in splits:
        for column, texts in zip(task.text_columns, split.trimmed, strict=True):
            if len(rows := np.flatnonzero(_is_empty(texts))):
                message = f"with an empty {printable(column)}"
                yield at_rows("empty_text", message, split, rows, show=show)
        if len(task.text_columns) > 1:
            equal = pc.equal(*split.trimmed).to_numpy() & ~split.empty
            if len(rows := np.flatnonzero(equal)):
                message = "with both texts equal"
                yield at_rows("equal_pair", message, split, rows, show=show)
        repeats = ~split.empty
        repeats[np.unique(split.text_codes, return_index=True)[1]] = False
        if len(rows := np.flatnonzero(repeats)):
            message = "with the text of an earlier row"
            yield at_rows("duplicate_text", message, split, rows, show=show)
        yield from _find_contradictions(split, show)
        yield from _find_shared(train, split, show)


def _find_contradictions(split: Split, show: ShowRows) -> Iterator[Finding]:
    if split.row_codes is None:
        return
    one_of_each = np.unique(split.row_codes, return_index=True)[1]
    texts, num_labels = np.unique(split.text_codes[one_of_each], return_counts=True)
    rows = np.flatnonzero(np.isin(split.text_codes, texts[num_labels > 1]) & ~split.empty)
    if len(rows):
        # The rows of one text side by side, the texts in the order of their first row.
        found, first, place = np.unique(
            split.text_codes[rows], return_index=True, return_inverse=True
        )
        rows = rows[np.argsort(first[place], kind="stable")]
        message = f"with a text that has several labels ({len(found)} texts)"
        yield at_rows("contradicting_labels", message, split, rows, show=show)


def _find_shared(train: Split, split: Split, show: ShowRows) -> Iterator[Finding]:
    shared = np.isin(split.text_codes, train.text_codes) & ~split.empty
    if split is train or not shared.any():
        return
    message = "with a text that is in train too"
    if split.row_codes is not None and train.row_codes is not None:
        other = np.count_nonzero(shared & ~np.isin(split.row_codes, train.row_codes))
        message += f" ({other} with another label)" if other else ""
    yield at_rows("in_train_too", message, split, np.flatnonzero(shared), show=show)


def find_in_labels(splits: Sequence[Split], task: Task, show: ShowRows) -> Iterator[Finding]:
    """Names that look alike, and classes that are rare, or missing in a split."""
    groups = defaultdict(list)
    for name in task.label_names:
        groups["".join(name.split()).casefold()].append(repr(name))
    for names in groups.values():
        if len(names) > 1:
            message = f"labels differ only by case or space: {_list(names)}"
            yield Finding("label_spelling", "warning", message)
    labelled = {split.name: split for split in splits if split.labels is not None}
    if task.problem_type == "regression" or "train" not in labelled:
        return

    def names_where(found: NDArray[np.bool_]) -> str:
        return _list([task.label_names[label] for label in np.flatnonzero(found)])

    counts = {name: count_labels(split, task) for name, split in labelled.items()}
    in_train = counts.pop("train")
    few = (in_train > 0) & (in_train < FEW_ROWS)
    if few.any():
        found = [f"{task.label_names[i]} ({in_train[i]})" for i in np.flatnonzero(few)]
        message = f"labels with fewer than {FEW_ROWS} rows: {_list(found)}"
        yield Finding("few_rows", "warning", message, "train", int(in_train[few].sum()))
    for name, here in counts.items():
        unknown, absent = (here > 0) & (in_train == 0), (here == 0) & (in_train > 0)
        if unknown.any():
            rows = np.flatnonzero(_has_label(labelled[name], unknown))
            message = f"with labels that train lacks ({names_where(unknown)})"
            yield at_rows("label_not_in_train", message, labelled[name], rows, show=show)
        if absent.any():
            message = f"no row has these labels of train: {names_where(absent)}"
            yield Finding("label_only_in_train", "warning", message, name)


def count_labels(split: Split, task: Task) -> NDArray[np.int64]:
    """How many rows of a labelled split have each label."""
    assert split.labels is not None, split.name  # noqa: S101
    if task.problem_type == "multi_label_classification":
        return np.asarray((split.labels > 0).sum(axis=0), np.int64)
    return np.asarray(np.bincount(split.labels, minlength=len(task.label_names)), np.int64)


def _has_label(split: Split, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    assert split.labels is not None, split.name  # noqa: S101
    if split.labels.ndim == 1:
        return np.asarray(wanted[split.labels])
    return np.asarray((split.labels[:, wanted] > 0).any(axis=1))


def _list(names: Sequence[str]) -> str:
    more = f" (+{len(names) - MOST_SHOWN} more)" if len(names) > MOST_SHOWN else ""
    return ", ".join(printable(name, most=40) for name in names[:MOST_SHOWN]) + more


def find_in_characters(split: Split, task: Task, show: ShowRows) -> Iterator[Finding]:
    """Characters that look like a wrong encoding, and control characters."""
    for kind, pattern, what in (
        ("wrong_encoding", WRONG_ENCODING, "characters of a wrong encoding"),
        ("control_character", CONTROL, "control characters"),
    ):
        for column, texts in zip(task.text_columns, split.texts, strict=True):
            found = pc.match_substring_regex(texts, pattern).to_numpy()
            if len(rows := np.flatnonzero(found)):
                near = f"(?s)(?P<near>.{{0,12}}(?:{pattern}).{{0,12}})"
                first = pc.extract_regex(texts[int(rows[0])], near)["near"].as_py()
                message = f"with {what} in {printable(column)}, as in '{printable(first)}'"
                yield at_rows(kind, message, split, rows, show=show)
