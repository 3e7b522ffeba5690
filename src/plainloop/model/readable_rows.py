"""Check that a model can read each row: it has tokens, one end of text, and no more than the positions."""

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plainloop.data.batches.loaders import Batch, model_inputs_of
from plainloop.data.quality.summary import DataCheck
from plainloop.errors import UserError, printable
from plainloop.model.load import token_embeddings, trial

WITHOUT_TOKENS = "without any token of this model"
MOST_UNKNOWN = 0.5
"""Share of tokens that the tokenizer may not know, as [UNK], of all training rows together."""

logger = logging.getLogger(__name__)


def check_rows(
    model: PreTrainedModel,
    dataloaders: Mapping[str, DataLoader[Batch]],
    tokenizer: PreTrainedTokenizerBase,
    check: DataCheck,
) -> None:
    """Check all rows before training, and run the longest through the model without a gradient.

    The random number generator is left as it was.

    Args:
        model: on the CPU; it is left in training mode.
        dataloaders: split -> its loader, not prepared.
        tokenizer: the model's own.
        check: of the same rows; it says how a person finds them.

    Raises:
        UserError: a row has no tokens, or the model's end-of-text token within its text; most tokens
            of the training rows are unknown to the tokenizer; a token or the padding token is
            beyond the embedding table, so that the tokenizer is another model's; or the forward pass of
            the longest row fails.
    """
    tokenizer = copy.deepcopy(tokenizer)  # a call sets its truncation, which its files would note
    problems, num_texts = [], len(check.task.text_columns)
    longest: tuple[int, Any, int] = (0, None, 0)
    highest = tokenizer.pad_token_id or 0
    for split, loader in dataloaders.items():
        rows: Any = loader.dataset
        input_ids = rows.with_format("arrow")["input_ids"]
        numbers = np.asarray(rows.with_format("numpy")["idx"])
        for what, found in find_unreadable(input_ids, tokenizer, model.config, num_texts):
            shown = check.show(split, numbers[found].tolist())
            fix = "give these rows a text, or leave them out"
            if what != WITHOUT_TOKENS:
                fix = "remove it from these texts: the model finds the end of a text by it"
            problems.append(UserError(f"{shown} {what}", where=split, fix=fix))
        mostly_unknown = find_unknown(input_ids, tokenizer, split)
        if len(mostly_unknown):
            logger.warning(
                "%s: %s have mostly tokens that the tokenizer does not know (%s)",
                split,
                check.show(split, numbers[mostly_unknown].tolist()),
                printable(str(tokenizer.unk_token)),
            )
        lengths = _lengths(input_ids)
        highest = max(highest, pc.max(_flatten(input_ids)).as_py() or 0)
        at = int(np.argmax(lengths))
        longest = max(longest, (int(lengths[at]), loader, at), key=lambda row: row[0])
    if problems:
        raise UserError.together(problems)
    table: Any = token_embeddings(model)
    if table is not None and highest >= len(table.weight):
        raise UserError(
            f"the tokenizer gives token {highest}, the model has {len(table.weight)} embeddings",
            where="--model",
            fix="its tokenizer is another model's: copy the right one into its folder",
        )
    _, loader, at = longest
    with trial(model), torch.no_grad():
        model.train()(**model_inputs_of(loader.collate_fn([loader.dataset[at]])))


def find_unreadable(
    input_ids: pa.Array | pa.ChunkedArray,
    tokenizer: PreTrainedTokenizerBase,
    config: Any,
    num_texts: int,
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Find rows that the model's head cannot read.

    An encoder-decoder's head reads the hidden state of the last end-of-text token, and needs equally
    many of them in all rows of a batch (`BartForSequenceClassification`).

    Args:
        input_ids: a list of tokens for each row, or of lists, one for each window.
        tokenizer: that they are from.
        config: the model's.
        num_texts: texts in a row, 1 or 2.

    Yields:
        What is wrong, and the positions of such rows.
    """
    without = np.flatnonzero(_lengths(input_ids) == 0)
    if len(without):
        yield WITHOUT_TOKENS, without
    end, has_decoder = (
        getattr(config, name, None) for name in ("eos_token_id", "is_encoder_decoder")
    )
    if not has_decoder or not isinstance(end, int) or _is_nested(input_ids):
        return
    # In lists: a second text that is empty would be none.
    expected = tokenizer(*[[""]] * num_texts)["input_ids"][0].count(end)
    ends = pc.equal(_flatten(input_ids), end).to_numpy(zero_copy_only=False)
    of_rows = pc.list_parent_indices(input_ids).to_numpy()
    counts = np.bincount(of_rows[np.asarray(ends, bool)], minlength=len(input_ids))
    if len(wrong := np.flatnonzero(counts > expected)):
        yield f"with {printable(str(tokenizer.eos_token))} in the text", wrong


def find_unknown(
    input_ids: pa.Array | pa.ChunkedArray, tokenizer: PreTrainedTokenizerBase, split: str
) -> NDArray[np.intp]:
    """Find rows of which most tokens are unknown to the tokenizer, special tokens aside.

    Args:
        input_ids: a list of tokens for each row, or of lists, one for each window.
        tokenizer: that they are from. Tokenizers like GPT-2's, whose unknown token is another special one too,
            know every byte.
        split: train is refused if it is so of all rows together.

    Returns:
        The positions of such rows.

    Raises:
        UserError: they are most of the training rows' tokens.
    """
    unknown = tokenizer.unk_token_id
    roles = ("bos", "eos", "pad", "cls", "sep", "mask")
    if unknown in {None, *(getattr(tokenizer, f"{role}_token_id", None) for role in roles)}:
        return np.empty(0, np.intp)
    special = [*{*tokenizer.all_special_ids, *tokenizer([""])["input_ids"][0]} - {unknown}]
    of_rows = pc.list_parent_indices(input_ids).to_numpy()
    if _is_nested(input_ids):
        of_rows = of_rows[pc.list_parent_indices(pc.list_flatten(input_ids)).to_numpy()]
    tokens = _flatten(input_ids).to_numpy()
    texts, unknowns = (
        np.bincount(of_rows[chosen], minlength=len(input_ids))
        for chosen in (~np.isin(tokens, special), tokens == unknown)
    )
    share = unknowns.sum() / max(texts.sum(), 1)
    if split == "train" and share > MOST_UNKNOWN:
        raise UserError(
            f"the tokenizer does not know {share:.0%} of the tokens of the training rows",
            where="--model",
            fix="choose a model for their language and script, or copy its own vocabulary files",
        )
    return np.flatnonzero(unknowns > MOST_UNKNOWN * texts)


def _flatten(input_ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.list_flatten(input_ids, recursive=True)


def _is_nested(input_ids: pa.Array | pa.ChunkedArray) -> bool:
    return bool(pa.types.is_nested(input_ids.type.value_type))


def _lengths(input_ids: pa.Array | pa.ChunkedArray) -> NDArray[np.intp]:
    """Tokens of each row; of the longest window, where a row has several."""
    if not _is_nested(input_ids):
        return np.asarray(pc.list_value_length(input_ids).to_numpy(), np.intp)
    windows = pc.list_value_length(pc.list_flatten(input_ids)).to_numpy()
    lengths = np.zeros(len(input_ids), np.intp)
    np.maximum.at(lengths, pc.list_parent_indices(input_ids).to_numpy(), windows)
    return lengths
