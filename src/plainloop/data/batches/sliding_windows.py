"""Overlapping windows of long texts: tokenize, batch, and average the logits of each row."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from types import MethodType
from typing import Any

import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

from plainloop.errors import UserError


def check_stride(
    tokenizer: PreTrainedTokenizerBase, num_texts: int, max_length: int | None, stride: int
) -> int:
    """Check that windows of these sizes can be made.

    Args:
        tokenizer: the model's own.
        num_texts: texts of a row, 1 or 2.
        max_length: tokens of a window, the special ones included; None: the model's limit.
        stride: tokens of the text that neighbouring windows share.

    Returns:
        Tokens of a window, the special ones included.

    Raises:
        UserError: there is no maximum length, the stride leaves too few new tokens per window, or
            the tokenizer does not report its special tokens.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} cannot make windows: it is not of the tokenizers library",
            where="--stride",
            fix="leave it out, so that long texts are truncated, or choose another model",
        )
    length = max_length or tokenizer.model_max_length
    if length > 10**9:  # what transformers writes if there is no limit
        raise UserError(
            "the model takes texts of any length, so nothing says how long a window is",
            where="--stride",
            fix="give --max-length",
        )
    # Two long texts share the room.
    room = (length - tokenizer.num_special_tokens_to_add(pair=num_texts > 1)) // num_texts
    if not 0 <= stride < room:
        raise UserError(
            f"{stride} shared tokens, but a window of {length} has room for {room} of a text",
            where="--stride",
            fix=f"give 0 to {room - 1}" if room > 0 else "give a larger --max-length",
        )
    return int(length)


def tokenize_windows(
    rows: Mapping[str, Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    text_columns: Sequence[str],
    max_length: int,
    stride: int,
) -> dict[str, list[list[list[int]]]]:
    """Tokenize texts into windows, for `datasets.map(batched=True)`.

    The windows of a text are those of a fast tokenizer's `return_overflowing_tokens=True`. In a
    pair that is too long, every window holds all of the shorter text if that takes at most half of
    the room, as in truncation="longest_first". If both texts are longer than that, both slide:
    the first windows of both make the first window of the row, and so on, and the text with fewer
    windows starts again from its first. The library would combine each with each.

    Args:
        rows: the texts of a batch of rows.
        tokenizer: a fast one.
        text_columns: one column, or two for a pair.
        max_length: tokens of a window, the special ones included.
        stride: tokens of a text that neighbouring windows share.

    Returns:
        input_ids, attention_mask, ... as the model takes them: rows x windows x tokens.
    """
    texts = [rows[column] for column in text_columns]
    template = _special_tokens_around(tokenizer, len(texts))
    room = max_length - tokenizer.num_special_tokens_to_add(pair=len(texts) > 1)
    columns: dict[str, list[list[list[int]]]] = {
        name: []
        for name in ("input_ids", "token_type_ids", "attention_mask")
        if name in tokenizer.model_input_names
    }
    # verbose=False: that a text is longer than the model takes is what windows are for.
    ids_of_texts = [
        tokenizer(list(column), add_special_tokens=False, verbose=False)["input_ids"]
        for column in texts
    ]
    for ids_of_row in zip(*ids_of_texts, strict=True):
        windows = [_fill(template, ids) for ids in _split(ids_of_row, room, stride)]
        for name, column in columns.items():
            column.append([window[name] for window in windows])
    return columns


def _split(ids_of_row: Sequence[list[int]], room: int, stride: int) -> list[list[list[int]]]:
    """A row's windows: for each the tokens of its text, or of its two texts."""
    if len(ids_of_row) == 1:
        sizes = [room]
    else:
        first, second = map(len, ids_of_row)
        shorter = min(first, second, room // 2)
        sizes = [shorter, room - shorter] if first <= second else [room - shorter, shorter]
    slides = [
        [ids]
        if sum(map(len, ids_of_row)) <= room or len(ids) <= size
        else [ids[at : at + size] for at in range(0, len(ids) - stride, size - stride)]
        for ids, size in zip(ids_of_row, sizes, strict=True)
    ]
    return [[slide[n % len(slide)] for slide in slides] for n in range(max(map(len, slides)))]


def _special_tokens_around(
    tokenizer: PreTrainedTokenizerBase, num_texts: int
) -> list[tuple[int | None, list[int], int]]:
    """How the tokenizer joins texts: (number of the text or None, special tokens, type) a part."""
    encoding = tokenizer(*["a"] * num_texts)[0]
    tokens = list(zip(encoding.sequence_ids, encoding.ids, encoding.type_ids, strict=True))
    return [
        (text, [token for _, token, _ in part], token_type)
        for (text, token_type), part in groupby(tokens, key=lambda token: (token[0], token[2]))
    ]


def _fill(
    template: Sequence[tuple[int | None, list[int], int]], ids: Sequence[list[int]]
) -> dict[str, list[int]]:
    parts = [
        (special if text is None else ids[text], token_type)
        for text, special, token_type in template
    ]
    input_ids = [token for tokens, _ in parts for token in tokens]
    return {
        "input_ids": input_ids,
        "token_type_ids": [token_type for tokens, token_type in parts for _ in tokens],
        "attention_mask": [1] * len(input_ids),
    }


class WindowCollator:
    """Rows with windows -> a batch of all their windows.

    A batch holds input_ids, attention_mask, ... (int64, windows of all rows x tokens of the longest
    window), windows (int64, rows: how many windows each row has) and the rows' other columns, such
    as labels, as they are (rows, ...).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.pad, self.names = DataCollatorWithPadding(tokenizer), tokenizer.model_input_names

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch of rows whose model inputs are lists of windows."""
        inputs = [name for name in rows[0] if name in self.names]
        windows = [
            dict(zip(inputs, window, strict=True))
            for row in rows
            for window in zip(*(row[name] for name in inputs), strict=True)
        ]
        batch: dict[str, torch.Tensor] = dict(self.pad(windows))
        batch["windows"] = torch.tensor([len(row["input_ids"]) for row in rows])
        for name in [name for name in rows[0] if name not in inputs]:
            batch[name] = torch.stack([torch.as_tensor(row[name]) for row in rows])
        return batch


def pool_windows(model: PreTrainedModel) -> PreTrainedModel:
    """Let a classifier take the batches of a `WindowCollator`; any other batch goes as before.

    A row's logits are the mean of its windows' logits, and the loss is the model's own
    (`model.loss_function`) of these. Where no gradient is asked for, as many windows as there are
    rows run at a time, so that the memory is that of the batch size; in training all of them do.

    Only this object's `forward` changes: weights and what `save_pretrained` writes stay.

    Args:
        model: a ForSequenceClassification model, with LoRA or without.

    Returns:
        The same model.
    """
    # A method, which copy.deepcopy and accelerate's mixed precision bind to the right object.
    # The class's, or as `ignore_neighbours` has changed it.
    model.forward_inputs = model.forward  # type: ignore[assignment]
    model.forward = MethodType(_forward_windows, model)
    return model


def _forward_windows(
    self: Any,
    *args: Any,
    windows: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    **inputs: Any,
) -> Any:
    forward = self.forward_inputs
    if windows is None:
        return forward(*args, labels=labels, **inputs)
    counts = windows.tolist()
    at_once = sum(counts) if torch.is_grad_enabled() else len(counts)
    pieces = [value.split(at_once) for value in inputs.values()]
    logits = torch.cat(
        [
            forward(**dict(zip(inputs, piece, strict=True))).logits
            for piece in zip(*pieces, strict=True)
        ]
    )
    pooled = torch.stack([of_row.mean(dim=0) for of_row in torch.split_with_sizes(logits, counts)])
    loss = None
    if labels is not None:
        loss = self.loss_function(labels=labels, pooled_logits=pooled, config=self.config)
    return SequenceClassifierOutput(loss=loss, logits=pooled)
