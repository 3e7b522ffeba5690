"""What ONNX export changes in a run's predictions: the demo, MRPC, a multi-label and a regression run.

    python benchmarks/exports.py GLUE runs/exports

GLUE is a folder with MRPC and STS-B; the other takes the runs and their exports. Each run is trained with
the defaults from the demo model, exported in float32 and int8 with --accept, and compared on its
validation rows. The multi-label run has the first sentences of STS-B; their labels are the genre, and
whether there is a digit or a quotation mark. Writes docs/recorded/exports.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import plainloop as pl
from plainloop.config.settings import TrainConfig
from plainloop.predict.export.export_run import export_run

RECORDED = Path(__file__).parent.parent / "docs" / "recorded" / "exports.json"


def write_tags(glue: Path, folder: Path) -> dict[str, Any]:
    """Write the multi-label rows; the settings that read them."""
    for split in ("train", "dev"):
        rows = (glue / "STS-B" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for genre, text in {tuple(row.split("\t")[1:8:6]): None for row in rows}:
                found = {"digit": any(map(str.isdigit, text)), "quotation": '"' in text}
                tags = [genre.removesuffix("s"), *(tag for tag, has in found.items() if has)]
                file.write(json.dumps({"text": text, "tags": tags}) + "\n")
    return {
        "train_file": (str(folder / "train.jsonl"),),
        "validation_file": (str(folder / "dev.jsonl"),),
        "label_column": "tags",
    }


def export_proof(folder: Path, **settings: Any) -> dict[str, Any]:
    """Train a run and export it; what export.json says of predictions: no rows, no speed."""
    settings = {"task": None, "model": "demo", "output_dir": folder / "run", **settings}
    pl.fine_tune(TrainConfig(**settings))
    export_run(pl.load_run(folder / "run"), folder / "onnx", accept=True)
    written = json.loads((folder / "onnx" / "export.json").read_text(encoding="utf-8"))
    proof: dict[str, Any] = written["proof"]
    del proof["run"]
    for exported in proof["proofs"].values():
        del exported["changed_rows"], exported["speed"]
    return proof


def lines(proof: dict[str, Any]) -> list[list[Any]]:
    """The numbers of a proof as in the table of docs/how-to/onnx.md, float32 first."""
    found = []
    for exported in proof["proofs"].values():
        headline = next(iter(exported["scores"].values()))
        labels = [] if exported["labels_changed"] is None else [exported["labels_changed"]]
        scores = [headline[name] for name in ("first", "second", "difference")]
        numbers = [*labels, proof["rows"], exported["largest_difference"]]
        found.append([*numbers, *scores, *headline["interval"]])
    return found


def main() -> None:
    """Write the file."""
    glue, folder = (Path(word).resolve() for word in sys.argv[1:])
    folder.mkdir(parents=True)
    kinds: dict[str, dict[str, Any]] = {
        "demo": {"task": "demo"},
        "mrpc": {"task": "mrpc", "data_dir": glue},
        "multi-label": write_tags(glue, folder),
        "stsb": {"task": "stsb", "data_dir": glue},
    }
    found = {kind: export_proof(folder / kind, **settings) for kind, settings in kinds.items()}
    content = {
        "proofs": found,
        "table": [line for proof in found.values() for line in lines(proof)],
    }
    RECORDED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
