"""Read Parquet, Arrow and `save_to_disk` files; damaged files are refused, types are kept.

Text is pa.string() whatever the file calls it (large, view, dictionary). The schema's metadata is kept:
`datasets` puts the names of the labels there.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from plainloop.data.files.text import damage_is_the_users
from plainloop.errors import UserError, printable, printable_path

# Far more than real footers need, and far less than a damaged length can ask for.
PARQUET_LIMITS = {"thrift_string_size_limit": 2**24, "thrift_container_size_limit": 2**20}
SMALLEST_PARQUET = 12  # bytes: the magic twice and the length of the footer
Batches = Callable[[], Iterator[pa.RecordBatch]]  # each call reads the file from its beginning
PARQUET_MAGIC, ARROW_MAGIC = b"PAR1", b"ARROW1"


def open_parquet(path: Path, rows: int) -> tuple[pa.Schema, Batches]:
    """Stream a Parquet file, its checksums verified if it has them.

    Raises:
        UserError: not Parquet, cut short, or damaged; damaged pages when they are reached.
    """
    _check_parquet_ends(path)

    def open_file() -> pq.ParquetFile:
        return pq.ParquetFile(path, page_checksum_verification=True, **PARQUET_LIMITS)

    with damage_is_the_users(path), open_file() as file:
        schema = _plain(file.schema_arrow)

    def batches() -> Iterator[pa.RecordBatch]:
        """All rows, or an error: never fewer in silence."""
        num_rows = 0
        with damage_is_the_users(path), open_file() as file:
            for batch in file.iter_batches(batch_size=rows):
                batch.validate(full=True)
                num_rows += batch.num_rows
                yield batch.cast(schema)
            if num_rows != file.metadata.num_rows:  # Arrow stops where the shortest column ends
                raise pa.ArrowInvalid(f"{num_rows} of {file.metadata.num_rows} rows were read")

    return schema, batches


def open_arrow(path: Path) -> tuple[pa.Schema, Batches]:
    """Stream an Arrow file, of the file or of the stream format.

    Raises:
        UserError: not Arrow, cut short, or damaged; damaged batches when they are reached.
    """
    with path.open("rb") as file:
        is_file_format = file.read(len(ARROW_MAGIC)) == ARROW_MAGIC
    open_reader = pa.ipc.open_file if is_file_format else pa.ipc.open_stream
    with damage_is_the_users(path), pa.OSFile(str(path)) as source:
        schema = _plain(open_reader(source).schema)

    def batches() -> Iterator[pa.RecordBatch]:
        """Read and validate one record batch after the other."""
        with damage_is_the_users(path), pa.OSFile(str(path)) as source:
            reader = open_reader(source)
            found = reader
            if is_file_format:
                found = map(reader.get_batch, range(reader.num_record_batches))
            for batch in found:
                batch.validate(full=True)
                yield batch.cast(schema)

    return schema, batches


def find_saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder that `Dataset.save_to_disk` wrote, as its state.json lists them.

    Raises:
        UserError: another folder, several splits, or names that lead out of the folder.
    """
    where = printable_path(folder)
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        raise UserError(
            f"holds several splits: {printable(', '.join(splits))}",
            where=where,
            fix=f"give the folder of one, such as {where}/{printable(splits[0])}" if splits else "",
        )
    if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
        raise UserError(
            "a folder that save_to_disk did not write (no state.json and dataset_info.json)",
            where=where,
            fix="give a file, a pattern such as 'DIR/*.csv', or a folder with a folder of .txt files "
            "for each class",
        )
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError("state.json is damaged", where=where, fix="save the data again") from None
    for name in names:
        if name != Path(name).name or "\\" in name:
            raise UserError(
                f"state.json names '{printable(name)}', which is not a file of this folder",
                where=where,
                fix="save the data again",
            )
        if not (folder / name).is_file():
            raise UserError(f"'{printable(name)}' is missing", where=where, fix="copy it again")
    if not names:
        raise UserError("no rows in the folder", where=where, fix="give data with rows")
    return [folder / name for name in names]


def _check_parquet_ends(path: Path) -> None:
    with path.open("rb") as file:
        first = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(0, size - 4))
        last = file.read(4)
    if first != PARQUET_MAGIC:
        what, fix = "not a Parquet file", "name it by what it is: csv, tsv, json or jsonl"
    elif last != PARQUET_MAGIC or size < SMALLEST_PARQUET:
        what, fix = "damaged: the footer at its end is missing", "copy or write it again"
    else:
        return
    raise UserError(what, where=printable_path(path), fix=fix)


def _plain(schema: pa.Schema) -> pa.Schema:
    fields = []
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        fields.append(field.with_type(pa.string() if is_text else kind))
    return pa.schema(fields, schema.metadata)
