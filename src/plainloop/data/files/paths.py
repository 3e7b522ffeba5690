"""Find the files of paths and patterns, and the format of each."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from plainloop.config.read_options import ReadOptions
from plainloop.data.files.arrow_reader import find_saved_files
from plainloop.data.files.dialect import MOST_ROWS, find_dialect
from plainloop.data.files.json_reader import json_kind
from plainloop.data.files.plain_text import FASTTEXT_LABEL, find_classes
from plainloop.data.files.text import COMPRESSIONS, read_lines, suffix_of
from plainloop.errors import UserError, nearest, printable, printable_path

Format = Literal[
    "csv",
    "text lines",
    "sheet",
    "fastText",
    "folder of classes",
    "json array",
    "json lines",
    "json object",
    "parquet",
    "arrow",
]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "sheet"),
}
MOST_ROWS_OF_TEXT = 0.9
COMPRESSED = (".xz", ".zip", ".7z", ".tgz", ".tar")


_SQLITE = (
    "an SQLite database",
    "sqlite3 -header -csv FILE 'SELECT * FROM TABLE' > rows.csv writes a table of it as csv",
)
_PICKLE = (
    "a pickle, which may run any code when it is read",
    "if you trust it, pandas.read_pickle(FILE).to_parquet('rows.parquet') converts a table",
)
NO_TABLES = {
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".db3"), _SQLITE),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
}


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """Find the files of paths, `save_to_disk` folders and patterns, in this order.

    Raises:
        UserError: what is missing or no such folder, a pattern that matches nothing, a file given
            twice: all together.
    """
    files: list[Path] = []
    problems = []
    for given in paths:
        try:
            files += _find(given)
        except UserError as problem:
            problems.append(problem)
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            problems.append(
                UserError("given twice", where=printable_path(file), fix="give every file once")
            )
        seen.add(file.resolve())
    if problems:
        raise UserError.together(problems)
    return files


def format_of(file: Path, options: ReadOptions) -> Format:
    """Tell a file's format by its suffix, and the two kinds of .json by how it begins.

    Raises:
        UserError: a suffix that is not known.
    """
    suffix, where = suffix_of(file), printable_path(file)
    if file.is_dir():
        return "folder of classes"
    if suffix == ".json":
        return json_kind(file, options.encoding)
    if suffix == ".txt":
        return _format_of_text(file, options)
    form = SUFFIXES.get(suffix)
    if form in ("parquet", "arrow", "sheet") and suffix != file.suffix.lower():
        suffix = file.suffix.lower()
    elif form:
        return form
    if suffix in (*COMPRESSED, *COMPRESSIONS):
        raise UserError("this is compressed", where=where, fix="unpack it first")
    if suffix in NO_TABLES:
        what, fix = NO_TABLES[suffix]
        raise UserError(f"this is {what}", where=where, fix=fix)
    what = f"unknown suffix '{printable(suffix)}'" if suffix else "a file without a suffix"
    raise UserError(
        what, where=where, fix="use .csv, .tsv, .json, .jsonl, .txt, .xlsx, .parquet or .arrow"
    )


def _format_of_text(file: Path, options: ReadOptions) -> Format:
    """Tell what a .txt file holds: columns, fastText's lines, JSON objects, or one text a line."""
    first = next((line for line in read_lines(file, options.encoding) if not line.isspace()), "")
    if first.startswith(FASTTEXT_LABEL):
        return "fastText"
    if first.startswith('{"'):
        return "json lines"
    found = find_dialect(file, "", options)
    # In prose a space follows a comma, and a line is a sentence more often than a row of names.
    prose = f"{found.delimiter} " in first or not found.headed or found.fits < MOST_ROWS_OF_TEXT
    is_table = (
        found.width > 1 and found.fits >= MOST_ROWS and (found.delimiter == "\t" or not prose)
    )
    return "csv" if is_table or (options.separator or options.header) is not None else "text lines"


def _find(given: str | Path) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        return [path] if find_classes(path) else find_saved_files(path)
    if path.is_file():
        return [path]
    if path.exists():
        raise UserError("no regular file", where=printable_path(path), fix="give a file on disk")
    if not glob.has_magic(str(given)):
        raise _missing(path)
    matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - the pattern may be absolute
    if not matches:
        raise UserError(
            "no file matches this pattern", where=printable_path(path), fix="check its folder"
        )
    return [file for match in matches for file in _find(match)]


def _missing(path: Path) -> UserError:
    where, folder = printable_path(path), path.parent
    while not folder.is_dir() and folder != folder.parent:
        path, folder = folder, folder.parent
    beside = [printable_path(Path(entry.name)) for entry in folder.iterdir()]
    hint = nearest(path.name, beside) or "there is nothing in it"
    return UserError("no such file", where=where, fix=f"in {printable_path(folder)}: {hint}")
