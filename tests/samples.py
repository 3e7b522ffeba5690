"""The files that a page's blocks find in their folder: rows of the embedded pairs and of reviews."""

import csv
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from conftest import python

from plainloop.data.glue import SAMPLES_DIR

OPINIONS = {
    "good": ["I love it", "it works very well", "a great buy, I am happy"],
    "bad": ["it broke at once", "I want my money back", "a waste of money"],
}
THINGS = ["This phone", "The lamp", "My new chair", "The kettle", "Their radio"]
SHORT = ["--model", "demo", "--max-steps", "6", "--save-strategy", "no"]


def write(path: Path, rows: Sequence[Sequence[object]], separator: str = "\t") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def pairs(split: str, rows: slice) -> list[tuple[str, str, int]]:
    lines = (SAMPLES_DIR / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    split_lines = [line.split("\t") for line in lines[rows]]
    return [(first, second, int(label)) for first, second, label in split_lines]


def reviews() -> list[tuple[str, str]]:
    return [
        (f"{thing}, bought in {year}: {opinion}.", label)
        for year in (2023, 2024)
        for thing in THINGS
        for nth in range(3)
        for label, opinions in OPINIONS.items()
        for opinion in opinions[nth : nth + 1]
    ]


def write_glue(folder: Path) -> None:
    """MRPC, CoLA, STS-B and SST-2 in GLUE's layout, 48 rows to train on and 48 others each."""
    for ours, theirs in (("train", "train"), ("validation", "dev")):
        rows = pairs(ours, slice(48))
        numbered = [(nth, *row) for nth, row in enumerate(rows)]
        write(
            folder / "MRPC" / f"{theirs}.tsv",
            [
                ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
                *((label, 2 * nth, 2 * nth + 1, a, b) for nth, a, b, label in numbered),
            ],
        )
        # A sentence with its words in reverse is none.
        write(
            folder / "CoLA" / f"{theirs}.tsv",
            [
                ("ours", nth % 2, "", a if nth % 2 else " ".join(reversed(a.split())))
                for nth, a, _, _ in numbered
            ],
        )
        header = "index genre filename year old_index source1 source2 sentence1 sentence2 score"
        write(
            folder / "STS-B" / f"{theirs}.tsv",
            [
                header.split(),
                *(
                    (nth, "ours", "ours", 2025, nth, "none", "none", a, b, 1 + 3 * label + nth % 2)
                    for nth, a, b, label in numbered
                ),
            ],
        )
        write(
            folder / "SST-2" / f"{theirs}.tsv",
            [("sentence", "label"), *((t, int(label == "good")) for t, label in reviews()[:48])],
        )
    unlabelled = pairs("validation", slice(48, 64))
    write(
        folder / "MRPC" / "test.tsv",
        [
            ("index", "#1 ID", "#2 ID", "#1 String", "#2 String"),
            *((n, 2 * n, 2 * n + 1, a, b) for n, (a, b, _) in enumerate(unlabelled)),
        ],
    )


def write_survey(path: Path) -> None:
    """A csv file as a German Excel saves it: a column of texts, three of 0 and 1."""
    rows = [("Kommentar", "Preis", "Service", "Qualität")]
    rows += [
        (f"{text[:-1]}; really", *(n >> bit & 1 for bit in range(3)))
        for n, (text, _) in enumerate(reviews())
    ]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";", lineterminator="\r\n").writerows(rows)


def write_exports(folder: Path) -> None:
    """What Label Studio, doccano and Prodigy export."""
    rows = [*enumerate(reviews())]
    studio = [
        {
            "id": n,
            "data": {"text": text},
            "annotations": [{"completed_by": 1, "result": [{"value": {"choices": [label]}}]}],
        }
        for n, (text, label) in rows
    ]
    doccano = [
        {"id": n, "text": text, "label": [label], "Comments": []} for n, (text, label) in rows
    ]
    prodigy = [
        {"text": text, "_input_hash": n, "options": [], "accept": [label], "answer": "accept"}
        for n, (text, label) in rows
    ]
    (folder / "label-studio.json").write_text(json.dumps(studio, indent=2), encoding="utf-8")
    write(folder / "doccano.jsonl", [[json.dumps(row)] for row in doccano])
    write(folder / "prodigy.jsonl", [[json.dumps(row)] for row in prodigy])


def write_samples(folder: Path) -> None:
    """GLUE/, files of one's own, and the finished runs runs/reviews and runs/mrpc.

    The files: reviews.csv and new.csv, without its labels; pairs.csv; tags.csv, of several labels a
    row; prices.csv, of numbers; shards/1.jsonl, shards/2.jsonl and dev.jsonl; survey.csv, from Excel;
    label-studio.json, doccano.jsonl and prodigy.jsonl.
    """
    write_survey(folder / "survey.csv")
    write_exports(folder)
    write_glue(folder / "GLUE")
    write_csv(folder / "reviews.csv", [("text", "label"), *reviews()])
    write_csv(
        folder / "pairs.csv", [("sentence1", "sentence2", "label"), *pairs("train", slice(60))]
    )
    write_csv(folder / "new.csv", [("id", "text"), *enumerate(text for text, _ in reviews()[::7])])
    write_csv(
        folder / "tags.csv",
        [
            ("text", "tags"),
            *((text, f"{label};old" if "2023" in text else label) for text, label in reviews()),
        ],
    )
    write_csv(
        folder / "prices.csv",
        [("text", "price"), *((text, 9.5 + len(text) / 8) for text, _ in reviews())],
    )
    lines = [json.dumps({"text": text, "label": label}) for text, label in reviews()]
    for name, part in (("shards/1", lines[:24]), ("shards/2", lines[24:48]), ("dev", lines[48:])):
        write(folder / f"{name}.jsonl", [[line] for line in part])
    train = [python(), "-m", "plainloop", "train", *SHORT]
    for name, rows in (
        ("reviews", ["--train-file", "reviews.csv"]),
        ("mrpc", ["--task", "mrpc", "--data-dir", "GLUE"]),
    ):
        subprocess.run(
            [*train, *rows, "--output-dir", f"runs/{name}"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
