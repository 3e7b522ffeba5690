"""The full training beside the Trainer's: what the faster execution does to the scores, if anything.

    python -m speed.accuracy SIDE WORK SEED

A process that trains with the defaults for 3 epochs and answers with the last evaluation.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t
from tqdm.auto import tqdm

from speed.child import Child, Requests
from speed.results import describe_machine
from speed.work import Work

SIDES = ("Trainer", "plainloop")
EPOCHS = 3.0


def train(side: str, work: Work, seed: int, folder: Path) -> dict[str, float]:
    """Train, and evaluate after each epoch; return the last evaluation."""
    from parity import run_trainer

    from plainloop.training.fine_tune import fine_tune

    config = work.config(
        seed=seed, num_train_epochs=EPOCHS, max_steps=-1, eval_strategy="epoch", output_dir=folder
    )
    if side == "Trainer":
        scores: dict[str, float] = run_trainer(config)["evaluations"][-1]
        return scores
    saved: dict[str, float] = fine_tune(config)["saved"]
    return saved


def measure_seed(work: Work, *, seed: int, threads: int) -> dict[str, Any]:
    """Train on each side with a seed.

    Returns:
        For each side the scores of its last evaluation; and machine, on which both were trained.
    """
    machine = describe_machine(threads)
    scores: dict[str, Any] = {"machine": {name: machine[name] for name in ("cpu", "threads")}}
    with tempfile.TemporaryDirectory() as folder:
        for side in tqdm(SIDES, desc=f"accuracy, seed {seed}", unit="training", leave=False):
            words = ("speed.accuracy", side, work.dumps(), str(seed))
            with Child(*words, log=Path(folder) / f"{side}.log", threads=threads) as child:
                scores[side] = child.ask()
    return scores


def paired_interval(differences: list[float]) -> tuple[float, float]:
    """The mean of paired differences and half the width of its 95 % interval, by Student's t.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(differences) < 2:  # noqa: PLR2004
        raise ValueError("one difference has no interval")
    values = np.asarray(differences)
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(t.ppf(0.975, len(values) - 1) * error)


def main(side: str, work: str, seed: str) -> None:
    """Answer the one request."""
    requests = Requests()
    requests.next()
    with tempfile.TemporaryDirectory() as folder:
        requests.answer(**train(side, Work.loads(work), int(seed), Path(folder) / "run"))


if __name__ == "__main__":
    main(*sys.argv[1:])
