"""What class weights, focal loss and weighted sampling do on a set with 5 % positive rows.

    python benchmarks/imbalance.py

Trains the demo model on the embedded pairs four times, with the same seed. Of the paraphrases in the
training rows only the first few are kept, so that they are 5 %; the validation rows are all kept, half
of them paraphrases, since 5 % would be 11 rows, too few to measure. What depends on the share is
computed for a share of 5 % from the two recalls, which do not depend on it. Prints the table that is in
docs/imbalance.md.
"""

import csv
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from plainloop import TrainConfig, fine_tune, get_task, read_splits

SHARE = 0.05
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "`--class-weights balanced`": {"class_weights": "balanced"},
    "`--focal-gamma 2`": {"focal_gamma": 2.0},
    "`--train-sampling-strategy weighted`": {"train_sampling_strategy": "weighted"},
}
COLUMNS = ("recall", "false alarms", "precision", "F1", "ROC AUC", "validation loss")


def write_files(folder: Path) -> dict[str, Any]:
    """Write train.csv and validation.csv; return the settings that name them."""
    raw = read_splits(get_task("demo"))
    settings: dict[str, Any] = {}
    for split in ("train", "validation"):
        rows = raw[split].to_list()
        negatives = [row for row in rows if row["label"] == 0]
        positives = [row for row in rows if row["label"] == 1]
        if split == "train":
            positives = positives[: round(len(negatives) * SHARE / (1 - SHARE))]
        path = folder / f"{split}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sentence1", "sentence2", "label"])
            for row in sorted(negatives + positives, key=lambda row: row["idx"]):
                writer.writerow([row["sentence1"], row["sentence2"], row["label"]])
        print(f"{split}: {len(negatives)} rows with label 0, {len(positives)} with label 1")
        settings[f"{split}_file"] = (str(path),)
    return settings


def at_share(scores: dict[str, float]) -> tuple[float, ...]:
    """The columns of the table, precision and F1 of label 1 as they are where it is 5 %."""
    recall, false_alarms = scores["recall/1"], 1 - scores["recall/0"]
    hits, wrong = SHARE * recall, (1 - SHARE) * false_alarms
    precision = hits / (hits + wrong) if hits + wrong else 0.0
    f1 = 2 * hits / (hits + wrong + SHARE)
    return recall, false_alarms, precision, f1, scores["roc_auc"], scores["loss"]


def main() -> None:
    """Train in each way and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = TrainConfig(
            **write_files(folder),
            text_column=("sentence1", "sentence2"),
            label_column="label",
            model="demo",
            per_device_train_batch_size=16,
            num_train_epochs=3,
            save_strategy="no",
            use_cpu=True,
        )
        lines = []
        for number, (way, settings) in enumerate(WAYS.items()):
            metrics = fine_tune(replace(config, output_dir=folder / f"run-{number}", **settings))
            columns = at_share(metrics["saved"])
            lines.append(" | ".join([way, *(f"{value:.3f}" for value in columns)]))
    print("\n| " + " | ".join(["", *COLUMNS]) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for line in lines:
        print(f"| {line} |")


if __name__ == "__main__":
    main()
