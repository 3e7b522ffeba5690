"""How many floating point operations of matrix products a BERT classifier needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

TRAINING = 3
"""How often the forward pass's products: a product's two gradients are a product of its size each.

None can be left out: the lowest layer's input has a gradient too, that of the embeddings.
"""


@dataclass(frozen=True)
class Sizes:
    """The sizes of an encoder of BERT's kind, as its configuration has them.

    Attributes:
        hidden, intermediate: numbers of a token, and within a feed-forward network.
        layers: of the encoder.
        labels: logits of a row.
    """

    hidden: int
    intermediate: int
    layers: int
    labels: int

    @classmethod
    def of(cls, config: Any, labels: int) -> Self:
        """The sizes of a transformers configuration.

        Raises:
            ValueError: it is not BERT's.
        """
        if config.model_type != "bert":
            raise ValueError(f"the products of {config.model_type} are not known, only BERT's")
        return cls(config.hidden_size, config.intermediate_size, config.num_hidden_layers, labels)


def layer_flops(sizes: Sizes, lengths: Sequence[int], read: Sequence[int]) -> int:
    """FLOPs of the products of one layer, forward; a multiplication and an addition are two.

    Keys and values of all tokens; queries, output projection and feed-forward network of those
    tokens that are read.

    Args:
        sizes: of the model.
        lengths: tokens of each row, without padding.
        read: tokens of each row whose output is read.
    """
    hidden = sizes.hidden
    keys_and_values = 2 * 2 * hidden * hidden
    queries_and_output = 2 * 2 * hidden * hidden
    feed_forward = 2 * 2 * hidden * sizes.intermediate
    # Scores and their products with the values, all heads together.
    attention = sum(
        2 * 2 * hidden * number * length for number, length in zip(read, lengths, strict=True)
    )
    return (
        sum(lengths) * keys_and_values + sum(read) * (queries_and_output + feed_forward) + attention
    )


def head_flops(sizes: Sizes, rows: int) -> int:
    """FLOPs of the pooler and the classifier, forward."""
    return rows * 2 * sizes.hidden * (sizes.hidden + sizes.labels)


def needed_flops(sizes: Sizes, lengths: Sequence[int]) -> int:
    """FLOPs of the products that the logits of a batch need: no padding, the last layer's first tokens.

    Args:
        sizes: of the model.
        lengths: tokens of each row, without padding.
    """
    first_tokens = [1] * len(lengths)
    return (
        (sizes.layers - 1) * layer_flops(sizes, lengths, lengths)
        + layer_flops(sizes, lengths, first_tokens)
        + head_flops(sizes, len(lengths))
    )
