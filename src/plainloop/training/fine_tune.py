"""fine_tune(): settings and data -> a trained model in a run folder, each step shown."""

from collections.abc import Iterable
from typing import Any

import torch
from accelerate.utils import set_seed

from plainloop import console
from plainloop.config.flag_types import OPTIMIZER_NAMES
from plainloop.config.settings import TrainConfig
from plainloop.data.batches.loaders import create_dataloaders, peek
from plainloop.data.batches.token_cache import token_cache_dir
from plainloop.data.batches.tokenize import keep_model_inputs, tokenize_splits
from plainloop.metrics.decision_effect import summarize_decision
from plainloop.metrics.decision_rule import format_decision, load_decision
from plainloop.metrics.task_metric import TaskMetric
from plainloop.model.load import create_model, first_forward
from plainloop.model.readable_rows import check_rows
from plainloop.model.tokenizer import load_tokenizer
from plainloop.model.unpadded.execution import choose_execution
from plainloop.run.accelerator import create_accelerator
from plainloop.run.folder import keep_locks, summarize
from plainloop.run.resume import open_run
from plainloop.run.signals import StopRequest
from plainloop.training.announce import describe_run
from plainloop.training.final_evaluation import evaluate_saved
from plainloop.training.loop import train
from plainloop.training.loss import create_loss
from plainloop.training.optim import (
    check_schedule,
    count_training_steps,
    create_optimizer,
    create_scheduler,
)
from plainloop.training.prepare import Inputs, read_inputs
from plainloop.training.progress import describe_scores
from plainloop.training.trackers import finish_trackers, start_trackers


@keep_locks()
def fine_tune(
    config: TrainConfig,
    inputs: Inputs | None = None,
    stop: StopRequest | None = None,
    *,
    train_dataset: Any = None,
    eval_dataset: Any = None,
) -> dict[str, Any]:
    """Fine-tune and evaluate a classifier, and save it with its tokenizer, metrics and history.

    Args:
        config: the settings; a missing output folder becomes runs/TASK.
        inputs: what `read_inputs` gave for these settings, where it was called before.
        stop: takes in signals; from the first step on a checkpoint is saved before one ends the run.
        train_dataset: rows instead of those that the settings name: a datasets.Dataset, a DatasetDict
            with a split train, or a pandas frame. They are not written into run.yaml, so that a
            resume and `evaluate_run` need them again.
        eval_dataset: validation rows for them, a Dataset or a frame. Default: the split
            validation, or a part of the training rows.

    Returns:
        What metrics.json holds; nothing for a dry run, which stops before the training.

    Raises:
        UserError: something in the settings, the data or the model cannot be used.
        DivergedError: the loss is not finite.
        MachineError: out of memory, or the disk is full.
        CheckpointError: no intact checkpoint to resume from, or the checkpoint is of another run.
        StoppedError: a signal ended the run.
    """
    inputs = inputs or read_inputs(config, train_dataset, eval_dataset)
    stop = stop or StopRequest()
    config, task, pretrained, raw = inputs.config, inputs.task, inputs.pretrained, inputs.raw
    check_schedule(config)
    accelerator = create_accelerator(config)

    def say(title: str, text: str) -> None:
        if accelerator.is_main_process:  # of all machines
            console.say(title, text)

    for title, text in describe_run(config, accelerator, len(raw["train"])):
        say(title, text)
    tokenizer = load_tokenizer(pretrained)
    with accelerator.local_main_process_first():  # it writes them, the others map them
        tokenized = tokenize_splits(
            raw,
            tokenizer,
            task.text_columns,
            config.max_length,
            stride=config.stride,
            cache_dir=token_cache_dir(),
        )
    say("Tokenize", f"{' + '.join(task.text_columns)} -> {', '.join(tokenizer.model_input_names)}")
    model_inputs = keep_model_inputs(tokenized, tokenizer)
    say("Columns", f"kept: {', '.join(model_inputs['train'].column_names)}")
    dataloaders = create_dataloaders(model_inputs, tokenizer, config, task)
    say(
        "Loaders",
        ", ".join(f"{split} {len(loader)} batches" for split, loader in dataloaders.items()),
    )
    batch = peek(dataloaders["train"])
    say("One batch", ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items()))

    set_seed(config.seed)
    model, new_parameters = create_model(pretrained, task, config, tokenizer)
    say(
        "Model",
        f"{config.model}: {type(model).__name__}, {_millions(model.parameters())} parameters, "
        f"{_millions(p for p in model.parameters() if p.requires_grad)} trained; "
        f"new: {', '.join(new_parameters) or 'none'}",
    )
    check_rows(model, dataloaders, tokenizer, inputs.check)
    execution = choose_execution(model, model_inputs["train"], config, accelerator)
    say("Execution", "; ".join(execution))
    loss, logits_shape = first_forward(model, batch, accelerator)
    say("First forward", f"loss {loss:.4f}, logits {logits_shape}")
    if config.dry_run:
        say("Dry run", "everything up to the training works; nothing was written")
        return {}

    optimizer = create_optimizer(model, config)
    say(
        "Optimizer",
        f"{OPTIMIZER_NAMES[config.optim]}, learning rate {config.learning_rate:g}, "
        f"decay {config.weight_decay:g}",
    )
    model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
        model, optimizer, dataloaders["train"], dataloaders["validation"]
    )
    num_training_steps = count_training_steps(len(train_dataloader), config)
    lr_scheduler = create_scheduler(optimizer, num_training_steps, config)
    say("Schedule", f"{config.lr_scheduler_type}, {num_training_steps} optimizer steps")
    metric = TaskMetric(task.metrics, task.problem_type, task.label_names)
    loss_fn = create_loss(config, raw["train"]["label"], task)
    run = open_run(config, model_inputs, model, optimizer, lr_scheduler, accelerator=accelerator)
    start_trackers(accelerator, config)
    set_seed(config.seed)  # again: nothing above moves the numbers that dropout draws
    stop.deferred = True  # from here on a signal saves a checkpoint first
    state = train(
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

    finish_trackers(accelerator)
    metrics = summarize(state, config, accelerator)
    if run.folder:
        trained = accelerator.unwrap_model(model)
        run.folder.save(trained, tokenizer, metrics, merge_lora=config.merge_lora)
    accelerator.wait_for_everyone()  # until rank 0 has saved the model
    stop.end_training(accelerator, config)  # a signal that came since the last step ends the run
    for split, scores in evaluate_saved(
        model,
        dataloaders,
        metric,
        metrics,
        inputs=inputs,
        config=config,
        accelerator=accelerator,
        run=run,
    ):
        if accelerator.is_main_process:
            intervals = metrics["analysis"].get(split, {}).get("intervals")
            console.emit(
                "scores",
                {"split": split, "scores": scores, "intervals": intervals},
                f"{split.capitalize():<14} {describe_scores(scores)}",
            )
    if run.folder and (decision := load_decision(run.folder.path, task)):
        say("Decision", format_decision(decision, task))
        say("Cross-fitted", summarize_decision(metrics["decision"]))
    say("Saved", str(config.run_path))
    return metrics


def _millions(parameters: Iterable[torch.Tensor]) -> str:
    return f"{sum(parameter.numel() for parameter in parameters) / 1e6:.1f} M"
