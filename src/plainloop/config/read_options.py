"""How to read files of rows: the settings that train, check, evaluate and predict share."""

from dataclasses import dataclass
from typing import Literal

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read files of rows; each option is found from the file if it is not given."""

    encoding: str | None = None
    """Encoding of text files, as in latin-1 or cp949. Default: UTF-8."""

    separator: str | None = None
    """Separator of columns in text files: one character, or tab. Default: found in the rows."""

    header: bool | None = None
    """Whether the first row has the column names; without them they are 1, 2, ... Default: yes."""

    sheet: str | None = None
    """Sheet of a spreadsheet (the extra excel). Default: the only one that has rows."""

    quotes: Literal["text", "enclose"] | None = None
    """Whether double quotes are text or enclose fields. Default: found in the rows, as csv has them."""
