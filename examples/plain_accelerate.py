"""The tutorial's loop with Accelerate: one device or many, chosen by the launcher.

    accelerate launch examples/plain_accelerate.py

What Accelerate changes, line by line: docs/from-plain-to-accelerate.md.
"""

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import get_scheduler, set_seed

import plainloop as pl


def main(config: pl.TrainConfig) -> list[dict[str, float]]:
    """Train for full epochs; return the scores after each of them."""
    accelerator = Accelerator()
    inputs = pl.load_inputs(config)
    tokenizer = pl.load_tokenizer(inputs.pretrained)
    tokenized = pl.tokenize_splits(inputs.raw, tokenizer, inputs.task.text_columns)
    model_inputs = pl.keep_model_inputs(tokenized, tokenizer)
    dataloaders = pl.create_dataloaders(model_inputs, tokenizer, config, inputs.task)
    train_dataloader, eval_dataloader = dataloaders["train"], dataloaders["validation"]
    set_seed(config.seed)
    model, _ = pl.load_model(inputs.pretrained, inputs.task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    metric = pl.TaskMetric(inputs.task.metrics, label_names=inputs.task.label_names)

    train_dataloader, eval_dataloader, model, optimizer = accelerator.prepare(
        train_dataloader, eval_dataloader, model, optimizer
    )

    num_epochs = int(config.num_train_epochs)
    num_training_steps = num_epochs * len(train_dataloader)
    lr_scheduler = get_scheduler(
        "linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=num_training_steps
    )
    progress_bar = tqdm(range(num_training_steps), disable=not accelerator.is_main_process)
    scores = []
    set_seed(config.seed)

    for epoch in range(num_epochs):
        train_dataloader.set_epoch(epoch)
        model.train()
        for batch in train_dataloader:
            outputs = model(**pl.model_inputs_of(batch))
            loss = outputs.loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)

            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            progress_bar.update(1)

        model.eval()
        for batch in eval_dataloader:
            with torch.no_grad():
                outputs = model(**pl.model_inputs_of(batch))
            predictions = torch.argmax(outputs.logits, dim=-1)
            predictions, references = accelerator.gather_for_metrics((predictions, batch["labels"]))
            metric.add_batch(predictions=predictions.cpu(), references=references.cpu())
        scores.append(metric.compute())
        accelerator.print(f"epoch {epoch + 1}: {scores[-1]}")
    return scores


if __name__ == "__main__":
    main(pl.TrainConfig(task="demo", model="demo"))
