"""On a GPU: is plainloop equal to the Trainer, and how fast are both? One command, no downloads.

    python benchmarks/gpu.py -o gpu.json                  at most 8 minutes
    python benchmarks/gpu.py --device cpu --smoke         a tiny model, to see that this script runs

The model is a random BERT of bert-base's size, the rows are random words; both are made here. First
10 steps are compared, each loss and gradient norm:

    padded and the Trainer    dropout on; within 1e-5 in float32 and 1e-2 in bfloat16, relative
    unpadded and padded       without dropout, which draws other numbers; within 1e-3 and 2e-2

Then samples/s and the most memory that torch has allocated, of four ways to train, for short, long and
mixed rows: 5 steps to warm up, then the median of 5 blocks of 6 steps. Nothing is logged, evaluated or
saved meanwhile. plainloop computes in bfloat16 there, so the Trainer with bf16 and group_by_length is
what it is compared with. Exit code 1: a comparison is not within its tolerance, or a part failed.
"""

import argparse
import gc
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from speed.work import Work, create_trainer
from torch.optim.optimizer import register_optimizer_step_post_hook

WORDS = [
    f"w{number}" for number in range(20_000)
]  # of which most are in the rows, as in real texts
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
COMPARED_STEPS = 10
SECONDS = 8 * 60
TRAINER, PLAINLOOP = "Trainer", "plainloop"


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        side: TRAINER or PLAINLOOP.
        settings: of TrainingArguments or of TrainConfig.
    """

    side: str
    settings: dict[str, Any]


WAYS = {
    "Trainer, default": Way(TRAINER, {}),
    "Trainer, bf16, group_by_length": Way(
        TRAINER, {"bf16": True, "train_sampling_strategy": "group_by_length"}
    ),
    "plainloop, bf16, padded": Way(PLAINLOOP, {"bf16": True, "execution": "padded"}),
    "plainloop, bf16, unpadded": Way(PLAINLOOP, {"bf16": True, "execution": "unpadded"}),
}
PADDED = Way(PLAINLOOP, {"execution": "padded"})
WITHOUT_DROPOUT = Way(PLAINLOOP, {"execution": "padded", "dropout": 0.0})
UNPADDED = Way(PLAINLOOP, {"execution": "unpadded", "dropout": 0.0})
COMPARISONS = (
    ("padded and the Trainer, float32", PADDED, Way(TRAINER, {}), False, 1e-5),
    ("padded and the Trainer, bfloat16", PADDED, Way(TRAINER, {}), True, 1e-2),
    ("unpadded and padded, float32", UNPADDED, WITHOUT_DROPOUT, False, 1e-3),
    ("unpadded and padded, bfloat16", UNPADDED, WITHOUT_DROPOUT, True, 2e-2),
)
"""What is compared, two ways, whether in bfloat16, the largest relative difference."""


@dataclass(frozen=True)
class Blocks:
    """How many optimizer steps a measurement has: a warm-up, then so many blocks of so many steps."""

    warm_up: int = 5
    blocks: int = 5
    steps: int = 6

    @property
    def total(self) -> int:
        """Steps of a measurement."""
        return self.warm_up + self.blocks * self.steps


@dataclass
class Clock:
    """Takes the time after the warm-up and after each block of optimizer steps, on either side."""

    blocks: Blocks
    on_gpu: bool
    steps: int = 0
    times: list[float] = field(default_factory=list)

    def __call__(self, *_: Any) -> None:
        """Count an optimizer step."""
        self.steps += 1
        in_blocks = self.steps - self.blocks.warm_up
        if in_blocks >= 0 and in_blocks % self.blocks.steps == 0:
            if self.on_gpu:
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())


@dataclass(frozen=True)
class Bench:
    """The folders, sizes and device of a run of this script.

    Attributes:
        folder: holds the model, and the rows of each kind in a folder of its name.
        device: cuda or cpu.
        batch_size: rows of a step.
        blocks: the steps of a measurement.
        lengths: kind of rows -> the fewest and the most words of one.
    """

    folder: Path
    device: str
    batch_size: int
    blocks: Blocks
    lengths: dict[str, tuple[int, int]]

    def make(self, *, is_tiny: bool) -> None:
        """Write the model, its tokenizer, and the rows of each kind."""
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        most = max(most for _, most in self.lengths.values()) + 3
        vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
        inner = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        names = dict(
            zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True)
        )
        PreTrainedTokenizerFast(
            tokenizer_object=inner,
            model_max_length=most,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            **names,
        ).save_pretrained(self.folder / "model")
        tiny: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        tiny |= {"intermediate_size": 64, "vocab_size": len(vocabulary)}
        torch.manual_seed(0)
        config = BertConfig(**tiny) if is_tiny else BertConfig()  # 12 layers of 768
        BertModel(config).save_pretrained(self.folder / "model")
        draw = random.Random(0)  # noqa: S311
        for kind, lengths in self.lengths.items():
            data = self.folder / kind
            data.mkdir()
            num_rows = self.batch_size * max(self.blocks.total, COMPARED_STEPS)
            write_rows(data / "train.tsv", num_rows, lengths, draw)
            write_rows(data / "validation.tsv", 8, lengths, draw)

    def train(self, way: Way, kind: str, steps: int, *, log: bool) -> dict[str, Any]:
        """Train so many steps of full batches.

        Returns:
            steps: the records of the logged steps; samples_per_second: of each block; and
            peak_bytes, on a GPU.
        """
        on_gpu = self.device == "cuda"
        AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - of the last side
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        work = Work(
            "demo", str(self.folder / kind), str(self.folder / "model"), self.batch_size, steps
        )
        settings = {"logging_steps": 1 if log else steps, "use_cpu": not on_gpu, **way.settings}
        clock = Clock(self.blocks, on_gpu)
        hook = register_optimizer_step_post_hook(clock)
        try:
            # What the sides print goes beside the results.
            with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
                run = {TRAINER: run_trainer, PLAINLOOP: run_plainloop}[way.side]
                records = run(work, Path(folder) / "run", settings)
        finally:
            hook.remove()
        seconds = [after - before for before, after in pairwise(clock.times)]
        return {
            "steps": records,
            "samples_per_second": [self.blocks.steps * self.batch_size / each for each in seconds],
            "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        }


def write_rows(path: Path, num_rows: int, lengths: tuple[int, int], draw: random.Random) -> None:
    """Pairs of texts of random words; the words of a pair are as many as a log-uniform draw says."""
    low, high = lengths
    lines = ["sentence1\tsentence2\tlabel"]
    for row in range(num_rows):
        words = draw.choices(WORDS, k=round(low * (high / low) ** draw.random()))
        half = max(1, len(words) // 2)
        lines.append(f"{' '.join(words[:half])}\t{' '.join(words[half:])}\t{row % 2}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_trainer(work: Work, folder: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The Trainer with its defaults and these arguments; its records of logged steps."""
    trainer = create_trainer(work, folder, **settings)
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


def run_plainloop(work: Work, folder: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What `plainloop train` does; its records of logged steps."""
    from plainloop.training.fine_tune import fine_tune

    fine_tune(work.config(output_dir=folder, **settings))
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def compare(bench: Bench, ours: Way, theirs: Way, *, bf16: bool) -> float:
    """The largest relative difference of a step's loss or gradient norm."""
    first, second = (
        bench.train(
            replace(way, settings={**way.settings, "bf16": bf16}), "mixed", COMPARED_STEPS, log=True
        )["steps"]
        for way in (ours, theirs)
    )
    assert len(first) == len(second) == COMPARED_STEPS
    differences = [
        abs(one[name] - other[name]) / abs(other[name])
        for one, other in zip(first, second, strict=True)
        for name in ("loss", "grad_norm")
    ]
    return float(np.max(differences))  # NaN if any is


def measure(bench: Bench, found: dict[str, Any], deadline: float) -> None:
    """Compare and measure into `found`; a part that fails or comes too late is named there."""
    compared: dict[str, Any] = found.setdefault("comparisons", {})
    cells: dict[str, Any] = found.setdefault("cells", {})
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    for title, ours, theirs, bf16, tolerance in COMPARISONS:
        try:
            difference = compare(bench, ours, theirs, bf16=bf16)
        except Exception:  # noqa: BLE001 - a GPU's time is rare: the other parts go on
            compared[title] = {"failed": traceback.format_exc()}
            print(f"{title:<34} FAILED", flush=True)
            continue
        compared[title] = {"difference": difference, "tolerance": tolerance}
        verdict = "equal, bit for bit" if difference == 0 else f"differ by {difference:.1e}"
        word = "" if difference <= tolerance else "  NOT within the tolerance"
        print(f"{title:<34} {verdict} (at most {tolerance:g}){word}", flush=True)
    torch.use_deterministic_algorithms(mode=False)
    for kind in bench.lengths:
        for name, way in WAYS.items():
            cell = f"{kind}, {name}"
            if time.perf_counter() > deadline:
                cells[cell] = {"failed": "the 8 minutes are over"}
                continue
            try:
                cells[cell] = bench.train(way, kind, bench.blocks.total, log=False)
            except Exception:  # noqa: BLE001
                cells[cell] = {"failed": traceback.format_exc()}


def table(found: dict[str, Any], kinds: Sequence[str]) -> str:
    """Samples/s and peak memory of each way and kind of rows."""
    lines = [f"{'':<32}" + "".join(f"{kind + ', samples/s':>20}{'GB':>7}" for kind in kinds)]
    for name in WAYS:
        line = f"{name:<32}"
        for kind in kinds:
            cell = found["cells"][f"{kind}, {name}"]
            if "failed" in cell:
                line += f"{'failed':>27}"
                continue
            peak = cell["peak_bytes"]
            gigabytes = "-" if peak is None else f"{peak / 1e9:.2f}"
            line += f"{median(cell['samples_per_second']):>20.1f}{gigabytes:>7}"
        lines.append(line)
    return "\n".join(lines)


def main(tokens: Sequence[str] | None = None) -> int:
    """Compare, measure, print; 1 if a comparison is off or a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch-size", type=int, default=16, help="rows of a step")
    parser.add_argument("--smoke", action="store_true", help="a tiny model and short rows")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for all measurements")
    arguments = parser.parse_args(tokens)
    os.environ.setdefault(
        "CUDA_VISIBLE_DEVICES", "0"
    )  # with more the Trainer takes more rows a step
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: torch finds no GPU; --device cpu --smoke only tries the script", file=sys.stderr
        )
        return 2
    started = time.perf_counter()
    blocks, lengths = Blocks(), {"short": (8, 30), "long": (256, 509), "mixed": (8, 509)}
    if arguments.smoke:
        blocks = Blocks(warm_up=1, blocks=2, steps=1)
        lengths = {"short": (4, 8), "long": (16, 24), "mixed": (4, 24)}
    is_gpu = arguments.device == "cuda"
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if is_gpu else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "batch_size": arguments.batch_size,
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.device, arguments.batch_size, blocks, lengths)
        bench.make(is_tiny=arguments.smoke)
        measure(bench, found, started + SECONDS)
    found["seconds"] = time.perf_counter() - started
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\n{found['device']}, torch {found['torch']}, {arguments.batch_size} rows a step\n")
    print(table(found, list(lengths)))
    parts = [*found["comparisons"].items(), *found["cells"].items()]
    failed = {name: part["failed"] for name, part in parts if "failed" in part}
    for name, why in failed.items():
        print(f"\n{name} failed:\n{why}", file=sys.stderr)
    off = [
        name
        for name, part in found["comparisons"].items()
        if "failed" not in part and not part["difference"] <= part["tolerance"]  # as of a NaN
    ]
    return 1 if failed or off else 0


if __name__ == "__main__":
    sys.exit(main())
