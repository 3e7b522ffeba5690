"""Problems in a data set: duplicates, contradictions, rare labels, wrong encodings."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plainloop.config.tasks import Task
from plainloop.data.custom.split import number_texts
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
        # Read as Latin-1: two bytes a character (cp949, gbk), and Cyrillic, of which ð is a frequent letter.
        "[°-¿][À-þ][¡-þ]{4}|[À-þ][°-¿][À-þ][¡-þ]{3}",
        "[À-ÿ]{2}ð[À-ÿ]",
    ]
)


HTML = (
    r"</?(?:a|b|i|p|br|div|em|li|span|strong|td|tr|ul)\b[^<>]{0,200}>"
    r"|&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#x[0-9a-fA-F]{1,5});"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        kind: a stable name, such as "duplicate_text".
        severity: error (training is impossible), warning, or note.
        message: one printable line, without the split and the rows.
        split: the split concerned; None if the finding is about the entire data set.
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
    """One split as arrays with one entry per row.

    Attributes:
        name: train, validation, ...
        texts: a column of large strings for each text column.
        idx: each row's number in its source, int64.
        labels: int64 numbers, float32 targets or multi-hot (rows, num_labels); None: no labels.
    """

    name: str
    texts: tuple[pa.ChunkedArray, ...]
    idx: NDArray[np.int64]
    labels: NDArray[Any] | None

    @cached_property
    def trimmed(self) -> tuple[pa.ChunkedArray, ...]:
        """The texts without surrounding white space, which are the ones that are compared."""
        return tuple(map(pc.utf8_trim_whitespace, self.texts))

    @cached_property
    def empty(self) -> NDArray[np.bool_]:
        """Whether all texts of a row are empty, bool (rows,)."""
        return np.asarray(np.all([_is_empty(column) for column in self.trimmed], axis=0))


class Codes(NamedTuple):
    """Numbers for the rows of a split, comparable across splits.

    Attributes:
        texts: int64 (rows,); rows with equal texts have equal numbers.
        rows: the same for texts and labels together; None: no labels.
    """

    texts: NDArray[np.int64]
    rows: NDArray[np.int64] | None


def read_arrays(raw: "DatasetDict", task: Task) -> list[Split]:
    """The raw splits as arrays."""
    splits = []
    for name in raw:
        table = raw[name].with_format("arrow")[:]
        # Large strings, as the texts of all splits together may exceed the 2 GB of small ones.
        texts = tuple(table[column].cast(pa.large_string()) for column in task.text_columns)
        labels = _labels_of(table["label"], task) if "label" in table.column_names else None
        splits.append(Split(name, texts, table["idx"].to_numpy().astype(np.int64), labels))
    return splits


def _labels_of(column: pa.ChunkedArray, task: Task) -> NDArray[Any]:
    if task.problem_type == "multi_label_classification":
        flat = pc.list_flatten(column).to_numpy()
        return np.asarray(flat.reshape(len(column), len(task.label_names)))
    return np.asarray(column.to_numpy())


def _number_rows(splits: Sequence[Split]) -> list[Codes]:
    """Number the rows of all splits, so that equal texts, and equal rows, are equal numbers."""
    lengths = [len(split.idx) for split in splits]
    columns = zip(*(split.trimmed for split in splits), strict=True)
    codes = number_texts(
        pa.chunked_array([chunk for texts in column for chunk in texts.chunks], pa.large_string())
        for column in columns
    )
    of_texts = np.split(codes, np.cumsum(lengths)[:-1])
    given = [split.labels for split in splits if split.labels is not None]
    if not given:
        return [Codes(texts, None) for texts in of_texts]
    labels = np.concatenate(given)
    if labels.ndim > 1:
        labels = np.packbits(labels > 0, axis=1)
    unique, codes = np.unique(labels, axis=0, return_inverse=True)
    parts = iter(np.split(codes.reshape(-1), np.cumsum(list(map(len, given)))[:-1]))
    return [
        Codes(texts, None if split.labels is None else texts * len(unique) + next(parts))
        for texts, split in zip(of_texts, splits, strict=True)
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
    """Empty texts, equal pairs, duplicates, contradicting labels, and rows that are in train too.

    Texts are compared without surrounding white space. An empty text is reported once, as such.
    """
    all_codes = _number_rows(splits)
    train = next(
        codes for split, codes in zip(splits, all_codes, strict=True) if split.name == "train"
    )
    for split, codes in zip(splits, all_codes, strict=True):
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
        repeats[np.unique(codes.texts, return_index=True)[1]] = False
        if len(rows := np.flatnonzero(repeats)):
            message = "with the text of an earlier row"
            yield at_rows("duplicate_text", message, split, rows, show=show)
        yield from _find_contradictions(split, codes, show)
        if split.name != "train":
            yield from _find_shared(split, codes, train, show)


def _find_contradictions(split: Split, codes: Codes, show: ShowRows) -> Iterator[Finding]:
    if codes.rows is None:
        return
    one_of_each = np.unique(codes.rows, return_index=True)[1]
    texts, num_labels = np.unique(codes.texts[one_of_each], return_counts=True)
    rows = np.flatnonzero(np.isin(codes.texts, texts[num_labels > 1]) & ~split.empty)
    if len(rows):
        # The rows of one text side by side, the texts in the order of their first row.
        found, first, place = np.unique(codes.texts[rows], return_index=True, return_inverse=True)
        rows = rows[np.argsort(first[place], kind="stable")]
        message = f"with a text that has several labels ({len(found)} texts)"
        yield at_rows("contradicting_labels", message, split, rows, show=show)


def _find_shared(split: Split, codes: Codes, train: Codes, show: ShowRows) -> Iterator[Finding]:
    shared = np.isin(codes.texts, train.texts) & ~split.empty
    if not shared.any():
        return
    message = "with a text that is in train too"
    if codes.rows is not None and train.rows is not None:
        other = np.count_nonzero(shared & ~np.isin(codes.rows, train.rows))
        message += f" ({other} with another label)" if other else ""
    yield at_rows("in_train_too", message, split, np.flatnonzero(shared), show=show)


def find_shared_side(
    splits: Sequence[Split], columns: Sequence[str], show: ShowRows
) -> Iterator[Finding]:
    """A text of a pair that most validation rows share with training rows, as premises often are.

    Args:
        splits: train and validation among them.
        columns: the names of both text columns in the file that plainloop split.
        show: see `check_data`.
    """
    by_name = {split.name: split for split in splits}
    train, held_out = by_name["train"], by_name["validation"]
    for number, name in enumerate(columns if len(columns) > 1 else ()):
        shared = pc.is_in(
            held_out.trimmed[number], value_set=train.trimmed[number].combine_chunks()
        )
        rows = np.flatnonzero(shared.to_numpy() & ~held_out.empty)
        if 2 * len(rows) > len(held_out.idx):
            message = f"with a {printable(name)} that train has in another pair"
            found = at_rows("shared_side", message, held_out, rows, show=show)
            yield replace(
                found, shown=f"{found.shown}; --group-column {printable(name)} separates them"
            )


def find_in_labels(splits: Sequence[Split], task: Task, show: ShowRows) -> Iterator[Finding]:
    """Find similar label names, and classes that are rare or missing in a split."""
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
    """Characters that look like a wrong encoding, control characters, and HTML."""
    for kind, pattern, what in (
        ("wrong_encoding", WRONG_ENCODING, "characters of a wrong encoding"),
        ("control_character", CONTROL, "control characters"),
        ("html", HTML, "HTML tags or entities"),
    ):
        for column, texts in zip(task.text_columns, split.texts, strict=True):
            found = pc.match_substring_regex(texts, pattern).to_numpy()
            if len(rows := np.flatnonzero(found)):
                near = f"(?s)(?P<near>.{{0,12}}(?:{pattern}).{{0,12}})"
                first = pc.extract_regex(texts[int(rows[0])], near)["near"].as_py()
                message = f"with {what} in {printable(column)}, as in '{printable(first)}'"
                yield at_rows(kind, message, split, rows, show=show)
