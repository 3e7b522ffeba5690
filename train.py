"""Fine-tune a text classifier with the tutorial's loop. Read it from top to bottom.

It calls the public pieces of `plainloop train` in the same order, with the same losses. Copy it.

Examples:
    python train.py --task demo --model demo
    accelerate launch train.py --task mrpc --data-dir GLUE --model demo --output-dir runs/mrpc
"""

import sys

from accelerate.utils import set_seed

import plainloop as pl


def main(config: pl.TrainConfig, stop: pl.StopRequest) -> None:
    """Train, evaluate, save."""
    # 1. Load the raw splits; a wrong flag, file or model name ends here.
    inputs = pl.load_inputs(config)
    config, task, pretrained, raw = inputs.config, inputs.task, inputs.pretrained, inputs.raw
    accelerator = pl.create_accelerator(config)
    say = accelerator.on_main_process(print)
    for title, text in pl.describe_run(config, accelerator, len(raw["train"])):
        say(f"{title:<14} {text}")
    say(raw)

    # 2. Tokenize and truncate, on one process; the others, and the next run, map its cache.
    tokenizer = pl.load_tokenizer(pretrained)
    with accelerator.local_main_process_first():
        tokenized = pl.tokenize_splits(
            raw,
            tokenizer,
            task.text_columns,
            config.max_length,
            stride=config.stride,
            cache_dir=pl.token_cache_dir(),
        )

    # 3. Drop the columns that the model does not take, rename label to labels.
    model_inputs = pl.keep_model_inputs(tokenized, tokenizer)
    say("columns:", model_inputs["train"].column_names)

    # 4. Loaders: training rows shuffled, each batch padded to its own longest row.
    dataloaders = pl.create_dataloaders(model_inputs, tokenizer, config, task)

    # 5. Look at one batch.
    batch = pl.peek(dataloaders["train"])
    say("one batch:", {name: tuple(value.shape) for name, value in batch.items()})

    # 6. The model with its head, and one forward pass before any training.
    set_seed(config.seed)
    model, new_parameters = pl.create_model(pretrained, task, config, tokenizer)
    pl.check_rows(model, dataloaders, tokenizer, inputs.check)
    execution = pl.choose_execution(model, model_inputs["train"], config, accelerator)
    say("; ".join(execution))
    loss, logits_shape = pl.first_forward(model, batch, accelerator)
    say(f"new parameters: {new_parameters}; loss {loss:.4f}, logits {logits_shape}")
    if config.dry_run:
        return

    # 7. The optimizer.
    optimizer = pl.create_optimizer(model, config)

    # 8. The device: Accelerate puts each on its own, and wraps it if there are several processes.
    model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
        model, optimizer, dataloaders["train"], dataloaders["validation"]
    )

    # 9. The schedule, in optimizer steps: not prepared, since it would move once per process.
    num_training_steps = pl.count_training_steps(len(train_dataloader), config)
    lr_scheduler = pl.create_scheduler(optimizer, num_training_steps, config)

    # 10. to 12. The training loop, which evaluates after each epoch: src/plainloop/training/loop.py.
    metric = pl.TaskMetric(task.metrics, task.problem_type, task.label_names)
    loss_fn = pl.create_loss(config, raw["train"]["label"], task)
    run = pl.open_run(config, model_inputs, model, optimizer, lr_scheduler, accelerator=accelerator)
    pl.start_trackers(accelerator, config)
    set_seed(config.seed)  # again: nothing above moves the numbers that dropout draws
    stop.deferred = True  # from here on a signal saves a checkpoint first
    state = pl.train(
        model,
        optimizer,
        lr_scheduler,
        train_dataloader,
        config=config,
        accelerator=accelerator,
        num_training_steps=num_training_steps,
        eval_dataloader=eval_dataloader,
        metric=metric,
        loss_fn=loss_fn,
        run=run,
        stop=stop,
    )

    # 13. Save model, tokenizer and scores; the history and the settings are already saved.
    pl.finish_trackers(accelerator)
    metrics = pl.summarize(state, config, accelerator)
    if run.folder:
        trained = accelerator.unwrap_model(model)
        run.folder.save(trained, tokenizer, metrics, merge_lora=config.merge_lora)
        say(f"saved in {run.folder.path}")
    accelerator.wait_for_everyone()  # until rank 0 has saved the model
    stop.end_training(accelerator, config)  # a signal that came since the last step ends the run
    # Score the saved model row by row: the numbers and rows of `plainloop report`.
    for split, scores in pl.evaluate_saved(
        model,
        dataloaders,
        metric,
        metrics,
        inputs=inputs,
        config=config,
        accelerator=accelerator,
        run=run,
    ):
        say(split, scores)


if __name__ == "__main__":
    pl.run_script(main, sys.argv[1:], program="train.py", description=__doc__)
