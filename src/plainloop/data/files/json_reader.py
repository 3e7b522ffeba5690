"""Read JSON files as tables: an array of objects, or one object per line.

Python's `json` parses and Arrow types: Arrow's own JSON reader turns text that looks like a date into a
timestamp, and does not know lines. Numbers become int64 or float64, text string, lists lists and objects
structs; a key that an object lacks is null there. Nothing is converted to make kinds fit.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from plainloop.data.files.arrow_reader import Batches
from plainloop.data.files.text import LINE_BREAK, check_is_text, read_lines
from plainloop.errors import UserError, printable, printable_path

ROWS_PER_BLOCK = 10_000
MOST_COLUMNS = 1000
# What Arrow raises for values of different kinds, numbers of more than 64 bits, half surrogates.
MISFITS = (pa.ArrowException, OverflowError, UnicodeEncodeError)
SHAPE = "a JSON file is an array of objects, or one object a line"

Row = dict[str, Any]


def is_json_array(path: Path, encoding: str | None) -> bool:
    """Whether the first thing in the file opens an array.

    Raises:
        UserError: the file is no text in this encoding.
    """
    check_is_text(path)
    started = (line.lstrip() for line in read_lines(path, encoding) if not line.isspace())
    return next(started, "").startswith("[")


def read_json(path: Path, encoding: str | None, *, array: bool) -> pa.Table:
    """Read an array of objects, or one object a line.

    Raises:
        UserError: broken JSON, something else than objects, a key twice in one object, a column of
            more than one kind, or no rows: with the line (in an array, the row).
    """
    tables = [table for table, _ in _read_blocks(path, encoding, array=array)]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowInvalid:
        raise _inexact(path) from None


def stream_json_lines(path: Path, encoding: str | None) -> tuple[pa.Schema, Batches]:
    """Check all lines of a file, then stream them, at flat memory.

    Raises:
        UserError: see `read_json`.
    """
    schema = pa.schema([])
    for _, schema in _read_blocks(path, encoding, array=False):  # noqa: B007
        pass

    def batches() -> Iterator[pa.RecordBatch]:
        for table, _ in _read_blocks(path, encoding, array=False):
            try:
                full = pa.concat_tables([schema.empty_table(), table], promote_options="permissive")
            except pa.ArrowInvalid:
                raise _inexact(path) from None
            yield from full.to_batches()

    return schema, batches


def _inexact(path: Path) -> UserError:
    return UserError(
        "a column mixes fractions and whole numbers that float64 cannot hold",
        where=printable_path(path),
        fix="write such numbers as text",
    )


def _read_blocks(
    path: Path, encoding: str | None, *, array: bool
) -> Iterator[tuple[pa.Table, pa.Schema]]:
    """Yield some rows at a time, each with the schema that fits all rows so far."""
    check_is_text(path)
    rows = _objects_of_array(path, encoding) if array else _objects_of_lines(path, encoding)
    unit, where = "row" if array else "line", printable_path(path)
    schema, num_rows = pa.schema([]), 0
    while block := list(islice(rows, ROWS_PER_BLOCK)):
        for row, value in enumerate(block, start=num_rows + 1):
            if not isinstance(value, dict) or not value:
                kind = "empty" if value == {} else f"{_kind(value)}, not an object"
                raise UserError(f"{unit} {row} is {kind}", where=where, fix=SHAPE)
        try:
            table, schema = _to_table(block, schema)
        except MISFITS:
            what = _misfit(block, schema, unit, num_rows + 1)
            raise UserError(what, where=where, fix="give each column one kind of value") from None
        if len(schema) > MOST_COLUMNS:
            raise UserError(
                f"more than {MOST_COLUMNS} different keys by {unit} {num_rows + len(block)}",
                where=where,
                fix="give every object the same keys",
            )
        yield table, schema
        num_rows += len(block)
    if num_rows == 0:
        raise UserError("no rows in the file", where=where, fix="give a file with rows")


def _objects_of_lines(path: Path, encoding: str | None) -> Iterator[Any]:
    """Parse each line; blank lines at the end are not rows, and elsewhere they are refused."""
    where, blank = printable_path(path), 0
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line or line.isspace():
            blank = blank or number
            continue
        if blank:
            raise UserError(f"line {blank} is blank", where=where, fix=SHAPE)
        yield _parse(line, number, where)


def _objects_of_array(path: Path, encoding: str | None) -> Iterator[Any]:
    yield from _parse("".join(read_lines(path, encoding)), 1, printable_path(path))


def _parse(text: str, first_line: int, where: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        before = LINE_BREAK.split(text[: error.pos])
        what = f"line {first_line + len(before) - 1}, column {len(before[-1]) + 1}: {error.msg}"
    except ValueError as error:  # a key twice, or a number of thousands of digits
        what = f"line {first_line}: {printable(error)}"
    except RecursionError:
        what = f"line {first_line}: nested too deeply"
    raise UserError(what, where=where, fix=SHAPE)


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{printable(twice)}' appears twice in one object")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _to_table(rows: list[Row], schema: pa.Schema) -> tuple[pa.Table, pa.Schema]:
    """Type some rows, and widen the schema of those before: null to anything, int64 to float64."""
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    if len(names) > MOST_COLUMNS:
        names = names[: MOST_COLUMNS + 1]  # refused by the caller: do not build more of it
    table = pa.table({name: _to_array([row.get(name) for row in rows]) for name in names})
    return table, pa.unify_schemas([schema, table.schema], promote_options="permissive")


def _to_array(values: list[Any]) -> pa.Array:
    array = pa.array(values)
    of_lists = pa.types.is_list(array.type)
    inner: Iterable[Any] = chain.from_iterable(v or () for v in values) if of_lists else values
    if pa.types.is_floating(array.type.value_type if of_lists else array.type) and bool in set(
        map(type, inner)
    ):
        raise pa.ArrowInvalid("Arrow would read true as 1.0 here")
    return array


def _misfit(rows: list[Row], schema: pa.Schema, unit: str, first: int) -> str:
    """Say which value is the first that does not fit those before it."""

    def fails(count: int, names: Iterable[str] | None = None) -> bool:
        """Whether the first rows, or these keys of them, do not fit together."""
        part = rows[:count]
        if names is not None:
            part = [{name: row[name] for name in names if name in row} for row in part]
        try:
            _to_table(part, schema)
        except MISFITS:
            return True
        return False

    count = bisect_left(range(len(rows)), True, key=fails)  # the fewest rows that fail
    name = next(name for name in rows[count - 1] if fails(count, [name]))
    value = rows[count - 1][name]
    place = f"{unit} {first + count - 1}: column '{printable(name)}' holds"
    try:
        now = _kind_of_type(_to_array([value]).type)
    except (OverflowError, UnicodeEncodeError):
        return f"{place} {printable(repr(value), most=40)}, which Arrow cannot hold"
    except pa.ArrowException:
        return f"{place} {_kind(value)} of several kinds"
    _, before = _to_table([{name: row.get(name)} for row in rows[: count - 1]], schema)
    return f"{place} {now}, and {_kind_of_type(before.field(name).type)} before"


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a number")


def _kind_of_type(data_type: pa.DataType) -> str:
    if pa.types.is_list(data_type):
        return f"a list of {_kind_of_type(data_type.value_type).removeprefix('a ')}"
    if pa.types.is_struct(data_type):
        return "an object"
    names = {pa.string(): "text", pa.bool_(): "true or false", pa.null(): "null"}
    return names.get(data_type, "a number")
