"""Read texts that are not in columns: fastText's lines, and a folder of classes with a text a file.

A file of one text a line is a table of one column: see `csv_reader.check_lines`.
"""

import re
from pathlib import Path

import pyarrow as pa

from plainloop.data.files.text import check_is_text, encoding_of, read_lines
from plainloop.errors import UserError, printable_path

FASTTEXT_LABEL = "__label__"
LABELS_THEN_TEXT = re.compile(
    rf"((?:{FASTTEXT_LABEL}\S+\s+)*(?:{FASTTEXT_LABEL}\S+$)?)(.*)", re.DOTALL
)
FEWEST_CLASSES = 2


def read_fasttext(path: Path, encoding: str | None) -> pa.Table:
    """Read lines such as `__label__pos __label__long a text`.

    Returns:
        Columns label (list of string) and text (string), without `__label__` and line ends.
    """
    labels, texts = [], []
    for line in read_lines(path, encoding):
        found = LABELS_THEN_TEXT.fullmatch(line.strip())
        assert found is not None  # noqa: S101 - both parts may be empty
        labels.append([word.removeprefix(FASTTEXT_LABEL) for word in found[1].split()])
        texts.append(found[2])
    while texts and not texts[-1] and not labels[-1]:
        del texts[-1], labels[-1]
    return pa.table({"label": pa.array(labels, pa.list_(pa.string())), "text": texts})


def find_classes(folder: Path) -> list[Path]:
    """The folders of a folder of classes: each holds files with a text each, and nothing else."""
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    folders = [one for one in folders if not one.name.startswith(".")]
    of_texts = all(
        file.is_file() and (file.suffix.lower() in (".txt", "") or file.suffix[1:].isdecimal())
        for one in folders
        for file in _files_of(one)
    )
    return folders if of_texts and len(list(filter(_files_of, folders))) >= FEWEST_CLASSES else []


def read_classes(folder: Path, encoding: str | None) -> pa.Table:
    """Read a folder of classes.

    Returns:
        Columns text, label (the name of the folder) and file, all string; sorted by folder, then file.

    Raises:
        UserError: files that are no text in this encoding.
    """
    rows, problems = [], []
    for one in find_classes(folder):
        for file in _files_of(one):
            try:
                check_is_text(file)
                lines = read_lines(file, encoding_of(file, encoding))
                text = "".join(lines).rstrip("\r\n")
            except UserError as problem:
                problems.append(problem)
                continue
            rows.append({"text": text, "label": one.name, "file": f"{one.name}/{file.name}"})
    if problems:
        more = len(problems) - 1
        other = f" (+{more} more files)" if more else ""
        raise UserError(f"{problems[0]}{other}", where=printable_path(folder))
    return pa.Table.from_pylist(rows)


def _files_of(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
