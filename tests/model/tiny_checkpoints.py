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
