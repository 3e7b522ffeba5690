"""Tiny random checkpoints of many families, with a tokenizer of twelve words."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    GPT2Config,
    PreTrainedTokenizerFast,
)

WORDS = ["<pad>", "<unk>", "<s>", "</s>", *"abcdefgh"]
SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "pad_token_id": 0,
}
SIZES = {
    20: "vocab_size",
    8: "hidden_size d_model n_embd dim emb_dim embedding_size",
    16: "intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim hidden_dim d_inner",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers "
    "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads "
    "num_key_value_heads",
    4: "d_kv d_head head_dim",
    0: "pad_token_id",
}


def save_tokenizer(folder, *, adds_types=True, **special):
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}))
    inner.model.unk_token = "<unk>"
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_types:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> $B:1 </s>:1",
            special_tokens=[("<s>", 2), ("</s>", 3)],
        )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_input_names=names if adds_types else [names[0], names[2]],
        **{"unk_token": "<unk>", "eos_token": "</s>", **special},
    ).save_pretrained(folder)


def save_classifier(folder, model_type, **settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SMALL, **settings})
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def save_decoder(folder):
    """A random GPT-2 without any padding token."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=8, n_layer=1, n_head=2, n_positions=16)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    save_tokenizer(folder, adds_types=False)


def save_small(folder, model_type):
    """A random classifier with two layers, whatever its config calls its sizes."""
    config = AutoConfig.for_model(model_type)
    for value, names in SIZES.items():
        for name in names.split():
            if hasattr(config, name):
                setattr(config, name, value)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
