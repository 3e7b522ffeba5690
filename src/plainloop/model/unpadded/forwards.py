"""Unpadded execution: a model computes the real tokens of a batch as one row.

The model's objects stay as they are; the forward of some of its modules is replaced, so that the
state dict, saving, hooks on its linear layers, gradient checkpointing and DDP do not notice. Only
attention looks at sequences (attention.py), and the last layer computes the first token of each
alone, where the classifier reads no other.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedModel

from plainloop.model.unpadded.dropout import drop
from plainloop.model.unpadded.layers import (
    bert_layer,
    distilbert_layer,
    has_hooks,
    modernbert_layer,
)
from plainloop.model.unpadded.packing import Packed, find_tokens

LAYERS: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {
    "bert": ("encoder.layer", bert_layer),
    "roberta": ("encoder.layer", bert_layer),
    "xlm-roberta": ("encoder.layer", bert_layer),
    "camembert": ("encoder.layer", bert_layer),
    "electra": ("encoder.layer", bert_layer),
    "distilbert": ("transformer.layer", distilbert_layer),
    "modernbert": ("layers", modernbert_layer),
}
"""By the model type of their configuration: where the layers are, and what computes one."""
CALLED = (nn.Linear, nn.LayerNorm)
"""Modules within a layer that are called as before, so that hooks on them are."""


def why_padded(model: PreTrainedModel) -> str | None:
    """Why a model, with adapters or without, cannot run unpadded; None where it can."""
    model = without_adapters(model)
    config = model.config
    if config.model_type not in LAYERS:
        return f"{type(model).__name__} runs padded alone"
    stock: object = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    if type(model) is not stock:
        return f"{type(model).__name__} is not Transformers' own class"
    if getattr(config, "is_decoder", False):
        return "a decoder"
    return None


def run_unpadded(model: PreTrainedModel) -> None:
    """Let a classifier of Transformers run unpadded, in training and prediction.

    It takes and returns what it did. A batch that is not padded at the right alone, and calls that
    ask for hidden states, attentions or anything else than logits and a loss, run padded as before;
    so does a model with hooks on what is not called any more (the parts of a layer, but not its
    linear layers and norms). With hooks on the last layer it computes all tokens.

    Raises:
        ValueError: `why_padded` says why it cannot.
    """
    reason = why_padded(model)
    if reason is not None:
        raise ValueError(reason)
    model = without_adapters(model)
    base: Any = model.base_model
    path, compute = LAYERS[model.config.model_type]
    layers = base.get_submodule(path)
    reads_first = getattr(model.config, "classifier_pooling", "cls") == "cls"
    for layer in layers:
        shortens = reads_first and layer is layers[-1]
        layer.forward = partial(_forward_layer, layer, compute, shortens)
    for module in base.embeddings.modules():
        if isinstance(module, nn.Dropout):
            module.forward = partial(drop, module)  # type: ignore[method-assign]
    base.forward = partial(_forward_base, base, layers)
    encoder_path = path.rpartition(".")[0]
    if encoder_path:  # what follows it, a pooler, reads the first token of each sequence
        encoder = base.get_submodule(encoder_path)
        encoder.forward = partial(_forward_encoder, encoder)


def without_adapters(model: Any) -> PreTrainedModel:
    """The classifier within peft's model; adapters sit within its layers. Any other as it is."""
    classifier: PreTrainedModel = (
        model.get_base_model() if hasattr(model, "get_base_model") else model
    )
    return classifier


def _forward_base(
    base: Any,
    layers: nn.ModuleList,
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    token_type_ids: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    others = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
    packed = None
    if (
        input_ids is not None
        and kwargs.get("return_dict", True)
        and all(value is None for name, value in kwargs.items() if name != "return_dict")
        and not (base.config.output_hidden_states or base.config.output_attentions)
        and not any(has_hooks(module) for module in bypassed(layers))
    ):
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        packed = find_tokens(attention_mask)
    if packed is None or input_ids is None:
        return type(base).forward(
            base, input_ids, attention_mask=attention_mask, **others, **kwargs
        )
    output = type(base).forward(
        base,
        packed.pack(input_ids),
        attention_mask={"full_attention": None, "sliding_attention": None}
        if base.config.model_type == "modernbert"
        else None,
        position_ids=packed.pack(position_ids_of(base, input_ids)),
        packed=packed,
        **{name: packed.pack(values) for name, values in others.items()},
    )
    output.last_hidden_state = unpack_states(output.last_hidden_state, packed)
    return output


def _forward_encoder(encoder: Any, *args: Any, packed: Packed | None = None, **kwargs: Any) -> Any:
    if packed is None:
        return type(encoder).forward(encoder, *args, **kwargs)
    output = type(encoder).forward(encoder, *args, packed=packed, **kwargs)
    output.last_hidden_state = unpack_states(output.last_hidden_state, packed)
    return output


def _forward_layer(
    layer: Any,
    compute: Callable[..., torch.Tensor],
    shortens: bool,
    hidden_states: torch.Tensor,
    *args: Any,
    packed: Packed | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    if packed is None:
        output: torch.Tensor = type(layer).forward(layer, hidden_states, *args, **kwargs)
        return output
    rotations = {name: kwargs[name] for name in ("position_embeddings",) if name in kwargs}
    read = packed.first if shortens and not has_hooks(layer) else None
    return compute(layer, hidden_states[0], packed, read, **rotations).unsqueeze(0)


def unpack_states(states: torch.Tensor, packed: Packed) -> torch.Tensor:
    """The last layer's states as (sequences, tokens, size): of the first tokens, or of all."""
    if states.shape[0] == len(packed.lengths) and states.shape[0] > 1:
        return states  # they are already
    if states.shape[1] == len(packed.lengths):
        return states.transpose(0, 1)
    return packed.pad(states)


def position_ids_of(base: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """The positions that a model gives to the tokens of a padded batch: int64 (sequences, tokens)."""
    embeddings = base.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa and its kin
        positions: torch.Tensor = embeddings.create_position_ids_from_input_ids(
            input_ids, embeddings.padding_idx
        )
        return positions
    return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)


def bypassed(layers: nn.ModuleList) -> Iterator[nn.Module]:
    """The modules within the layers that a layer's replaced forward does not call."""
    for layer in layers:
        for module in layer.modules():
            if module is not layer and not isinstance(module, CALLED):
                yield module
