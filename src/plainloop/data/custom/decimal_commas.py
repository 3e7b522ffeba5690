"""Numbers with decimal commas, as a spreadsheet writes them between semicolons."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from plainloop.data.files.tables import Source

# 1.234,5 has a point for the thousands.
NUMBER = r"^\s*[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?\s*$"


def with_decimal_points(source: Source, column: str) -> Source:
    """Write the numbers of a label column with decimal points, if its files have semicolons.

    Args:
        source: as read. Columns of anything but such numbers stay as they are.
        column: the column of labels.
    """
    is_there = column in source.table.column_names
    if not is_there or {part.separator for part in source.parts} != {";"}:
        return source
    values = source.table[column]
    if values.type != pa.string():
        return source
    given = values.filter(pc.not_equal(pc.utf8_trim_whitespace(values), ""))
    with_comma = pc.any(pc.match_substring(given, ",")).as_py()
    if not with_comma or not pc.all(pc.match_substring_regex(given, NUMBER)).as_py():
        return source
    points = pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")
    position = source.table.column_names.index(column)
    note = f"{source.path}: the commas in column {column!r} are decimal commas"
    return replace(
        source,
        table=source.table.set_column(position, column, points),
        notes=(*source.notes, note),
    )
