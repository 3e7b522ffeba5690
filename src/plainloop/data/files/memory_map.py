"""Memory-map large tables from a temporary file, so that memory does not grow with them."""

import mmap
import tempfile
from pathlib import Path

import pyarrow as pa

LARGE_BYTES = 2**26


def hold_on_disk(table: pa.Table) -> pa.Table:
    """A table as it is, or where it is large, from a file that this process maps.

    The file lies in datasets' own cache (`HF_DATASETS_CACHE`), has no name, and goes when the table
    does or the process ends, in whatever way. Mapped pages are read again when they are needed: the system
    takes them back before it runs out of memory. Where no file can be made the table stays in memory.

    Args:
        table: of any columns. Its memory is free when the caller drops it.
    """
    if table.nbytes <= LARGE_BYTES or table.num_rows == 0:
        return table
    from datasets import config

    folder = Path(config.HF_DATASETS_CACHE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            with pa.ipc.new_file(pa.PythonFile(file, mode="w"), table.schema) as writer:
                writer.write_table(table)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        return table
    return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
