"""Two learning rates on MRPC, three seeds each: their reports, and what may be concluded.

    python benchmarks/learning_rates.py --data-dir GLUE --model demo --output-dir runs/rates

Six runs; stopped, the same command goes on where it was. Every other flag is that of
`plainloop train`. The reports are OUTPUT_DIR/low/report.html and OUTPUT_DIR/high/report.html.
"""

import sys
from dataclasses import replace
from pathlib import Path

from plainloop import StopRequest, TrainConfig, run_script
from plainloop.cli.compare import compare
from plainloop.experiments.seeds import train_seeds

RATES = {"low": 2e-5, "high": 5e-5}
NUM_SEEDS = 3


def main(config: TrainConfig, stop: StopRequest) -> None:
    """Train the seeds of each learning rate, and compare."""
    folder = config.output_dir or Path("runs/rates")
    for name, rate in RATES.items():
        of_rate = replace(
            config,
            task=config.task or "mrpc",
            learning_rate=rate,
            output_dir=folder / name,
            resume=True,
        )
        train_seeds(of_rate, [NUM_SEEDS], stop)
    compare(folder / "low", folder / "high", output=folder / "difference.json")


if __name__ == "__main__":
    run_script(main, sys.argv[1:], program="learning_rates.py", description=__doc__)
