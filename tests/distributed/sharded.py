"""Train with fully_shard (FSDP2) on gloo, with the loop as it is: what test_launch.py launches.

torchrun --nproc-per-node 2 sharded.py MODEL DATA RESULT
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from accelerate.utils import set_seed
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

import plainloop as pl

if __name__ == "__main__":
    model_folder, data, result = map(Path, sys.argv[1:])
    config = pl.TrainConfig(
        task="demo",
        model=str(model_folder),
        data_dir=data,
        dropout=0.0,
        max_steps=8,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        max_grad_norm=0.1,
        adam_epsilon=1e-3,
        logging_steps=1,
        per_device_train_batch_size=8 // int(os.environ["WORLD_SIZE"]),
        eval_strategy="no",
    )
    inputs = pl.load_inputs(replace(config, output_dir=result.parent / "unused"))
    accelerator = pl.create_accelerator(pl.TrainConfig(use_cpu=True))
    tokenizer = pl.load_tokenizer(inputs.pretrained)
    tokenized = pl.tokenize_splits(inputs.raw, tokenizer, inputs.task.text_columns)
    loaders = pl.create_dataloaders(
        pl.keep_model_inputs(tokenized, tokenizer), tokenizer, config, inputs.task
    )
    set_seed(config.seed)
    model, _ = pl.load_model(inputs.pretrained, inputs.task, dropout=config.dropout)
    if accelerator.num_processes > 1:
        for layer in model.bert.encoder.layer:
            fully_shard(layer)
        fully_shard(model)
        assert isinstance(model, FSDPModule)
        assert all(isinstance(weight, DTensor) for weight in model.parameters())
    optimizer = pl.create_optimizer(model, config)
    loader = accelerator.prepare(loaders["train"])
    scheduler = pl.create_scheduler(optimizer, config.max_steps, config)
    state = pl.train(
        model,
        optimizer,
        scheduler,
        loader,
        config=config,
        accelerator=accelerator,
        num_training_steps=config.max_steps,
    )
    if accelerator.is_main_process:
        result.write_text(json.dumps(state.history), encoding="utf-8")
    accelerator.end_training()
