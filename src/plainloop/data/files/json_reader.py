"""Read JSON files as tables: an array of objects, one object a line, or one object with the rows.

Python's `json` parses and Arrow types: Arrow's own JSON reader turns text that looks like a date into a
timestamp, and does not know lines. Numbers become int64 or float64, text string, lists lists and objects
structs; a key that an object lacks is null there. Nothing is converted to make kinds fit, but for
Label Studio: it writes one choice as text and several as {"choices": [...]}, which become JSON text.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

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
Kind = Literal["json array", "json lines", "json object"]
_UNITS = {"json array": "row", "json lines": "line", "json object": "row"}


def json_kind(path: Path, encoding: str | None) -> Kind:
    """Tell by its first two lines what a .json file holds.

    Raises:
        UserError: the file is no text in this encoding.
    """
    check_is_text(path)
    lines = (line.strip() for line in read_lines(path, encoding) if not line.isspace())
    first, second = next(lines, ""), next(lines, None)
    if first.startswith("["):
        return "json array"
    try:
        _DECODER.decode(first if second else "")
    except (ValueError, RecursionError):
        return "json object" if first.startswith("{") else "json lines"
    return "json lines"


def read_json(path: Path, encoding: str | None, kind: Kind) -> tuple[pa.Table, tuple[str, ...]]:
    """Read an array of objects, one object a line, or one object that holds the rows.

    Returns:
        The rows, and printable lines that say where in the object they were.

    Raises:
        UserError: broken JSON, something else than objects, a key twice in one object, a column of
            more than one kind, or no rows: with the line (in an array, the row).
    """
    notes: tuple[str, ...] = ()
    rows = _objects_of_lines(path, encoding)
    if kind != "json lines":
        value = _parse("".join(read_lines(path, encoding)), 1, printable_path(path))
        found, notes = (value, ()) if kind == "json array" else _rows_of_object(value, path)
        rows = iter(found)
    tables = [table for table, _ in _read_blocks(path, rows, _UNITS[kind])]
    try:
        return pa.concat_tables(tables, promote_options="permissive"), notes
    except pa.ArrowInvalid:
        raise _inexact(path) from None


def stream_json_lines(path: Path, encoding: str | None) -> tuple[pa.Schema, Batches]:
    """Check all lines of a file, then stream them, at flat memory.

    Raises:
        UserError: see `read_json`.
    """
    schema = pa.schema([])
    for _, schema in _read_blocks(path, _objects_of_lines(path, encoding), "line"):  # noqa: B007
        pass

    def batches() -> Iterator[pa.RecordBatch]:
        for table, _ in _read_blocks(path, _objects_of_lines(path, encoding), "line"):
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
    path: Path, rows: Iterator[Any], unit: str
) -> Iterator[tuple[pa.Table, pa.Schema]]:
    """Yield some rows at a time, each with the schema that fits all rows so far."""
    where = printable_path(path)
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
    check_is_text(path)
    where, blank = printable_path(path), 0
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line or line.isspace():
            blank = blank or number
            continue
        if blank:
            raise UserError(f"line {blank} is blank", where=where, fix=SHAPE)
        yield _parse(line, number, where)


def _rows_of_object(value: Row, path: Path) -> tuple[list[Any], tuple[str, ...]]:
    """The rows of an object: its only list, the rows or columns of pandas' `to_json`, or itself."""
    lists = [name for name, rows in value.items() if rows and _holds(rows, list, (dict, list))]
    if (
        {"columns", "data"} <= value.keys()
        and lists == ["data"]
        and not _holds(value["data"], list, dict)
    ):
        return [dict(zip(value["columns"], row, strict=False)) for row in value["data"]], ()
    if lists and (len(lists) > 1 or not _holds(value[lists[0]], list, dict)):
        raise UserError(
            f"an object with the lists {printable(', '.join(lists))}",
            where=printable_path(path),
            fix="save one list as a file of its own, an array of objects",
        )
    if lists:
        return value[lists[0]], (f"the rows are the list {printable(lists[0])!r}",)
    if (
        value
        and _holds([*value.values()], list, dict)
        and len({*map(frozenset, value.values())}) == 1
    ):
        inner = next(iter(value.values()))
        if all(map(str.isdecimal, inner)) and not all(map(str.isdecimal, value)):
            return [{name: value[name][row] for name in value} for row in inner], ()
        if all(map(str.isdecimal, value)):
            return [*value.values()], ()
    return [value], ()


def _holds(
    values: Any, kind: type[list[Any]] | type[dict[Any, Any]], items: type | tuple[type, ...]
) -> bool:
    return isinstance(values, kind) and all(isinstance(item, items) for item in values)


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
    texts = {field.name for field in schema if field.type == pa.string()}
    table = pa.table(
        {name: _to_array([row.get(name) for row in rows], name in texts) for name in names}
    )
    return table, pa.unify_schemas([schema, table.schema], promote_options="permissive")


def _to_array(values: list[Any], after_texts: bool = False) -> pa.Array:
    if after_texts or str in set(map(type, values)):
        values = [json.dumps(v, ensure_ascii=False) if _is_choices(v) else v for v in values]
    array = pa.array(values)
    of_lists = pa.types.is_list(array.type)
    inner: Iterable[Any] = chain.from_iterable(v or () for v in values) if of_lists else values
    if pa.types.is_floating(array.type.value_type if of_lists else array.type) and bool in set(
        map(type, inner)
    ):
        raise pa.ArrowInvalid("Arrow would read true as 1.0 here")
    return array


def _is_choices(value: Any) -> bool:
    lists = [*value.values()] if isinstance(value, dict) else []
    return len(lists) == 1 and _holds(lists[0], list, str)


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
