"""Find the files of paths and patterns, and the format of each."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from plainloop.data.files.arrow_reader import find_saved_files
from plainloop.data.files.json_reader import is_json_array
from plainloop.errors import UserError, nearest, printable, printable_path

Format = Literal["csv", "tsv", "json array", "json lines", "parquet", "arrow"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
SHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


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


def format_of(file: Path, encoding: str | None) -> Format:
    """Tell a file's format by its suffix, and the two kinds of .json by how it begins.

    Raises:
        UserError: a suffix that is not known, or a file that cannot be opened.
    """
    suffix, where = file.suffix.lower(), printable_path(file)
    try:
        file.open("rb").close()
    except OSError as error:
        raise UserError(
            f"cannot be opened: {error.strerror}", where=where, fix="check its permissions"
        ) from None
    if suffix == ".json":
        return "json array" if is_json_array(file, encoding) else "json lines"
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in COMPRESSED:
        raise UserError("this is compressed", where=where, fix="unpack it first")
    if suffix in SHEETS:
        raise UserError("this is a spreadsheet", where=where, fix="save the sheet as csv")
    what = f"unknown suffix '{printable(suffix)}'" if suffix else "a file without a suffix"
    raise UserError(what, where=where, fix="use .csv, .tsv, .json, .jsonl, .parquet or .arrow")


def _find(given: str | Path) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        return find_saved_files(path)
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
