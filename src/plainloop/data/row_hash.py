"""SHA-256 of a split's rows, by which a run recognizes its data."""

import hashlib
import io
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa

ROWS_HASHED_TOGETHER = 10_000
"""Part of the digest: with another number, runs would not recognize their rows."""
# The token cache, the fingerprint and every seed of a run need the hash of the same splits.
_known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


class _Digest(io.RawIOBase):
    """A file object that only keeps the SHA-256 of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)


def hash_rows(rows: Any) -> str:
    """SHA-256 of a split's rows, in their order; computed once for each `datasets.Dataset` object."""
    if rows not in _known:
        _known[rows] = _hash(rows)
    return _known[rows]


def _hash(rows: Any) -> str:
    digest = _Digest()
    schema = rows.features.arrow_schema.remove_metadata()
    with pa.ipc.new_stream(pa.PythonFile(digest), schema) as stream:
        for block in rows.with_format("arrow").iter(ROWS_HASHED_TOGETHER):
            # Copied, since of a slice Arrow would write more than the slice's own values.
            copy = block.take(pa.array(range(block.num_rows))).combine_chunks()
            stream.write_table(copy.replace_schema_metadata(None))
    return digest.sha256.hexdigest()
