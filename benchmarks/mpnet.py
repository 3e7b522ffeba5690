"""A real model of the tutorial's size without padding: MPNet-base (110 M) on MRPC.

    python benchmarks/mpnet.py MODEL GLUE runs/mpnet

MODEL is a folder with all-mpnet-base-v2, GLUE one with MRPC. First 100 optimizer steps in float64,
without dropout, by plainloop without padding and by a plain loop with it. A training multiplies every
rounding error, so the plain loop is also compared with itself, with one weight changed in its last bit.
Then a full training with the defaults, which are the tutorial's settings, in the folder given last. A
stopped training resumes. Writes docs/recorded/mpnet.json.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

import plainloop as pl
from plainloop.config.settings import TrainConfig

RECORDED = Path(__file__).parent.parent / "docs" / "recorded" / "mpnet.json"
STEPS = 100
SHOWN = (1, 5, 10, 25, 50, 100)
"""Steps at which the differences are recorded: the largest until then."""


def train_plainly(
    model: Any, batches: list[dict[str, torch.Tensor]], config: TrainConfig
) -> list[float]:
    """Train with the tutorial's loop and clipping; the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(batches))
    losses = []
    model.train()
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def compare_with_plain_loop(config: TrainConfig) -> dict[str, Any]:
    """Train 100 steps by `pl.train` without padding and by a plain loop; the differences of the losses."""
    inputs = pl.load_inputs(config)
    config, task = inputs.config, inputs.task
    accelerator = pl.create_accelerator(config)
    tokenizer = pl.load_tokenizer(inputs.pretrained)
    tokenized = pl.tokenize_splits(inputs.raw, tokenizer, task.text_columns, config.max_length)
    rows = pl.keep_model_inputs(tokenized, tokenizer)
    loader = pl.create_dataloaders(rows, tokenizer, config, task)["train"]

    set_seed(config.seed)
    model, _ = pl.create_model(inputs.pretrained, task, config, tokenizer)
    plain = AutoModelForSequenceClassification.from_config(model.config).double()
    plain.load_state_dict(model.state_dict())
    for line in pl.choose_execution(model.double(), rows["train"], config, accelerator):
        print(line, flush=True)
    optimizer = pl.create_optimizer(model, config)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    scheduler = pl.create_scheduler(optimizer, STEPS, config)
    losses, batches = [], []

    def note_loss(outputs: Any, _labels: torch.Tensor) -> torch.Tensor:
        losses.append(outputs.loss.item())
        return outputs.loss  # type: ignore[no-any-return]

    for batch in loader:
        batches.append(dict(batch))
        if len(batches) == STEPS:
            break
    pl.train(
        model,
        optimizer,
        scheduler,
        loader,
        config=config,
        accelerator=accelerator,
        num_training_steps=STEPS,
        loss_fn=note_loss,
    )
    changed = copy.deepcopy(plain)
    with torch.no_grad():
        weight = next(p for p in changed.parameters() if p.dim() > 1)
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.ones_like(weight[0, 0]))
    theirs = train_plainly(plain, batches, config)
    control = train_plainly(changed, batches, config)

    def largest(other: list[float]) -> list[float]:
        found = [abs(a - b) for a, b in zip(other, theirs, strict=True)]
        return [max(found[:step]) for step in SHOWN]

    return {
        "losses": [round(loss, 4) for loss in losses],
        "differences": {
            step: both for step, *both in zip(SHOWN, largest(losses), largest(control), strict=True)
        },
    }


def main(model: str, glue: Path, folder: Path) -> None:
    """Compare, train, and record both."""
    settings: dict[str, Any] = {"task": "mrpc", "data_dir": glue, "model": model}
    recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    if "float64" not in recorded:
        no_dropout = TrainConfig(
            **settings,
            dropout=0.0,
            max_steps=STEPS,
            execution="unpadded",
            products="default",
            eval_strategy="no",
            save_strategy="no",
            dry_run=True,  # nothing is written
        )
        recorded["float64"] = compare_with_plain_loop(no_dropout)
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
        print(recorded, flush=True)
    has_begun = (folder / "checkpoints").exists()
    defaults = TrainConfig(**settings, output_dir=folder, resume=has_begun)
    pl.fine_tune(defaults)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    validation = metrics["analysis"]["validation"]
    names = ("accuracy", "f1")
    recorded["trained"] = {
        "seed": defaults.seed,
        "scores": {name: round(validation["scores"][name], 4) for name in names},
        "intervals": {
            name: [round(end, 4) for end in validation["intervals"]["scores"][name]]
            for name in names
        },
    }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    print(recorded)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]))
