"""Tiny random checkpoints of every text classifier of Transformers, each with a tokenizer."""

import dataclasses
import inspect
import random
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

ARCHITECTURES = tuple(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
LIMIT = 96
"""Tokens of a row, as the tokenizer has it."""
VOCABULARY = 400
WORDS = [
    "the",
    "a",
    "good",
    "bad",
    "film",
    "movie",
    "was",
    "is",
    "not",
    "very",
    "plot",
    "acting",
    "great",
    "terrible",
    "boring",
    "lovely",
    "I",
    "think",
    "that",
    "it",
    "and",
    "story",
    "with",
    "from",
    "end",
    "new",
    "old",
    "actor",
    "scene",
    "music",
    "dark",
    "light",
    "slow",
    "fast",
    "people",
    "never",
    "always",
    "watch",
]

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 128, "head_dim": 8, "embedding_size": 32,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.1,
    # T5, BART and their kin
    "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
    "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.1,
    # GPT-2, XLM, DistilBERT and their kin
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_ctx": 128, "n_inner": 64,
    "emb_dim": 32, "n_layers": 2, "n_heads": 4, "dim": 32, "hidden_dim": 64, "dff": 64, "n_embed": 32,
    "rotary_dim": 4, "word_embed_proj_dim": 32, "ffn_dim": 64, "d_inner": 64, "d_head": 8,
    # mixtures of experts, Mamba, latent attention
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_shared_experts": 1,
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "kv_channels": 8, "sliding_window": 16, "n_group": 1, "topk_group": 1,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "mamba_d_state": 8, "mamba_dt_rank": 4, "mamba_d_conv": 2,
    "mamba_headdim": 8, "n_mamba_heads": 2, "mamba_expand": 2, "mamba_ngroups": 1, "num_mem_blocks": 1,
    "attention_hidden_size": 64, "attention_head_dim": 16, "adapter_rank": 8,
}  # fmt: skip
"""Keywords of a configuration, of which each class takes its own."""
VISION = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": 8, "patch_size": 4, "depth": 1, "num_heads": 2, "out_hidden_size": 32,
    "num_position_embeddings": 16,
}  # fmt: skip
ALL_HEADS = {"num_key_value_heads": 4}
STARTS_WITH_PAD = {"decoder_start_token_id": 0}
LINEAR_ATTENTION = {"layer_types": ["linear_attention", "full_attention"]}
POSITIONS = {"max_position_embeddings": 128}
OF_TYPE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "minicpm3", "mistral4", "esmc"), ALL_HEADS
    ),
    **dict.fromkeys(("t5", "mt5", "umt5"), STARTS_WITH_PAD),
    **dict.fromkeys(("qwen3_5_text", "qwen3_next"), LINEAR_ATTENTION),
    **dict.fromkeys(("xlm", "flaubert"), POSITIONS),
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            name: {"rope_type": "default", "rope_theta": 10000.0}
            for name in ("sliding_attention", "full_attention")
        },
    },
    "funnel": {"block_sizes": [1, 1]},
    "roc_bert": {
        "shape_vocab_size": 500, "pronunciation_vocab_size": 500, "pronunciation_embed_dim": 16,
        "shape_embed_dim": 16,
    },
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gpt_oss": {"layer_types": ["sliding_attention", "full_attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "layoutlm": {"max_2d_position_embeddings": 1024},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "visual_embed": False},
    "lilt": {"hidden_size": 48, "channel_shrink_ratio": 2},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 8},
    "markuplm": {"xpath_unit_hidden_size": 4, "max_depth": 4},
    "perceiver": {
        "num_latents": 8, "d_latents": 32, "d_model": 32, "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4, "num_cross_attention_heads": 4,
    },
    "reformer": {
        "axial_pos_shape": [8, 16], "axial_pos_embds_dim": [8, 24], "feed_forward_size": 64,
        "attention_head_size": 8, "attn_layers": ["local", "lsh"], "local_attn_chunk_length": 16,
        "lsh_attn_chunk_length": 16, "num_buckets": 4,
    },
    "ultrabert": {"prediction_head_size": 32},
    "canine": {"num_hash_buckets": 2048, "max_position_embeddings": 2048, "local_transformer_stride": 64},
    "big_bird": {"block_size": 4}, "bigbird_pegasus": {"block_size": 4},
    "longformer": {"attention_window": 8},
    "ibert": {"quant_mode": False},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32, "embedding_size": 32},
    "squeezebert": {"embedding_size": 32},
    "zamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "num_hidden_layers": 5, "use_mamba_kernels": False,
    },
    "zamba2": {
        "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2, "chunk_size": 8,
    },
}  # fmt: skip
"""Model type -> what else its configuration needs to be tiny."""
STYLES = {
    "cls": [
        "modernbert",
        "nystromformer",
        "xlm-roberta-xl",
        "roformer",
        "roc_bert",
        "tapas",
        "esm",
        "xlm",
        "flaubert",
        "layoutlmv2",
        "layoutlmv3",
        "markuplm",
        "cohere_compass_text",
        "ultrabert",
        "canine",
        "perceiver",
    ],
    "eos": ["bigbird_pegasus", "umt5", "plbart"],
    "none": ["ctrl"],
}
"""Special tokens around a text, if Transformers has no tokenizer for the type alone; else <s> before it."""
TEMPLATES = {
    "cls": ("<s> $A </s>", "<s> $A </s> $B </s>"),
    "bos": ("<s> $A", "<s> $A <s> $B"),
    "eos": ("$A </s>", "$A </s> $B </s>"),
}


def sentence(rng: random.Random, low: int = 2, high: int = 14) -> str:
    """Some words in any order."""
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))


def save_checkpoint(kind: str, folder: Path, *, limit: bool = True, **more: Any) -> None:
    """Write a tiny random checkpoint without a classification head, as a pre-trained one.

    Args:
        kind: a model type of `ARCHITECTURES`.
        folder: to write to.
        limit: whether the tokenizer names a limit; else the model's own is all there is.
        **more: of its configuration.
    """
    tokenizer = _make_tokenizer(kind)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    cls = CONFIG_MAPPING[kind]
    config = cls(**(_keywords(cls, tokenizer) | more))
    if kind == "funnel":
        config.architectures = ["FunnelBaseModel"]
    text = config.get_text_config()
    if getattr(text, "pad_token_id", None) is None and hasattr(text, "pad_token_id"):
        text.pad_token_id = tokenizer.pad_token_id
    if limit:
        tokenizer.model_max_length = LIMIT
    torch.manual_seed(0)
    try:
        AutoModel.from_config(config).save_pretrained(folder)
    except ImportError:  # LayoutLMv2's package is not needed for its configuration
        config.save_pretrained(folder)
        save_file({"none": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    tokenizer.save_pretrained(folder)


def clear_dropout(values: dict[str, Any]) -> None:
    """Set every dropout of a configuration to 0, in place."""
    for name, value in values.items():
        if isinstance(value, dict):
            clear_dropout(value)
        elif ("dropout" in name or "pdrop" in name) and type(value) in (int, float):
            values[name] = type(value)(0)  # MPT's is an integer


def _keywords(cls: Any, tokenizer: PreTrainedTokenizerBase, within: str = "") -> dict[str, Any]:
    """Small sizes for a configuration class, and for the configurations within it."""
    mapped = getattr(cls, "attribute_map", {}) or {}
    names = {*mapped, *inspect.signature(cls.__init__).parameters}
    if dataclasses.is_dataclass(cls):
        names |= {field.name for field in dataclasses.fields(cls)}
    if "vision" in within:
        return {key: value for key, value in VISION.items() if key in names}
    values: dict[str, Any] = {
        key: value for key, value in SMALL.items() if key in names and mapped.get(key) not in SMALL
    }
    if cls.model_type == "funnel":
        values.pop("num_hidden_layers", None)
    for key, value in vars(cls()).items():
        if isinstance(value, PreTrainedConfig):
            values[key] = _keywords(type(value), tokenizer, key)
    if "text_config" in values and "vocab_size" not in names:
        values.pop("hidden_size", None)
    if "vocab_size" in names:
        values["vocab_size"] = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    for token in ("pad", "bos", "eos", "cls", "sep", "mask", "unk"):
        number = getattr(tokenizer, f"{token}_token_id", None)
        if f"{token}_token_id" in names and (number is not None or token == "pad"):
            values[f"{token}_token_id"] = number
    return values | OF_TYPE.get(cls.model_type, {})


def _make_tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """The type's own tokenizer class, trained on a few words; else byte-level BPE."""
    name = TOKENIZER_MAPPING_NAMES.get(kind)
    has_own = name not in (None, "TokenizersBackend", "EsmcTokenizer")  # that reads proteins only
    trained = _train_tokenizer(name) if name and has_own else None
    return deepcopy(trained) if trained is not None else _byte_level(kind)


def _corpus() -> list[str]:
    return [sentence(random.Random(number)) for number in range(300)]  # noqa: S311


@cache
def _train_tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    try:
        tokenizer: PreTrainedTokenizerBase = getattr(transformers, name)()
        tokenizer = tokenizer.train_new_from_iterator(
            _corpus(), vocab_size=VOCABULARY, show_progress=False
        )
        tokenizer(["the film"], ["bad"])
    except Exception:  # noqa: BLE001 - whatever a class raises that cannot be trained, as those of sentencepiece
        return None
    return tokenizer


def _byte_level(kind: str) -> PreTrainedTokenizerBase:
    style = next((style for style, kinds in STYLES.items() if kind in kinds), "bos")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_corpus(), trainer)
    if style in TEMPLATES:
        single, pair = TEMPLATES[style]
        special = [(name, core.token_to_id(name)) for name in ("<s>", "</s>")]
        core.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=special
        )
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    if style == "cls":
        names |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left" if kind == "llama" else "right",
        **names,
    )
    return tokenizer
