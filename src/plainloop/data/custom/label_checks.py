"""Labels of a column as texts or numbers, and checks that name the rows at fault."""

import re
import reprlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plainloop.data.custom.column_types import describe, is_list, is_number, is_text
from plainloop.errors import UserError

if TYPE_CHECKING:
    from plainloop.config.tasks import ProblemType
    from plainloop.data.files.tables import Source

Rows = NDArray[np.int64]

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
INTEGER = r"^[+-]?\d+(\.0*)?$"
NOT_FINITE = r"^(?i:[+-]?(nan|inf|infinity))$"
DECIMAL_COMMA, THOUSANDS = r"[+-]?\d+,\d+", r"[+-]?[1-9]\d{0,2},\d{3}"
UNLABELLED = "-1"
SEPARATORS = "|;,/ "
MOST_INTEGER_CLASSES = 300
FEW_CLASSES = 10  # this many may be in any number of rows
MOST_SCORES_AS_CLASSES = 20
MOST_SHOWN = 3
MOST_ROWS_A_CLASS_SHARES = 0.5


def check_kind(
    source: "Source", column: str, problem_type: "ProblemType", separator: str | None
) -> None:
    """Check that a column's type can hold labels of this kind.

    Raises:
        UserError: it cannot.
    """
    kind = source.table.schema.field(column).type
    several = problem_type == "multi_label_classification"
    item = kind.value_type if is_list(kind) else kind
    plain = is_text(item) or is_number(item) or pa.types.is_boolean(item) or pa.types.is_null(item)
    if several:
        fits = plain and (is_list(kind) or separator is not None)
        wanted = "lists of labels, or texts and a --label-separator"
    else:
        fits, wanted = plain and not is_list(kind), "one text or number a row"
    if not fits:
        of_what = f" of {describe(item)}" if is_list(kind) and not plain else ""
        raise UserError(
            f"column {column!r} holds {describe(kind)}{of_what}, need {wanted}",
            where=source.path,
            fix="set --problem-type, or name another --label-column",
        )


def items_of(
    source: "Source", column: str, problem_type: "ProblemType", separator: str | None
) -> tuple[pa.Array, Rows]:
    """Labels as texts, null if missing or empty, and the row number of each.

    Integers are written without a fraction, booleans as true and false; a float that is not a
    number is missing. Labels that a separator
    splits are stripped, and nothing between two separators is no label.

    Raises:
        UserError: as `check_kind`.
    """
    check_kind(source, column, problem_type, separator)
    values = source.table[column].combine_chunks()
    rows = np.arange(len(values), dtype=np.int64)
    if problem_type == "multi_label_classification":
        divided = separator is not None and not is_list(values.type)
        if divided:
            values = pc.split_pattern(pc.fill_null(values.cast(pa.string()), ""), separator)
        rows = pc.list_parent_indices(values).to_numpy().astype(np.int64)
        values = pc.list_flatten(values)
        if divided:
            values = pc.utf8_trim_whitespace(values)
            is_there = pc.not_equal(values, "")
            rows, values = rows[is_there.to_numpy(zero_copy_only=False)], values.filter(is_there)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values.cast(pa.float64())), None, values)
    texts = values.cast(pa.string())
    integral = pc.match_substring_regex(texts, INTEGER)
    texts = pc.if_else(integral, pc.replace_substring_regex(texts, r"\.0*$", ""), texts)
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), None, texts), rows


def rows_of(items: pa.Array, rows: Rows, name: str) -> list[int]:
    """Row numbers that have the label."""
    found: list[int] = rows[pc.indices_nonzero(pc.equal(items, name)).to_numpy()].tolist()
    return found


def parse_targets(source: "Source", column: str, *, drop: bool = False) -> pa.Array:
    """The targets of a regression, float32; with `drop`, null if one is missing.

    A decimal comma is read as a point, if no target has both and 1,234 cannot be meant.

    Raises:
        UserError: a target is missing, no number, or not finite in float32, with the rows.
    """
    check_kind(source, column, "regression", None)
    texts = source.table[column].cast(pa.string()).combine_chunks()
    trimmed = pc.utf8_trim_whitespace(texts)
    missing = pc.fill_null(pc.equal(trimmed, ""), True)
    if has_decimal_commas(trimmed.unique().drop_null().to_pylist()):
        trimmed = pc.replace_substring(trimmed, ",", ".")
    number = pc.fill_null(pc.match_substring_regex(trimmed, NUMBER), False)
    not_finite = pc.fill_null(pc.match_substring_regex(trimmed, NOT_FINITE), False)
    values = pc.if_else(number, trimmed, None).cast(pa.float64())
    with np.errstate(over="ignore"):
        targets = values.to_numpy(zero_copy_only=False).astype(np.float32)
    too_large = number.to_numpy(zero_copy_only=False) & ~np.isfinite(targets)
    word = pc.invert(pc.or_(pc.or_(missing, number), not_finite))
    infinite = pc.or_(not_finite, pa.array(too_large))
    problems = []
    for wrong, what in ((missing, "no target"), (word, "not a number"), (infinite, "not finite")):
        found = pc.indices_nonzero(wrong).to_pylist()
        if found and not (drop and what == "no target"):
            example = "" if what == "no target" else f"{reprlib.repr(texts[found[0]].as_py())} is "
            problems.append(
                UserError(
                    f"{source.show(found)}: {example}{what}",
                    where=f"{source.path}, column {column!r}",
                    fix="every row needs a finite number; --on-null drop leaves these out"
                    if what == "no target"
                    else "correct these rows, or choose another --label-column or --problem-type",
                )
            )
    if problems:
        raise UserError.together(problems)
    return pa.array(targets, mask=missing.to_numpy(zero_copy_only=False))


def has_decimal_commas(texts: Sequence[str]) -> bool:
    """Whether texts are numbers with decimal commas; not if all could be groups of thousands."""
    commas = [text for text in texts if re.fullmatch(DECIMAL_COMMA, text)]
    numbers = all(re.match(NUMBER, text) for text in texts if "," not in text and text)
    if not commas or not numbers or any("." in text for text in texts):
        return False
    return not all(re.fullmatch(THOUSANDS, text) for text in commas)


def find_missing(
    source: "Source",
    column: str,
    items: pa.Array,
    rows: Rows,
    problem_type: "ProblemType",
    *,
    drop: bool = False,
) -> list[UserError]:
    """Rows without a label, unless they are left out, and splits that have none at all."""
    where = f"{source.path}, column {column!r}"
    labels = items.drop_null().unique().to_pylist()
    if labels in ([], [UNLABELLED]):
        what = "every label is -1" if labels else "no row has a label"
        return [
            UserError(
                f"{what}: this looks like an unlabelled split", where=where, fix="give labels"
            )
        ]
    if drop:
        return []
    missing = rows[pc.is_null(items).to_numpy(zero_copy_only=False)]
    if problem_type == "multi_label_classification":
        # A row with an empty list has no label of any; only a list that is not there is missing.
        nulls = pc.indices_nonzero(pc.is_null(source.table[column])).to_numpy()
        missing = np.union1d(missing, nulls.astype(np.int64))
    if not len(missing):
        return []
    return [
        UserError(
            f"no label in {source.show(missing.tolist())}",
            where=where,
            fix="label them, or --on-null drop leaves them out; is it a test split?",
        )
    ]


def find_no_classes(
    source: "Source", column: str, items: pa.Array, rows: Rows, names: Sequence[str]
) -> list[UserError]:
    """Labels that look like regression targets or texts, if no flag says that they are classes."""
    where = f"{source.path}, column {column!r}"
    texts = pa.array(names, pa.string())
    most = max(FEW_CLASSES, MOST_ROWS_A_CLASS_SHARES * source.table.num_rows)
    numbers = pc.or_(
        pc.match_substring_regex(texts, NUMBER), pc.match_substring_regex(texts, NOT_FINITE)
    )
    if pc.all(numbers).as_py() and pc.any(pc.match_substring_regex(texts, NUMBER)).as_py():
        gaps = texts.filter(pc.match_substring_regex(texts, NOT_FINITE)).to_pylist()
        if gaps:
            found = f"{gaps[0]!r} ({source.show(rows_of(items, rows, gaps[0]))})"
            return [
                UserError(
                    f"{found} is not a number, and the other labels are",
                    where=where,
                    fix="label these rows or take them out",
                )
            ]
        fractions = texts.filter(pc.invert(pc.match_substring_regex(texts, INTEGER))).to_pylist()
        if fractions:
            found = f"{fractions[0]} ({source.show(rows_of(items, rows, fractions[0]))})"
            what = f"numbers with fractions, as {found}"
        elif len(names) > min(MOST_INTEGER_CLASSES, most) or _look_like_scores(names):
            what = f"{len(names)} different numbers"
        else:
            return []
        return [
            UserError(
                f"{what}: classes, or the targets of a regression?",
                where=where,
                fix="set --problem-type regression or single_label_classification",
            )
        ]
    if len(names) > most:
        return [
            UserError(
                f"{len(names)} different labels in {source.table.num_rows} rows: "
                "this looks like a text, not like a class",
                where=where,
                fix="name another --label-column, or set --problem-type if it is right",
            )
        ]
    return []


def _look_like_scores(names: Sequence[str]) -> bool:
    """More integers than classes have, unless they count up from 0 or 1 as class ids do."""
    numbers = sorted(map(int, names))
    counts_up = numbers[0] in (0, 1) and numbers[-1] - numbers[0] == len(numbers) - 1
    return len(numbers) > MOST_SCORES_AS_CLASSES and not counts_up


def find_several_in_one(
    source: "Source", column: str, items: pa.Array, rows: Rows, names: Sequence[str]
) -> list[UserError]:
    """Labels that hold several labels: "a,b" if a and b are labels, a list as text, zeros and ones."""
    where = f"{source.path}, column {column!r}"
    values = source.table[column]
    if is_list(values.type) and {*names} <= {"0", "1"}:
        lengths = pc.list_value_length(values).unique().drop_null().to_pylist()
        if len(lengths) == 1 and lengths[0] > 1:
            what = f"lists of {lengths[0]} zeros and ones, one for each label"
            return [UserError(what, where=where, fix="list the names of a row's labels instead")]

    def shown(name: str) -> str:
        return f"{reprlib.repr(name)} ({source.show(rows_of(items, rows, name))})"

    if lists := [name for name in names if name.startswith("[") and name.endswith("]")]:
        what = f"{shown(lists[0])} is a list written as text, and cannot be read as one"
        fix = "give jsonl or parquet, or write a|b and set --label-separator '|'"
        return [UserError(what, where=where, fix=fix)]
    if has_decimal_commas(names):
        name = next(name for name in names if "," in name)
        fix = (
            "set --problem-type regression to read numbers, --label-separator ',' for several labels, "
            "or --problem-type single_label_classification"
        )
        return [UserError(f"{shown(name)} has a decimal comma", where=where, fix=fix)]
    known = {*names}
    for separator in SEPARATORS:
        divided = {n: [p.strip() for p in n.split(separator)] for n in names if separator in n}
        count = Counter(part for parts in divided.values() for part in {*parts})
        # Spaces are within most names, so they separate numbers only.
        fits = separator != " " or all(re.match(INTEGER, part) for part in count)
        if divided and fits and all(part in known or n > 1 for part, n in count.items()):
            fix = f"set --label-separator '{separator}', or --problem-type if it is one label"
            return [
                UserError(f"{shown(next(iter(divided)))} is several labels", where=where, fix=fix)
            ]
    return []


def near_duplicate_labels(
    source: "Source", column: str, items: pa.Array, rows: Rows, names: Sequence[str]
) -> list[UserError]:
    """Labels that differ only in case, white space or Unicode form."""
    groups = defaultdict(list)
    for name in sorted(names):
        groups[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [
        UserError(
            "labels differ only by space, case or Unicode form: "
            + " and ".join(
                f"{reprlib.repr(name)} ({source.show(rows_of(items, rows, name)[:MOST_SHOWN])})"
                for name in twins
            ),
            where=f"{source.path}, column {column!r}",
            fix="write them in the same way",
        )
        for twins in groups.values()
        if len(twins) > 1
    ]
