"""Spreadsheets: cells as csv has them, and questions where there are several sheets."""

import zipfile
from xml.sax.saxutils import escape

import pytest

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.tables import open_files, read_files
from plainloop.errors import UserError

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def cell_xml(cell, place):
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, str):
        return (
            f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'
        )
    return f'<c r="{place}"><v>{cell!r}</v></c>'


def write_book(path, sheets, hidden=(), top=1):
    """A workbook of sheets {name: rows of cells}, as Excel's format has them."""
    names = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"{" state=" + chr(34) + "hidden" + chr(34) if name in hidden else ""}/>'
        for n, name in enumerate(sheets, 1)
    )
    targets = "".join(
        f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
            '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-'
            'officedocument.spreadsheetml.sheet.main+xml"/></Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship '
            f'Id="r1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets>{names}</sheets></workbook>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships">{targets}</Relationships>',
        )
        for n, rows in enumerate(sheets.values(), 1):
            lines = "".join(
                f'<row r="{y}">'
                + "".join(cell_xml(c, f"{chr(65 + x)}{y}") for x, c in enumerate(row))
                + "</row>"
                for y, row in enumerate(rows, top)
            )
            book.writestr(
                f"xl/worksheets/sheet{n}.xml",
                f"<worksheet {MAIN}><sheetData>{lines}</sheetData></worksheet>",
            )
    return path


ROWS = [
    ["text", "label", "n", None],
    ['Good, and "cheap"', 1, 0.5, None],
    ["two\nlines", 0, None, None],
    ["NA", True, 12345678901, None],
    [None, None, None, None],
]
READ = [
    {"text": 'Good, and "cheap"', "label": "1", "n": "0.5"},
    {"text": "two\nlines", "label": "0", "n": ""},
    {"text": "NA", "label": "TRUE", "n": "12345678901"},
]


def test_cells_are_the_texts_that_csv_would_have(tmp_path):
    path = write_book(tmp_path / "a.xlsx", {"Rows": ROWS, "Empty": []})
    source = read_files([path])
    assert source.table.to_pylist() == READ
    assert {*map(str, source.table.schema.types)} == {"string"}
    assert source.notes == ("a.xlsx: the sheet 'Rows'",)
    assert source.show([0, 2]) == "rows 2, 4"
    assert [row for batch in open_files([path], rows=2) for row in batch.to_pylist()] == READ


def test_rows_are_numbered_as_in_the_sheet(tmp_path):
    path = write_book(tmp_path / "a.xlsx", {"Rows": ROWS}, top=4)
    assert read_files([path]).locate(0) == "row 5"
    path = write_book(tmp_path / "b.xlsx", {"Rows": ROWS[1:]}, top=4)
    source = read_files([path], ReadOptions(header=False))
    assert source.table.to_pylist()[0] == {"1": 'Good, and "cheap"', "2": "1", "3": "0.5"}
    assert source.locate(0) == "row 4"


def test_of_several_sheets_one_is_asked_for(tmp_path):
    path = write_book(tmp_path / "a.xlsx", {"A": ROWS, "B": ROWS[:2], "C": ROWS}, hidden=["C"])
    for options, what in (
        (ReadOptions(), "2 sheets have rows"),
        (ReadOptions(sheet="D"), "no sheet 'D' with rows"),
    ):
        with pytest.raises(UserError) as caught:
            read_files([path], options)
        assert caught.value.what == what
        assert caught.value.fix.startswith("--sheet takes one: 'A', 'B'")
    assert read_files([path], ReadOptions(sheet="B")).table.num_rows == 1
    assert read_files([path], ReadOptions(sheet="C")).table.num_rows == 3
    one = write_book(tmp_path / "b.xlsx", {"A": ROWS, "C": ROWS}, hidden=["C"])
    assert read_files([one]).notes == ("b.xlsx: the sheet 'A'",)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([], "0 sheets have rows"),
        ([["text", "label"]], "no rows below the header"),
        ([["text", "text"], ["a", "b"]], "column 'text' appears twice"),
        ([[n % 2, f"it is {n}"] for n in range(9)], "no header: the first row looks like data"),
    ],
)
def test_a_sheet_that_cannot_be_used_is_refused(tmp_path, rows, what):
    path = write_book(tmp_path / "a.xlsx", {"A": rows})
    with pytest.raises(UserError) as caught:
        read_files([path])
    assert caught.value.what.startswith(what)
    assert caught.value.where == str(path)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "python_calamine", None)
    with pytest.raises(UserError, match=r"python-calamine is missing; pip install python-calamine"):
        read_files([write_book(tmp_path / "a.xlsx", {"A": ROWS})])
