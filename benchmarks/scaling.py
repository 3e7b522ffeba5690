"""What a second process brings: strong and weak scaling on one machine of 2 cores.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --task mrpc --data-dir GLUE --repeats 5 --steps 40

Strong scaling: 16 rows a step, by 1 process of 2 threads and by 2 processes of 1 thread each. Weak
scaling: 1 thread and 8 rows for each process, 1 process and 2. The three ways take turns in one run;
samples/s are those that the runs log, the first steps left out, and the ratios are of medians. Other
flags are those of `plainloop train`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TRAIN = Path(__file__).parent.parent / "train.py"
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class Way:
    """A way to train: how many processes, threads and rows of a step in each."""

    processes: int
    threads: int
    batch_size: int

    def __str__(self) -> str:
        process = "process" if self.processes == 1 else "processes"
        thread = "thread" if self.threads == 1 else "threads"
        return f"{self.processes} {process} x {self.threads} {thread}, {self.batch_size} rows each"


ONE_OF_TWO_THREADS = Way(1, 2, 16)
ONE_OF_ONE_THREAD = Way(1, 1, 8)
TWO_OF_ONE_THREAD = Way(2, 1, 8)


def samples_per_second(way: Way, steps: int, flags: list[str]) -> float:
    """Train once; the median of the logged steps."""
    with tempfile.TemporaryDirectory() as folder:
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(way.processes)]
        run = f"{folder}/run"
        command = [
            *([sys.executable] if way.processes == 1 else [sys.executable, *launch]),
            *[str(TRAIN), *flags, "--use-cpu", "--output-dir", run],
            *["--max-steps", str(WARM_UP_STEPS + steps), "--logging-steps", "1"],
            *["--per-device-train-batch-size", str(way.batch_size)],
            *["--eval-strategy", "no", "--save-strategy", "no"],
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(way.threads)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        lines = Path(run, "history.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines][WARM_UP_STEPS:]
    return float(statistics.median(record["samples_per_second"] for record in records))


def compare(name: str, ours: list[float], other: list[float]) -> str:
    """A line: medians, and their ratio with the range of the turns."""
    turns = [one / another for one, another in zip(ours, other, strict=True)]
    return (
        f"{name}: {statistics.median(ours):.1f} against {statistics.median(other):.1f} samples/s, "
        f"{statistics.median(ours) / statistics.median(other):.2f} times "
        f"({min(turns):.2f} to {max(turns):.2f} in the turns)"
    )


def main(tokens: list[str]) -> None:
    """Let the three ways take turns, and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of each way")
    parser.add_argument("--steps", type=int, default=30, help="measured steps of each turn")
    arguments, flags = parser.parse_known_args(tokens)
    flags = flags or ["--task", "demo"]
    ways = (ONE_OF_TWO_THREADS, ONE_OF_ONE_THREAD, TWO_OF_ONE_THREAD)
    rates: dict[Way, list[float]] = {way: [] for way in ways}
    for turn in range(arguments.repeats):
        for way in ways:
            rates[way].append(samples_per_second(way, arguments.steps, [*flags, "--model", "demo"]))
            print(f"turn {turn + 1}, {way}: {rates[way][-1]:.1f} samples/s", flush=True)
    print(compare("strong", rates[TWO_OF_ONE_THREAD], rates[ONE_OF_TWO_THREADS]))
    print(compare("weak", rates[TWO_OF_ONE_THREAD], rates[ONE_OF_ONE_THREAD]))


if __name__ == "__main__":
    main(sys.argv[1:])
