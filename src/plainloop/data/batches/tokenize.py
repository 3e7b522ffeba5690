"""Tokenize raw splits, and keep the columns that the model and the loop take."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainloop.console import shows_bars
from plainloop.data.batches.sliding_windows import check_stride, tokenize_windows
from plainloop.data.batches.token_cache import (
    explained_cache_errors,
    is_intact,
    token_cache_key,
    write_hashes,
)
from plainloop.errors import UserError

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedTokenizerBase


def check_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", num_texts: int, max_length: int | None
) -> None:
    """Check that a tokenizer can make batches of so many tokens a row.

    Raises:
        UserError: max_length is above the model's limit or leaves no room for text, or the
            tokenizer cannot pad.
    """
    if max_length is not None and max_length > tokenizer.model_max_length:
        raise UserError(
            f"{max_length} tokens are more than the model takes",
            where="--max-length",
            fix=f"give at most {tokenizer.model_max_length}",
        )
    special = tokenizer.num_special_tokens_to_add(pair=num_texts > 1)
    if max_length is not None and max_length <= special:
        raise UserError(
            f"{max_length} tokens leave no room for text next to the {special} special ones",
            where="--max-length",
            fix=f"give more than {special}",
        )
    if tokenizer.pad_token is None:
        raise UserError(
            "the tokenizer has no padding token, so its rows cannot share a batch",
            where="--model",
            fix="choose a model made for classification, or set tokenizer.pad_token and save it",
        )


def create_tokenize(
    tokenizer: "PreTrainedTokenizerBase",
    text_columns: Sequence[str],
    max_length: int | None,
    stride: int | None,
) -> Callable[[Mapping[str, Sequence[str]]], Any]:
    """The function that tokenizes a batch of rows, given as columns; see `tokenize_splits`.

    Raises:
        UserError: as `check_stride`.
    """
    if stride is not None:
        return partial(
            tokenize_windows,
            tokenizer=tokenizer,
            text_columns=text_columns,
            max_length=check_stride(tokenizer, len(text_columns), max_length, stride),
            stride=stride,
        )

    def tokenize(rows: Mapping[str, Sequence[str]]) -> Any:
        texts = [list(rows[column]) for column in text_columns]
        return tokenizer(*texts, truncation=True, max_length=max_length)

    return tokenize


def tokenize_splits(
    raw: "DatasetDict",
    tokenizer: "PreTrainedTokenizerBase",
    text_columns: Sequence[str],
    max_length: int | None = None,
    *,
    stride: int | None = None,
    cache_dir: Path | None = None,
) -> "DatasetDict":
    """Add the tokenizer's columns (input_ids, attention_mask, ...) to every split, in batches.

    Args:
        raw: the splits as read.
        tokenizer: the model's own.
        text_columns: one column, or two for a pair.
        max_length: tokens kept of a row, the special ones included; None: the model's limit.
            Nothing is padded here: a batch is padded to its own longest row when it is made.
        stride: cut a text that is longer into windows that share so many tokens, instead of
            truncating it; each column then holds a list for each window.
        cache_dir: a folder for the result, which is then mapped and not held in memory. The same
            rows, tokenized there before in the same way, by whatever process, are taken from it, if
            the files still have the SHA-256 that they were written with.

    Raises:
        UserError: as `check_tokenizer`, or `check_stride`.
        MachineError: the folder cannot be written.
    """
    check_tokenizer(tokenizer, len(text_columns), max_length)
    tokenize = create_tokenize(tokenizer, text_columns, max_length, stride)
    if cache_dir is None:
        with bars_of_datasets():
            return raw.map(tokenize, batched=True, desc="Tokenizing", keep_in_memory=True)
    folder = cache_dir / token_cache_key(raw, tokenizer, text_columns, max_length, stride)
    # A tokenizer is saved with the truncation of its last call, whether the cache spares the others.
    tokenize({column: [""] for column in text_columns})
    with bars_of_datasets(), explained_cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        found = is_intact(folder)
        tokenized = raw.map(
            tokenize,
            batched=True,
            desc="Tokenizing",
            cache_file_names={split: str(folder / f"{split}.arrow") for split in raw},
            load_from_cache_file=found,
        )
        if not found:
            write_hashes(folder)
    return tokenized


@contextmanager
def bars_of_datasets() -> Iterator[None]:
    """Hide the progress bars of `datasets` within the block if plainloop shows none."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hides = not (shows_bars() or are_progress_bars_disabled())
    if hides:
        disable_progress_bars()
    try:
        yield
    finally:
        if hides:
            enable_progress_bars()


def keep_model_inputs(
    tokenized: "DatasetDict", tokenizer: "PreTrainedTokenizerBase"
) -> "DatasetDict":
    """Drop what neither the model takes nor the loop, and rename label to labels.

    Rows stay lists: a batch becomes tensors at once, when it is padded. With the format "torch" each row
    would before, and a batch of 32 rows take 6 ms instead of 1.5.
    """
    keep = {*tokenizer.model_input_names, "label", "idx"}
    columns = next(iter(tokenized.values())).column_names
    drop = [name for name in columns if name not in keep]
    return tokenized.remove_columns(drop).rename_column("label", "labels")
