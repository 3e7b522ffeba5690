"""Load a checkpoint's tokenizer, with the model's limit and inputs, and with a padding token."""

import inspect
import logging

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from plainloop.errors import UserError, printable
from plainloop.model.load import explain_load_errors
from plainloop.model.padding import padded_positions

SMALLEST_SHARE = 0.1
"""The share of the embedding table that a tokenizer's vocabulary must have to be this model's."""

logger = logging.getLogger(__name__)


def load_tokenizer(pretrained: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer that gives what the model takes.

    Its `model_max_length` is at most what the model can embed, in tokens; its inputs are those of the
    model's forward pass; and it has a padding token if it has any end-of-text token: that one is
    used if there is no other, and a warning says so.

    Args:
        pretrained: a folder or hub name, as `resolve_model` gives it.

    Raises:
        UserError: it cannot be loaded, or is not this model's: without vocabulary, or with a tenth of
            the model's embeddings.
    """
    with explain_load_errors(pretrained):
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            pretrained,
            config=config,  # it would read the same file itself
            trust_remote_code=False,
        )
        with torch.device("meta"):  # shapes only
            model = AutoModelForSequenceClassification.from_config(config)
        _check_vocabulary(tokenizer, model, pretrained)
        tokenizer.model_max_length = min(tokenizer.model_max_length, _most_tokens(model))
        if not tokenizer.model_max_length > 0:
            what = f"the tokenizer's model_max_length is {tokenizer.model_max_length}"
            raise UserError(
                what, where=f"--model {printable(pretrained)}", fix="copy its files again"
            )
        inputs = _model_inputs(model)
        tokenizer.model_input_names = [
            name for name in tokenizer.model_input_names if name in inputs
        ]
        if "input_ids" not in tokenizer.model_input_names:
            raise ValueError("its tokenizer's model_input_names have no input_ids")
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
        logger.warning(
            "%s has no padding token: rows are padded with its end-of-text token %s",
            printable(pretrained),
            printable(str(tokenizer.eos_token)),
        )
    return tokenizer


def _check_vocabulary(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, pretrained: str
) -> None:
    """Check that the folder has a tokenizer: transformers makes an empty one if it has none.

    Raises:
        UserError: it knows no or too few tokens.
    """
    known = getattr(model.config.get_text_config(), "vocab_size", 0)
    words = len(tokenizer) - len(set(tokenizer.all_special_ids))
    if words <= 0 or len(tokenizer) < SMALLEST_SHARE * known:
        raise UserError(
            f"the tokenizer knows {len(tokenizer)} tokens, the model {known}: its files are missing "
            "or another model's",
            where=f"--model {printable(pretrained)}",
            fix="copy tokenizer.json or the vocabulary files of this model there",
        )


def _most_tokens(model: PreTrainedModel) -> int:
    """Tokens of a row for which the model has positions; those with rotary positions name a limit too."""
    if padded := padded_positions(model):
        rows, padding = padded
        return rows - padding - 1
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit >= 1 else 10**30  # XLNet has -1: any number


def _model_inputs(model: PreTrainedModel) -> set[str]:
    """The inputs of a model's forward pass; without token_type_ids if it knows one type only."""
    inputs = {*inspect.signature(model.forward).parameters}
    if getattr(model.config.get_text_config(), "type_vocab_size", 2) < 2:  # noqa: PLR2004 - two texts
        inputs.discard("token_type_ids")
    return inputs
