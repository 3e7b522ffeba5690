"""Compare plainloop with transformers.Trainer, bit for bit.

    python benchmarks/parity.py --task mrpc --data-dir GLUE --model demo --steps 60

Both sides run in a process of their own, on the CPU, with the same seed, data and flags, dropout on,
padded, and log every step. Compared are every loss, gradient norm and learning rate, every score of every
evaluation, and the SHA-256 of the final weights. Exit code 0: no bit differs; 1: one does; 3: a side
failed.

Flags are those of `plainloop train` that the Trainer has too, and
    --steps N            train for N optimizer steps (max_steps)
    --perturb-seed       give plainloop another seed: the comparison must fail
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from plainloop.cli.flags import parse_config
from plainloop.config.settings import TrainConfig
from plainloop.config.validation import flag
from plainloop.errors import PlainloopError, UserError
from plainloop.training.progress import describe_scores

SHARED = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "optim",
    "bf16",
    "train_sampling_strategy",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "seed",
    "eval_strategy",
    "eval_steps",
    "per_device_eval_batch_size",
    "logging_steps",
    "dataloader_num_workers",
    "use_cpu",
    "output_dir",
)
"""Settings that go into TrainingArguments under the same name."""
BESIDE_THE_TRAINERS = {"task", "data_dir", "model", "max_train_samples", "dropout", "output_dir"}
"""Settings that both sides take in although TrainingArguments does not have them."""
A_SIDE_FAILED = 3
COMPARED = ("loss", "grad_norm", "learning_rate")


def run_plainloop(config: TrainConfig) -> dict[str, Any]:
    """Run plainloop; return what is compared."""
    from plainloop.training.fine_tune import fine_tune

    metrics = fine_tune(config)
    assert config.output_dir is not None
    lines = (config.output_dir / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "steps": [json.loads(line) for line in lines],
        "evaluations": metrics["evaluations"],
        "weights": hash_weights(config.output_dir / "model.safetensors"),
    }


def run_trainer(config: TrainConfig) -> dict[str, Any]:
    """Run the Trainer with the same settings, which carry its names; return what is compared."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from plainloop.metrics.task_metric import TaskMetric
    from plainloop.training.prepare import load_inputs

    inputs = load_inputs(config)
    task = inputs.task
    metric = TaskMetric(task.metrics, task.problem_type, task.label_names)
    tokenizer = AutoTokenizer.from_pretrained(inputs.pretrained)
    columns = inputs.task.text_columns
    tokenized = inputs.raw.map(
        lambda rows: tokenizer(*(rows[name] for name in columns), truncation=True), batched=True
    )
    set_seed(config.seed)
    dropout = (
        {}
        if config.dropout is None
        else {
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.dropout,
        }
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        inputs.pretrained,
        num_labels=task.num_labels,
        **dropout,
    )
    args = TrainingArguments(
        **{name: getattr(config, name) for name in SHARED},
        save_strategy="no",
        report_to="none",
    )

    def compute_metrics(result: Any) -> dict[str, float]:
        metric.add_batch(predictions=result.predictions, references=result.label_ids)
        return metric.compute()

    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=tokenized["train"],
        eval_dataset=tokenized["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    trainer.save_model()
    log = trainer.state.log_history
    scores = ("loss", *task.metrics)
    return {
        "steps": [record for record in log if "loss" in record],
        "evaluations": [
            {"step": record["step"], **{name: record[f"eval_{name}"] for name in scores}}
            for record in log
            if "eval_loss" in record
        ],
        "weights": hash_weights(Path(str(args.output_dir)) / "model.safetensors"),
    }


def hash_weights(path: Path) -> str:
    """SHA-256 over the names and bytes of all tensors of a file."""
    from safetensors.torch import load_file

    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def run_side(side: str, tokens: list[str], folder: Path) -> dict[str, Any]:
    """Run one side in a process of its own."""
    result = folder / f"{side}.json"
    command = [sys.executable, __file__, "--side", side, str(result), *tokens]
    command += ["--output-dir", str(folder / side)]
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
        print(f"the {side} side failed: see above", file=sys.stderr)
        sys.exit(A_SIDE_FAILED)
    outcome: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return outcome


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, int, int, str]]:
    """Rows of (what, values compared, values that differ, the first difference)."""
    scores = [name for name in (theirs["evaluations"] or [{}])[0] if name != "step"]
    series = [("steps", name, name) for name in COMPARED]
    series += [("evaluations", name, f"evaluation {name}") for name in scores]
    rows = [
        count_differences(
            title,
            {record["step"]: record[name] for record in ours[kind]},
            {record["step"]: record[name] for record in theirs[kind]},
        )
        for kind, name, title in series
    ]
    return [*rows, count_differences("weights", {0: ours["weights"]}, {0: theirs["weights"]})]


def count_differences(
    name: str, ours: dict[int, Any], theirs: dict[int, Any]
) -> tuple[str, int, int, str]:
    """Compare two series by step; JSON keeps every bit of a float."""
    steps = sorted(ours.keys() | theirs.keys())
    different = [step for step in steps if ours.get(step) != theirs.get(step)]
    first = ""
    if different:
        step = different[0]
        first = f"step {step}: {ours.get(step)} != {theirs.get(step)}"
    return name, len(steps), len(different), first


def main(tokens: list[str]) -> int:
    """Run both sides and print the table; 1 where a bit differs."""
    if tokens[:1] == ["--side"]:
        side, result, *tokens = tokens[1:]
        config = replace(parse(tokens), logging_steps=1, use_cpu=True, execution="padded")
        run = {"plainloop": run_plainloop, "trainer": run_trainer}[side]
        Path(result).write_text(json.dumps(run(config)), encoding="utf-8")
        return 0
    tokens = ["--max-steps" if token == "--steps" else token for token in tokens]
    perturb = "--perturb-seed" in tokens
    tokens = [token for token in tokens if token != "--perturb-seed"]
    config = parse(tokens)  # a wrong flag or --help ends here
    default = TrainConfig()
    ignored = [
        UserError("the Trainer's side does not take it", where=flag(field.name), fix="leave it out")
        for field in fields(TrainConfig)
        if field.name not in {*SHARED, *BESIDE_THE_TRAINERS}
        and getattr(config, field.name) != getattr(default, field.name)
    ]
    if ignored:
        raise UserError.together(ignored)
    with tempfile.TemporaryDirectory() as folder:
        theirs = run_side("trainer", tokens, Path(folder))
        if perturb:
            tokens = [*tokens, "--seed", str(config.seed + 1)]
        ours = run_side("plainloop", tokens, Path(folder))
    rows = compare(ours, theirs)
    print(f"{'':24} {'values':>8} {'different':>10}")
    for name, count, different, first in rows:
        print(f"{name:24} {count:8} {different:10}   {first}")
    equal = not any(different for _, _, different, _ in rows)
    last = (ours["evaluations"] or [{}])[-1]
    print(f"{len(ours['steps'])} steps; last evaluation: {describe_scores(last) or 'none'}")
    print("equal, bit for bit" if equal else "NOT equal")
    return 0 if equal else 1


def parse(tokens: list[str]) -> TrainConfig:
    """The settings of a comparison."""
    return parse_config(tokens, program="parity.py", description=__doc__ or "")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PlainloopError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
