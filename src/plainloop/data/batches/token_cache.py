"""Cache of tokenized rows: its folder, and the key of the rows and tokenizer."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from plainloop.atomic_file import hash_file, write_json
from plainloop.console import say
from plainloop.data.row_hash import hash_rows
from plainloop.errors import MachineError

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedTokenizerBase

PACKAGES = ("transformers", "tokenizers", "datasets")
HASHES_FILE = "sha256.json"


def token_cache_dir() -> Path:
    """Plainloop's folder in datasets' own cache, which HF_DATASETS_CACHE and HF_HOME move."""
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "plainloop-tokenized"


def token_cache_key(
    raw: "DatasetDict",
    tokenizer: "PreTrainedTokenizerBase",
    text_columns: Sequence[str],
    max_length: int | None,
    stride: int | None,
) -> str:
    """SHA-256 of all that tokenized rows depend on: as `tokenize_splits`, and the libraries' versions."""
    with tempfile.TemporaryDirectory(prefix="plainloop-") as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()}
    tokenizer_file = json.loads(files.pop("tokenizer.json", "{}"))
    for of_the_last_call in ("truncation", "padding"):
        tokenizer_file.pop(of_the_last_call, None)
    parts = {
        "rows": {split: hash_rows(raw[split]) for split in raw},
        "tokenizer": [type(tokenizer).__name__, tokenizer_file, files],
        # Set on a loaded tokenizer, these are not in its saved files.
        "changes": [tokenizer.truncation_side, tokenizer.model_input_names],
        "text_columns": list(text_columns),
        "max_length": max_length,
        "stride": stride,
        "versions": {name: version(name) for name in PACKAGES},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def is_intact(folder: Path) -> bool:
    """Whether a folder of the cache has tokenized rows, with the hashes that they were written with.

    A warning names the folder if its files are damaged: they are then made again.
    """
    hashes = None
    try:
        hashes = json.loads((folder / HASHES_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError):
        pass  # damaged
    if hashes == _hash_files(folder):
        return True
    say("Warning", f"tokenized again, since the rows that were kept are damaged: {folder}")
    return False


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of the files of tokenized rows, which make a folder valid."""
    write_json(folder / HASHES_FILE, _hash_files(folder))


def _hash_files(folder: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in folder.glob("*.arrow")}


@contextmanager
def explained_cache_errors(folder: Path) -> Iterator[None]:
    """Say in one line that the cache cannot be written.

    Raises:
        MachineError: no right to write there, no room, or no folder can be made.
    """
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"tokenized rows cannot be kept: {error}",
            where=str(folder),
            fix="set HF_DATASETS_CACHE to a folder that can be written and has room",
        ) from error
