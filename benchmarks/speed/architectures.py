"""Every architecture that runs unpadded, in its base size with random weights, beside itself padded.

    python -m speed.architectures NAME EXECUTION WORK

A process that trains as `plainloop train` does, without its bar and records, and answers each request
for some optimizer steps with their seconds. The tokens are those of the demo model's tokenizer, which
all these vocabularies have: the lengths are those of real rows, the texts mean nothing.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from speed.alternate import alternate
from speed.child import Requests
from speed.work import Work, load_tokenized

EXECUTIONS = ("padded", "auto")
STEPS = {8: 4, 32: 2}
"""Batch size -> optimizer steps of a block."""
WARM_UP_STEPS = 2

BASE: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1},
    "xlm-roberta": {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1},
    "camembert": {"vocab_size": 32005, "max_position_embeddings": 514, "type_vocab_size": 1},
    "electra": {
        "embedding_size": 768,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "distilbert": {},
    "modernbert": {},
    "ernie": {},
    "data2vec-text": {},
    "roc_bert": {},
    "layoutlm": {},
    "mpnet": {},
    "deberta-v2": {  # deberta-v3-base
        "hidden_size": 768,  # the defaults are of xlarge
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 128100,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "albert": {
        "vocab_size": 30522,  # 30,000 in the checkpoint, which the demo's ids exceed
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "qwen3": {  # no checkpoint: a decoder of the others' size
        "vocab_size": 30522,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "pad_token_id": 0,
    },
}
"""What differs from transformers' defaults in the configuration of each base-size checkpoint."""


def measure_architecture(name: str, work: Work, *, repeats: int, threads: int) -> dict[str, Any]:
    """Train padded and by auto in turn.

    Returns:
        parameters: of the model; batch_size and steps of a block; and for each execution seconds, a
        number a repeat.
    """
    steps = STEPS[work.batch_size]
    with tempfile.TemporaryDirectory() as folder:
        answers = alternate(
            {side: ("speed.architectures", name, side, work.dumps()) for side in EXECUTIONS},
            warm_up={"steps": WARM_UP_STEPS},
            request={"steps": steps},
            repeats=repeats,
            folder=Path(folder),
            threads=threads,
            title=name,
        )
    return {
        "parameters": answers["padded"][0]["parameters"],
        "batch_size": work.batch_size,
        "steps": steps,
        **{side: [block["seconds"] for block in blocks] for side, blocks in answers.items()},
    }


def batches_of(rows: Any, tokenizer: Any, padding: int, work: Work) -> Iterator[dict[str, Any]]:
    """Batches without end, in the order of `plainloop train`, padded with a model's own token."""
    from transformers import DataCollatorWithPadding

    from plainloop.data.batches.loaders import EpochRandomSampler

    collate: Any = DataCollatorWithPadding(tokenizer)
    order = EpochRandomSampler(len(rows), seed=42)
    loader: DataLoader[Any] = DataLoader(
        rows, batch_size=work.batch_size, sampler=order, collate_fn=collate
    )
    for epoch in count():
        order.set_epoch(epoch)
        for batch in loader:
            is_padding = batch["attention_mask"] == 0
            yield {
                "input_ids": batch["input_ids"].masked_fill(is_padding, padding),
                "attention_mask": batch["attention_mask"],
                "labels": batch["labels"],
            }


def main(name: str, execution: str, work: str) -> None:
    """Answer until the parent has enough."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

    from plainloop.data.batches.tokenize import keep_model_inputs
    from plainloop.model.unpadded.execution import choose_execution
    from plainloop.run.accelerator import create_accelerator
    from plainloop.training.optim import create_optimizer

    requests, settings = Requests(), Work.loads(work)
    inputs, tokenizer, tokenized = load_tokenized(settings)
    rows = keep_model_inputs(tokenized, tokenizer)["train"]
    config = settings.config(execution=execution)
    set_seed(config.seed)
    base: Any = AutoConfig.for_model(name, **BASE[name], num_labels=inputs.task.num_labels)
    model = AutoModelForSequenceClassification.from_config(base)
    parameters = model.num_parameters()
    choose_execution(model, rows, config, create_accelerator(settings.config(use_cpu=True)))
    optimizer = create_optimizer(model, config)
    batches = batches_of(rows, tokenizer, base.pad_token_id, settings)
    model.train()
    while True:
        steps = requests.next()["steps"]
        started = time.perf_counter()
        for _ in range(steps):
            model(**next(batches)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        requests.answer(seconds=time.perf_counter() - started, parameters=parameters)


if __name__ == "__main__":
    main(*sys.argv[1:])
