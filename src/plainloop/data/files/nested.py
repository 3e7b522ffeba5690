"""Dotted names for values in objects: data.text, or annotations.0.choices for the first of a list."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def add_named(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Add the columns that dotted names stand for; names that lead to nothing are left out."""
    for name in names:
        heads = [head for head in table.column_names if name.startswith(f"{head}.")]
        if name in table.column_names or not heads:
            continue
        head = max(heads, key=len)
        values = table[head]
        for part in name[len(head) + 1 :].split("."):
            if pa.types.is_struct(values.type) and values.type.get_field_index(part) >= 0:
                values = pc.struct_field(values, part)
            elif pa.types.is_list(values.type) and part.isdecimal():
                # A slice of fixed size has null where a list is shorter; list_element fails there.
                at = int(part)
                one = pc.list_slice(values, at, at + 1, return_fixed_size_list=True)
                values = pc.list_element(one, 0)
            else:
                break
        else:
            table = table.append_column(name, values)
    return table


def flatten_objects(table: pa.Table) -> pa.Table:
    """Replace columns of objects, and of lists of one object each, by a column for each value."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        _add_flat(columns, name, table[name])
    same = columns.keys() == {*table.column_names}
    return table if same else pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _add_flat(columns: dict[str, pa.ChunkedArray], name: str, values: pa.ChunkedArray) -> None:
    kind = values.type
    if pa.types.is_struct(kind) and kind.num_fields:
        for field in kind:
            _add_flat(columns, f"{name}.{field.name}", pc.struct_field(values, field.name))
    elif pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) and _has_one(values):
        _add_flat(columns, f"{name}.0", pc.list_element(values, 0))
    else:
        columns.setdefault(name, values)


def _has_one(lists: pa.ChunkedArray) -> bool:
    return pc.count_distinct(pc.fill_null(pc.list_value_length(lists), 0)).as_py() == 1 and bool(
        pc.all(pc.equal(pc.list_value_length(lists), 1)).as_py()
    )
