"""What a split holds, as one number."""

import hashlib
import io
from typing import Any

import pyarrow as pa

ROWS_HASHED_TOGETHER = 10_000
"""Part of the digest: with another number, runs would not know their rows again."""


class _Digest(io.RawIOBase):
    """A file that keeps nothing but the SHA-256 of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)


def hash_rows(rows: Any) -> str:
    """SHA-256 of a split's rows, in their order."""
    digest = _Digest()
    schema = rows.features.arrow_schema.remove_metadata()
    with pa.ipc.new_stream(pa.PythonFile(digest), schema) as stream:
        for block in rows.with_format("arrow").iter(ROWS_HASHED_TOGETHER):
            # Taken, since Arrow writes more of a part of an array than the part's own values.
            own = block.take(pa.array(range(block.num_rows))).combine_chunks()
            stream.write_table(own.replace_schema_metadata(None))
    return digest.sha256.hexdigest()
