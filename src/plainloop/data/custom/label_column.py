r"""A column of labels as plain values: class names, parsed lists, null for what is no label.

Before labels are numbered:
- the numbers of a `datasets.ClassLabel` become its names, which Arrow and Parquet files hold;
- lists written as text (`['a', 'b']`, `{"choices": ["a"]}`) are lists; lists of one label are classes;
- a row that repeats the header, a row of totals at the end, and a mark that a tool writes for a
  missing value (nan, -, \N, or -1 next to 0 and 1) are not labels: `--on-null drop` leaves them out.
"""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plainloop.data.custom.column_types import NUMBER_OR_BOOLEAN, is_list, is_text
from plainloop.errors import UserError, printable

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType
    from plainloop.data.files.tables import Source

MARKS = frozenset(("nan", "null", "na", "n/a", "<na>", "#n/a", "\\n", "-", "--", "---", "?", "."))
"""What tools write for a missing value, in lower case; and Python's None, but not "none"."""
TOTALS = frozenset(
    "total totals total: sum grand total subtotal summe gesamt somme suma totale 합계 총계".split()  # noqa: SIM905
)
KEPT = ", --problem-type single_label_classification keeps them"
# numpy prints ['a' 'b'], which Python would read as ['ab'].
NO_COMMA = re.compile(r"""['"]\s+['"]""")


def plain_labels(
    source: "Source",
    column: str,
    *,
    problem_type: "ProblemType | None" = None,
    known: Sequence[str] = (),
    drop: bool = False,
) -> "Source":
    """Replace the column of labels by plain values.

    Args:
        source: as read.
        column: the column of labels.
        problem_type: what `--problem-type` says, or the problem type of a run.
        known: the labels of a run or a checkpoint; they are labels, whatever they look like.
        drop: make null what is no label, instead of asking.

    Raises:
        UserError: the user has to choose what labels mean, with the lines and the flag.
    """
    values = source.table[column].combine_chunks()
    several = problem_type == "multi_label_classification"
    values = _named(values, class_label_names(source.table.schema, column), known)
    if is_text(values.type):
        lists = _parse_lists(values, known)
        if lists is not None and (several or _all_single(lists)):
            values = lists
        elif lists is not None and problem_type is None:
            rows = pc.indices_nonzero(pc.greater(pc.list_value_length(lists), 1)).to_pylist()
            text = printable(values[rows[0]].as_py() if rows else values[0].as_py())
            raise UserError(
                f"column {column!r} holds lists written as text, as {text} ({source.show(rows)})",
                where=source.path,
                fix="set --problem-type multi_label_classification for several labels in a row",
            )
    if is_list(values.type) and not several and _all_single(values):
        values = pc.list_element(values, 0)
    position = source.table.column_names.index(column)
    plain = replace(source, table=source.table.set_column(position, column, values))
    if not pa.types.is_nested(values.type):
        no_label = _find_no_labels(plain, column, problem_type, known, drop=drop)
        values = pc.if_else(pa.array(no_label), pa.scalar(None, values.type), values)
        plain = replace(source, table=source.table.set_column(position, column, values))
    return plain


def class_label_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names of the `ClassLabel` (or list of them) that `datasets` wrote into a schema."""
    try:
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        return list(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def _named(values: pa.Array, names: list[str] | None, known: Sequence[str]) -> pa.Array:
    """The names of numbered labels, null for -1; unless a run was trained on the numbers."""
    items = values.type.value_type if is_list(values.type) else values.type
    if not names or not pa.types.is_integer(items) or {*known} == {*map(str, range(len(names)))}:
        return values
    of_number: dict[int | None, str] = dict(enumerate(names))
    return pa.array(
        [
            [of_number.get(n) for n in row] if isinstance(row, list) else of_number.get(row)
            for row in values.to_pylist()
        ],
        pa.list_(pa.string()) if is_list(values.type) else pa.string(),
    )


def _all_single(lists: pa.Array) -> bool:
    return lists.null_count < len(lists) and bool(
        pc.all(pc.equal(pc.list_value_length(lists), 1)).as_py()
    )


def _parse_lists(values: pa.Array, known: Sequence[str]) -> pa.Array | None:
    """Texts as lists of labels, if some are written as lists; a plain text is a list of one."""
    if not pc.any(pc.match_substring_regex(values, r"^\s*[\[{(]")).as_py():
        return None
    unique = values.unique()
    if {*unique.drop_null().to_pylist()} <= {*known}:
        return None
    lists = []
    for text in unique.to_pylist():
        found = [text] if text else None
        if text and text.strip()[0] in "[{(":
            found = _parse_list(text)
            if found is None:
                return None
        lists.append(found)
    return pa.array(lists, pa.list_(pa.string())).take(pc.index_in(values, unique))


def _parse_list(text: str) -> list[str] | None:
    found: Any = None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if isinstance(found, dict) and len(found) == 1:  # Label Studio: {"choices": [...]}
        found = next(iter(found.values()))
    if not isinstance(found, (list, tuple, set)) or NO_COMMA.search(text):
        return None
    plain = all(isinstance(item, (str, int, float)) for item in found)
    return sorted(map(str, found)) if plain else None


def _find_no_labels(
    source: "Source",
    column: str,
    problem_type: "ProblemType | None",
    known: Sequence[str],
    *,
    drop: bool,
) -> Any:
    """Which rows have no label but something else, bool (rows,).

    Raises:
        UserError: there are any, unless `drop` or the problem type says that they are labels.
    """
    table, num_rows = source.table, source.table.num_rows
    texts = pc.utf8_trim_whitespace(table[column].cast(pa.string())).combine_chunks()
    every = texts.unique().drop_null().to_pylist()
    names = [name for name in every if name and not {name, name.removesuffix(".0")} & {*known}]
    found: list[tuple[Any, str]] = []
    repeats = None
    if column in names:
        same = [pc.equal(table[name].cast(pa.string()), name) for name in table.column_names
                if is_text(table[name].type)]  # fmt: skip
        repeats = np.logical_and.reduce([pc.fill_null(one, False).to_numpy() for one in same])
        found.append((repeats, "repeats the header"))
    if problem_type is None or drop:
        marks = [name for name in names if name.casefold() in MARKS or name == "None"]
        if "+" in names and "-" in marks:
            marks.remove("-")
        numbers = {name.removesuffix(".0") for name in every if name}
        is_count = problem_type != "regression" and all(map(str.isdigit, numbers - {"-1"}))
        if is_count and {"-1", "0"} <= numbers:
            marks += [name for name in names if name.removesuffix(".0") == "-1"]
        for mark in marks:
            is_mark = pc.fill_null(pc.equal(texts, mark), False).to_numpy(zero_copy_only=False)
            found.append((is_mark, f"label {mark!r} looks like a missing one"))
        last = [cell for cell in table.slice(num_rows - 1).to_pylist()[0].values() if cell]
        words = [cell for cell in last if not NUMBER_OR_BOOLEAN.fullmatch(str(cell))]
        is_total = len(words) == 1 and str(words[0]).strip().casefold() in TOTALS
        if is_total and pc.sum(pc.equal(texts, texts[-1])).as_py() == 1:
            found.append((np.arange(num_rows) == num_rows - 1, "looks like a row of totals"))
    found = [(rows, what) for rows, what in found if rows.any()]
    if found and not drop:
        raise UserError.together(
            [
                UserError(
                    f"{source.show(np.flatnonzero(rows).tolist())}: {what}",
                    where=f"{source.path}, column {column!r}",
                    fix="--on-null drop leaves these rows out" + ("" if rows is repeats else KEPT),
                )
                for rows, what in found
            ]
        )
    return np.logical_or.reduce([np.zeros(num_rows, bool), *(rows for rows, _ in found)])
