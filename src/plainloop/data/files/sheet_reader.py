"""Read a sheet of a spreadsheet as a table of text, as if it had been saved as csv."""

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.csv_reader import NO_NAME, check_header
from plainloop.data.files.dialect import SAMPLE_LINES, is_data
from plainloop.errors import UserError, printable, printable_path

MOST_EXACT = 2**53  # above, not every integer is a float


def read_sheet(path: Path, options: ReadOptions) -> tuple[pa.Table, int, tuple[str, ...]]:
    """Read the sheet that is named, or the only one with rows that is not hidden.

    Returns:
        The table, the row of the sheet where the data begin, and printable lines: what was found.

    Raises:
        UserError: no such sheet, several with rows, a header that cannot be one, no rows, a file
            that is damaged or has a password, or the package that reads it is missing.
    """
    where = printable_path(path)
    try:
        import python_calamine
    except ImportError:
        fix = "pip install python-calamine, or save the sheet as csv"
        raise UserError("python-calamine is missing", where=where, fix=fix) from None
    visible = python_calamine.SheetVisibleEnum.Visible
    try:
        with python_calamine.CalamineWorkbook.from_path(path) as book:
            shown = [sheet.name for sheet in book.sheets_metadata if sheet.visible == visible]
            wanted = book.sheet_names if options.sheet is not None else shown
            sheets = {name: book.get_sheet_by_name(name) for name in wanted}
            filled = [name for name, sheet in sheets.items() if sheet.height]
            name = _choose(filled, options.sheet, where)
            rows = sheets[name].to_python(skip_empty_area=True)
            top = (sheets[name].start or (0, 0))[0] + 1
    except (python_calamine.CalamineError, OSError) as error:
        what = f"damaged, or has a password: {printable(error)}"
        raise UserError(what, where=where, fix="save it again, or as csv") from None
    cells = [[_as_text(cell) for cell in row] for row in rows]
    while cells and not any(cells[-1]):
        del cells[-1]
    header, body = [str(number + 1) for number in range(len(cells[0]))], cells
    if options.header is not False:
        headed = options.header or not is_data(cells[0], list(islice(cells, 1, SAMPLE_LINES)))
        header, body, top = check_header(cells[0], where, headed=headed), cells[1:], top + 1
    if not body:
        raise UserError("no rows below the header", where=where, fix="give a sheet with rows")
    columns = dict(zip(header, zip(*body, strict=True), strict=True))
    kept = {
        name: pa.array(column, pa.string())
        for number, (name, column) in enumerate(columns.items())
        if name != NO_NAME.format(number) or any(column)
    }
    return pa.table(kept), top, (f"the sheet {name!r}",)


def _choose(filled: list[str], wanted: str | None, where: str) -> str:
    if (wanted is None and len(filled) == 1) or wanted in filled:
        return wanted or filled[0]
    names = ", ".join(map(repr, filled))
    what = f"no sheet {wanted!r} with rows" if wanted else f"{len(filled)} sheets have rows"
    raise UserError(what, where=where, fix=f"--sheet takes one: {names}" if filled else "fill one")


def _as_text(cell: Any) -> str:
    """As csv has it: 1.0 is 1, and true is TRUE."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < MOST_EXACT:
        return str(int(cell))
    return str(cell)
