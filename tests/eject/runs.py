"""Runs of every kind that a script can carry, on tiny files: what is ejected, run and compared."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import OBJECTS, SUBJECTS, VERBS, write_pairs
from datasets import Dataset

# Where the numbers would show a difference: active clipping, a rate that does not fall, ragged epochs.
SHARP = {"learning_rate": 1e-3, "lr_scheduler_type": "constant", "num_train_epochs": 2}
ROWS = 43


def sentence(draw: random.Random, subject: str) -> str:
    tail = [f"and {draw.choice(VERBS)} a {draw.choice(OBJECTS)}" for _ in range(draw.randrange(4))]
    return " ".join(["The", subject, draw.choice(VERBS), "the", draw.choice(OBJECTS), *tail])


def single_texts(num_rows: int = ROWS, seed: int = 5) -> list[tuple[str, str]]:
    """A text and one of three labels, the last one rare; some texts would be missing values."""
    draw = random.Random(seed)
    labels = ["animal", "animal", "human", "human", "other"]
    rows = []
    for number in range(num_rows):
        label = labels[number % 5]
        subject = draw.choice(SUBJECTS[:4] if label == "animal" else SUBJECTS[4:])
        rows.append((sentence(draw, subject), label))
    rows[3], rows[7] = ("NA", rows[3][1]), ("null", rows[7][1])
    rows[11] = ('the "cat", it\nsees a car', rows[11][1])
    return rows


def write_csv(path: Path, header: list[str], rows: list[tuple[str, ...]]) -> str:
    def field(text: str) -> str:
        return f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & set('",\n') else text

    lines = [",".join(map(field, row)) for row in [tuple(header), *rows]]
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def write_jsonl(path: Path, objects: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in objects), encoding="utf-8")
    return str(path)


def write_glue(folder: Path) -> Path:
    """CoLA without a header, STS-B with scores, RTE with the labels' names."""
    draw = random.Random(9)
    for name, size in (("train", ROWS), ("dev", 21)):
        pairs = folder / "pairs.tsv"
        write_pairs(pairs, size, seed=size)
        rows = [line.split("\t") for line in pairs.read_text(encoding="utf-8").splitlines()[1:]]
        tables = {
            "CoLA": [["gj04", label, "", first] for first, _, label in rows],
            "STS-B": [["index", "sentence1", "sentence2", "score"]]
            + [
                [str(number), first, second, f"{float(label) * 4 + draw.random():.3f}"]
                for number, (first, second, label) in enumerate(rows)
            ],
            "RTE": [["index", "sentence1", "sentence2", "label"]]
            + [
                [str(number), first, second, ["entailment", "not_entailment"][int(label)]]
                for number, (first, second, label) in enumerate(rows)
            ],
        }
        for task, table in tables.items():
            (folder / task).mkdir(exist_ok=True)
            text = "".join("\t".join(row) + "\n" for row in table)
            (folder / task / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def make_runs(folder: Path, demo_data: Path) -> dict[str, dict[str, object]]:
    """Name -> settings beside the model; their files are written into the folder."""
    glue = write_glue(folder)
    texts = single_texts()
    reviews = write_csv(
        folder / "reviews.csv", ["id", "review", "kind"], [("1", *r) for r in texts]
    )
    shorter = write_csv(
        folder / "shorter.csv", ["id", "review", "kind"], [("1", *r) for r in single_texts(17, 6)]
    )
    draw = random.Random(4)
    topics = [
        (sentence(draw, draw.choice(SUBJECTS)), draw.sample(["red", "green", "blue"], number % 3))
        for number in range(ROWS)
    ]
    joined = write_csv(
        folder / "topics.csv", ["text", "labels"], [(t, "|".join(of)) for t, of in topics]
    )
    listed = write_jsonl(folder / "topics.jsonl", [{"text": t, "labels": of} for t, of in topics])
    numbered = write_jsonl(
        folder / "numbered.jsonl",
        [{"body": None if n == 5 else t, "label": n % 2} for n, (t, _) in enumerate(texts)],
    )
    table = pa.table({"text": [t for t, _ in texts], "stars": [n % 7 / 2 for n in range(ROWS)]})
    pq.write_table(table, folder / "stars.parquet")
    floats = pa.table({"label": [float(n % 2) for n in range(ROWS)], "text": [t for t, _ in texts]})
    pq.write_table(floats, folder / "floats.parquet")
    named = pa.table({"kind": [kind for _, kind in texts], "text": [t for t, _ in texts]})
    with (
        pa.OSFile(str(folder / "kinds.arrow"), "wb") as file,
        pa.ipc.new_stream(file, named.schema) as out,
    ):
        out.write_table(named)
    pq.write_table(named.rename_columns(["kind", "review"]), folder / "more.parquet")
    Dataset.from_dict(
        {"text": [t for t, _ in topics], "labels": [of for _, of in topics]}
    ).save_to_disk(folder / "saved")
    demo = {"task": "demo", "data_dir": demo_data}
    return {
        "pair": {**demo, **SHARP},
        "bfloat16, SGD": {**demo, **SHARP, "bf16": True, "optim": "sgd", "learning_rate": 0.1},
        "Adafactor": {**demo, **SHARP, "optim": "adafactor"},
        "single text": {"task": "cola", "data_dir": glue, **SHARP},
        "regression": {"task": "stsb", "data_dir": glue, **SHARP},
        "label names": {"task": "rte", "data_dir": glue, "max_grad_norm": 0.0, **SHARP},
        "class weights": {"train_file": (reviews,), "class_weights": "balanced", **SHARP},
        "multi-label": {
            "train_file": (joined,),
            "label_separator": "|",
            "class_weights": (1.0, 2.0, 0.5),
            **SHARP,
        },
        "lists of labels": {"train_file": (listed,), "class_weights": "balanced", **SHARP},
        "accumulation": {
            **demo,
            "gradient_accumulation_steps": 4,
            **SHARP,
            "num_train_epochs": 1.6,
            "test_file": (str(demo_data / "test.tsv"),),
        },
        "cosine with warm-up": {
            "train_file": (numbered,),
            "text_column": ("body",),
            "on_null": "drop",
            "learning_rate": 1e-3,
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr": 1e-4},
            "warmup_steps": 0.2,
            "weight_decay": 0.1,
            "adam_beta2": 0.98,
            "num_train_epochs": 3,
        },
        "early stopping": {
            "train_file": (reviews,),
            "validation_file": (shorter,),
            "metric_for_best_model": "f1_macro",
            "early_stopping_patience": 2,
            "load_best_model_at_end": True,
            "learning_rate": 3e-3,
            "num_train_epochs": 12,
            "logging_steps": 4,
        },
        "all at once": {
            "train_file": (reviews, shorter),
            "eval_strategy": "steps",
            "eval_steps": 5,
            "max_steps": 13,
            "gradient_accumulation_steps": 2,
            "class_weights": (1.0, 2.0, 3.5),
            "label_smoothing_factor": 0.1,
            "dropout": 0.3,
            "max_length": 9,
            "max_train_samples": 40,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "polynomial",
            "warmup_steps": 3,
        },
        "by a metric": {
            "train_file": (str(folder / "stars.parquet"),),
            "problem_type": "regression",
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "lr_scheduler_kwargs": {"patience": 0},
            "metric_for_best_model": "pearson",
            "learning_rate": 3e-3,
            "num_train_epochs": 5,
        },
        "frozen layers": {**demo, **SHARP, "freeze_layers": 1, "weight_decay": 0.1},
        "focal loss": {
            "train_file": (reviews,),
            "focal_gamma": 0.5,
            "class_weights": "balanced",
            **SHARP,
        },
        "focal loss of several labels": {
            "train_file": (listed,),
            "focal_gamma": 2.0,
            "freeze_embeddings": True,
            **SHARP,
        },
        "weighted sampling": {
            "train_file": (reviews,),
            "train_sampling_strategy": "weighted",
            "dataloader_num_workers": 2,
            **SHARP,
        },
        "sampling of several labels": {
            "train_file": (listed,),
            "train_sampling_strategy": "weighted",
            **SHARP,
        },
        "grouped by length": {**demo, **SHARP, "train_sampling_strategy": "group_by_length"},
        "new head": {"train_file": (reviews,), "new_head": True, **SHARP},
        "adapters": {
            **demo,
            **SHARP,
            "lora_rank": 2,
            "load_best_model_at_end": True,
            "test_file": (str(demo_data / "test.tsv"),),
        },
        "adapters, merged": {
            "train_file": (reviews,),
            "lora_rank": 3,
            "lora_alpha": 4.0,
            "merge_lora": True,
            "new_head": True,
            **SHARP,
        },
        "windows": {"train_file": (reviews,), "max_length": 8, "stride": 2, **SHARP},
        "windows of pairs": {
            **demo,
            **SHARP,
            "max_length": 12,
            "stride": 1,
            "lora_rank": 2,
            "gradient_accumulation_steps": 2,
            "test_file": (str(demo_data / "test.tsv"),),
        },
        "Arrow file": {
            "train_file": (str(folder / "kinds.arrow"),),
            "class_weights": "balanced",
            **SHARP,
        },
        "saved data set of several labels": {"train_file": (str(folder / "saved"),), **SHARP},
        "files of two formats": {
            "train_file": (reviews,),
            "validation_file": (str(folder / "more.parquet"),),
            "max_train_samples": 30,
            **SHARP,
        },
        "no evaluation": {
            "train_file": (str(folder / "floats.parquet"),),
            "eval_strategy": "no",
            "label_smoothing_factor": 0.2,
            **SHARP,
        },
    }
