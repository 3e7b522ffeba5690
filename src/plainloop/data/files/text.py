"""Lines of a text file; checks of its encoding, and of files that are not text."""

import codecs
import io
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from plainloop.errors import UserError, printable, printable_path

BLOCK_BYTES = 2**20
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # what Arrow unpacks
LINE_BREAK = re.compile(r"\r\n|\r|\n")
NOT_TEXT = {
    b"\x1f\x8b": ("compressed with gzip", "name it .gz"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unzip it, or name it .xlsx"),
    b"BZh91AY&SY": ("compressed with bzip2", "name it .bz2"),
    b"\xfd7zXZ\x00": ("compressed with xz", "unxz it first"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "name it .zst"),
    b"SQLite format 3\0": ("an SQLite database", "name it .sqlite, which says how to export it"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
    b"ARROW1": ("an Arrow file", "name it .arrow"),
}
NAME_ENCODING = (
    "save the file as UTF-8, or name its encoding with --encoding (such as cp1252 or cp949)"
)
USUAL_ENCODINGS = ("utf-8", "cp949", "gb18030", "shift_jis", "big5", "cp1252", "cp1251", "cp1250")
# UTF-32's mark begins with UTF-16's, so it comes first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def check_encoding(encoding: str | None) -> None:
    """Check that Python knows an encoding of text by this name.

    Raises:
        UserError: it does not.
    """
    try:
        " ".encode(encoding or "utf-8")
    except (LookupError, ValueError):  # "hex" and "rot13" are codecs, but not of text
        raise UserError(
            f"no encoding '{printable(encoding)}'",
            where="--encoding",
            fix="name one that Python knows, such as latin-1, cp1252, cp949 or utf-16",
        ) from None


@contextmanager
def damage_is_the_users(path: Path) -> Iterator[None]:
    """Arrow raises any of these for bytes that are not what their header says."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise UserError(
            f"damaged or cut short: {printable(error)}",
            where=printable_path(path),
            fix="copy or write it again",
        ) from None


def suffix_of(file: Path) -> str:
    """A file's suffix in lower case; of a file that is unpacked as it is read, the one before it."""
    packed = file.suffix.lower() in COMPRESSIONS
    return (Path(file.stem) if packed else file).suffix.lower()


def own_separator(file: Path) -> str:
    """The separator that a text file's suffix stands for; empty if it stands for none."""
    return {".csv": ",", ".tsv": "\t"}.get(suffix_of(file), "")


def open_bytes(path: Path) -> pa.NativeFile:
    """Open a file to read its bytes, unpacked if its suffix says that it is compressed."""
    return pa.input_stream(str(path), compression=COMPRESSIONS.get(path.suffix.lower()))


def encoding_of(path: Path, encoding: str | None) -> str | None:
    """The encoding that is given; without one, that of the mark of UTF-16 or UTF-32 in the file."""
    if encoding is not None or path.is_dir():
        return encoding
    first = _read_first(path)
    return next((name for mark, name in MARKS.items() if first.startswith(mark)), None)


def check_is_text(path: Path) -> None:
    """Check a file's first bytes.

    Raises:
        UserError: they are those of another kind of file.
    """
    first = _read_first(path)
    for magic, (what, fix) in NOT_TEXT.items():
        if first.startswith(magic):
            raise UserError(f"this is {what}", where=printable_path(path), fix=fix)


def _read_first(path: Path) -> bytes:
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"cannot be opened: {error.strerror}",
            where=printable_path(path),
            fix="check its permissions",
        ) from None
    with damage_is_the_users(path), open_bytes(path) as file:
        return bytes(file.read(16))


def read_lines(path: Path, encoding: str | None) -> Iterator[str]:
    r"""Yield each line with its end (\n, \r\n or \r), without a byte-order mark.

    Args:
        path: a text file.
        encoding: a codec of Python; None is UTF-8.

    Raises:
        UserError: bytes that are not in this encoding, or a NUL, with the line.
    """
    file = io.TextIOWrapper(open_bytes(path), encoding=encoding or "utf-8", newline="")
    with damage_is_the_users(path), file:
        number = 0
        try:
            for line in file:
                number += 1
                if "\0" in line:
                    raise UserError(
                        f"NUL byte on line {number}, so it is damaged or no text in this encoding",
                        where=printable_path(path),
                        fix="save the file as UTF-8, or name its encoding with --encoding",
                    )
                yield line.removeprefix("\ufeff") if number == 1 else line
        except UnicodeError as error:
            raise not_in_encoding(path, encoding, error) from None


def not_in_encoding(
    path: Path, encoding: str | None, error: UnicodeError, *, fix: str = NAME_ENCODING
) -> UserError:
    """Name the byte and its line; the error only knows its position in some block of bytes."""
    name = encoding or "UTF-8"
    where = printable_path(path)
    decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
    lines, ends_in_cr = 1, False
    with open_bytes(path) as file:
        try:
            while block := file.read(BLOCK_BYTES):
                text = decoder.decode(block)
                lines += len(LINE_BREAK.findall(text)) - (ends_in_cr and text.startswith("\n"))
                ends_in_cr = text.endswith("\r") if text else ends_in_cr
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as found:
            text = found.object[: found.start].decode(encoding or "utf-8", errors="replace")
            lines += len(LINE_BREAK.findall(text)) - (ends_in_cr and text.startswith("\n"))
            what = f"byte 0x{found.object[found.start]:02X} on line {lines} is not {name}"
            raw = found.object[found.object.rfind(b"\n", 0, found.start) + 1 :].splitlines()[0]
            if fix == NAME_ENCODING and (fitting := _find_encodings(path, raw)):
                fix = f"name the encoding in which it reads right, with --encoding: {fitting}"
            return UserError(what, where=where, fix=fix)
        except UnicodeError as found:
            error = found
    return UserError(f"not {name}: {printable(error)}", where=where, fix=fix)


def _find_encodings(path: Path, line: bytes) -> str:
    """The usual encodings that decode a file, with the beginning of a line as each reads it."""
    fitting = []
    for name in USUAL_ENCODINGS:
        try:
            with io.TextIOWrapper(open_bytes(path), encoding=name) as file:
                while file.read(BLOCK_BYTES):
                    pass
            fitting.append(f"{name} ({reprlib.repr(line.decode(name))})")
        except UnicodeError:
            continue
    return ", ".join(fitting)
