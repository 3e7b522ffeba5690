"""Unpadded execution: replaced forward methods compute a batch as one packed row of its real tokens.

The modules stay the same objects and only some `forward` attributes change, so the state dict,
saving, hooks on linear layers, gradient checkpointing and DDP work as before. Only attention needs
to know the sequences (attention.py). The last layer computes the first token of each sequence alone
if the classifier pools only that one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedModel

from plainloop.model.unpadded.decoders import ATTENTION, DECODERS, run_decoder_unpadded
from plainloop.model.unpadded.dropout import apply_dropout
from plainloop.model.unpadded.layers import LAYERS, has_hooks
from plainloop.model.unpadded.packing import Packed, pack_inputs
from plainloop.model.unpadded.padded_attention import PADDED_ATTENTION, run_with_padded_attention

CALLED_MODULES = (nn.Linear, nn.LayerNorm)
"""Modules within a layer that the packed forward calls, so that hooks on them run."""


def why_padded(model: PreTrainedModel) -> str | None:
    """The reason why a model, with or without LoRA, cannot run unpadded; None if it can."""
    model = without_adapters(model)
    config = model.config
    if config.model_type not in LAYERS.keys() | DECODERS | PADDED_ATTENTION.keys():
        return f"{type(model).__name__} runs padded alone"
    # A subclass may compute anything in its forward.
    stock: object = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    if type(model) is not stock:
        return f"{type(model).__name__} is not Transformers' own class"
    if config.model_type in DECODERS:
        attention = config._attn_implementation  # noqa: SLF001 - its only name
        return None if attention in ("sdpa", ATTENTION) else f"its attention is {attention}"
    if getattr(config, "conv_kernel_size", 0):  # the largest of DeBERTa-v2
        return "it has a convolution over neighbouring tokens"
    return "a decoder" if getattr(config, "is_decoder", False) else None


def run_unpadded(model: PreTrainedModel) -> None:
    """Make a Transformers classifier run unpadded, in training and in prediction.

    Its inputs and outputs stay the same. It falls back to its padded forward for batches that are not
    right-padded; for calls that pass anything but input_ids, attention_mask and token_type_ids, or ask
    for hidden states or attentions; and with hooks on modules that the packed forward does not call
    (parts of a layer other than linear layers and norms). With hooks on the last layer, that layer
    computes all tokens.

    Raises:
        ValueError: the model cannot run unpadded; see `why_padded`.
    """
    reason = why_padded(model)
    if reason is not None:
        raise ValueError(reason)
    model = without_adapters(model)
    if model.config.model_type in DECODERS:
        run_decoder_unpadded(model)
        return
    if model.config.model_type in PADDED_ATTENTION:
        run_with_padded_attention(model)
        return
    base: Any = model.base_model
    path, packed_forward = LAYERS[model.config.model_type]
    layers = base.get_submodule(path)
    pools_first_token = getattr(model.config, "classifier_pooling", "cls") == "cls"
    # partial and not a closure: copy.deepcopy of the model then copies the bound module with it.
    for layer in layers:
        first_token_only = pools_first_token and layer is layers[-1]
        layer.forward = partial(_forward_layer, layer, packed_forward, first_token_only)
    for module in base.embeddings.modules():
        if isinstance(module, nn.Dropout):
            module.forward = partial(apply_dropout, module)  # type: ignore[method-assign]
    base.forward = partial(_forward_base, base, layers)
    encoder_path = path.rpartition(".")[0]
    if encoder_path:  # a pooler after the encoder indexes (sequences, tokens, size)
        encoder = base.get_submodule(encoder_path)
        encoder.forward = partial(_forward_encoder, encoder)


def without_adapters(model: Any) -> PreTrainedModel:
    """The classifier inside a peft model; any other model unchanged.

    LoRA layers replace linear layers inside of the classifier, so they stay.
    """
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
    # DistilBERT and ModernBERT take no token_type_ids, not even None.
    others = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
    packed = None
    if not any(has_hooks(module) for module in bypassed_modules(layers)):
        packed = pack_inputs(base.config, input_ids, attention_mask, kwargs)
    if packed is None or input_ids is None:
        return type(base).forward(
            base, input_ids, attention_mask=attention_mask, **others, **kwargs
        )
    output = type(base).forward(
        base,
        packed.pack(input_ids),
        # ModernBERT would build its two masks, real tokens squared, from a mask that is None.
        attention_mask={"full_attention": None, "sliding_attention": None}
        if base.config.model_type == "modernbert"
        else None,
        position_ids=packed.pack(position_ids_of(base, input_ids)),
        packed=packed,  # passed on by Transformers' **kwargs to the encoder and each layer
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
    packed_forward: Callable[..., torch.Tensor],
    first_token_only: bool,
    hidden_states: torch.Tensor,
    *args: Any,
    packed: Packed | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    if packed is None:
        output: torch.Tensor = type(layer).forward(layer, hidden_states, *args, **kwargs)
        return output
    rope = {name: kwargs[name] for name in ("position_embeddings",) if name in kwargs}
    # A hook on the last layer may read any token of its output.
    positions = packed.starts if first_token_only and not has_hooks(layer) else None
    return packed_forward(layer, hidden_states[0], packed, positions, **rope).unsqueeze(0)


def unpack_states(states: torch.Tensor, packed: Packed) -> torch.Tensor:
    """The last hidden states as (sequences, tokens, size), of the first tokens or of all.

    Args:
        states: (1, sequences or real tokens, size); or unpacked already, by the encoder within the
            base model.
        packed: where the sequences lie.
    """
    if states.shape[0] == len(packed.lengths) and states.shape[0] > 1:
        return states
    if states.shape[1] == len(packed.lengths):
        return states.transpose(0, 1)
    return packed.pad(states)


def position_ids_of(base: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """Position ids of a padded batch, as the model computes them: int64 (sequences, tokens)."""
    embeddings = base.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa counts from padding_idx
        positions: torch.Tensor = embeddings.create_position_ids_from_input_ids(
            input_ids, embeddings.padding_idx
        )
        return positions
    return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)


def bypassed_modules(layers: nn.ModuleList) -> Iterator[nn.Module]:
    """The modules within layers that the packed forward does not call."""
    for layer in layers:
        for module in layer.modules():
            if module is not layer and not isinstance(module, CALLED_MODULES):
                yield module
