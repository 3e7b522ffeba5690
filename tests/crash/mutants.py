"""Leave one piece of state after the other out of a resume: each must be missed by name.

    python tests/crash/mutants.py

In this process, on the tiny model: a run that never stops, one that is stopped after a step, and
one that is stopped in an evaluation. Each mutant resumes a copy of a stopped run with one piece put
back wrong. All pieces are compared when the loop starts, with those that were saved, and at the next
forward pass, with those of the run that never stopped; the files at the end are compared as well.
"""

import functools
import hashlib
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import asdict, fields
from pathlib import Path
from unittest.mock import patch

import crash
import numpy as np
import torch
from transformers import BertForSequenceClassification

from plainloop.config.settings import TrainConfig
from plainloop.errors import StoppedError
from plainloop.run import checkpoints
from plainloop.run.rng import RngState
from plainloop.run.signals import StopRequest
from plainloop.run.state import TrainState
from plainloop.training import fine_tune as fine_tuning, loop, session

SETTINGS = {
    **crash.SETTINGS,
    "num_train_epochs": 2,
    "early_stopping_patience": 20,
    "early_stopping_threshold": 1,  # so that no evaluation is a gain, and all are counted
    "lr_scheduler_type": "cosine",
    "save_steps": 50,
}
STOPS = {"step": 17, "evaluation": 16}  # in the second epoch; the steps since 15 are not logged yet
Pieces = dict[str, str]


def pieces_of(model, optimizer, lr_scheduler, state: TrainState, generators: RngState) -> Pieces:
    """A digest of each piece of a run's state."""
    values = {**asdict(state), "history": crash.without_times(state.history)}
    del values["rows_since_log"]
    tensors, groups = checkpoints.flatten_optimizer(optimizer.state_dict())
    for name in ("exp_avg", "exp_avg_sq", "step"):
        values[f"optimizer {name}"] = {
            key: digest(tensor) for key, tensor in tensors.items() if key.endswith(f".{name}")
        }
    values["optimizer groups"] = groups
    values["lr_scheduler"] = lr_scheduler.state_dict()
    values["weights"] = {name: digest(tensor) for name, tensor in model.state_dict().items()}
    for name, tensor in generators.tensors.items():
        values[f"generator {name}"] = digest(tensor), generators.rest.get(name)
    return {name: json.dumps(value, sort_keys=True) for name, value in values.items()}


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


class Watched:
    """A run whose pieces are taken when its loop starts, at each forward pass, and when it saves."""

    def __init__(self, folder: Path, **settings) -> None:
        self.folder, self.settings = folder, settings
        self.at_start: Pieces = {}
        self.at_forward: dict[int, Pieces] = {}
        self.saved: Pieces = {}

    def run(self, stop: StopRequest | None = None) -> None:
        config = TrainConfig(**SETTINGS, **self.settings, output_dir=self.folder)
        train, progress = fine_tuning.train, loop.Progress
        forward, save = BertForSequenceClassification.forward, checkpoints.Checkpoints.save
        objects: list = []

        def watched_train(model, optimizer, lr_scheduler, *rest, run, **more):
            objects[:] = model, optimizer, lr_scheduler
            if run.resumed:
                self.at_start = pieces_of(*objects, *run.resumed)
            return train(*objects, *rest, run=run, **more)

        class WatchedProgress(progress):
            def __init__(inner, *rest, **more):  # noqa: N805
                super().__init__(*rest, **more)
                self.progress = inner

        @functools.wraps(forward)  # its parameters say what the tokenizer has to give
        def watched_forward(model, *rest, **batch):
            if objects and model.training:
                state = self.progress._state
                if state.step not in self.at_forward:
                    self.progress.settle()
                    self.at_forward[state.step] = pieces_of(*objects, state, RngState.capture())
                # As an augmentation would: else nothing draws from these two.
                random.random()
                np.random.random()  # noqa: NPY002
            return forward(model, *rest, **batch)

        def watched_save(kept, state, *rest):
            self.saved = pieces_of(*objects, state, RngState.capture())
            return save(kept, state, *rest)

        with (
            patch.object(fine_tuning, "train", watched_train),
            patch.object(loop, "Progress", WatchedProgress),
            patch.object(BertForSequenceClassification, "forward", watched_forward),
            patch.object(checkpoints.Checkpoints, "save", watched_save),
        ):
            fine_tuning.fine_tune(config, stop=stop)


@contextmanager
def without_field(name: str):
    """TrainState without a field: it has its default."""

    def restored(**content):
        content.pop(name)
        return TrainState(**content)

    with patch.object(checkpoints, "TrainState", restored):
        yield


@contextmanager
def without_optimizer_tensors(name: str):
    unflatten = checkpoints.unflatten_optimizer

    def restored(tensors, groups):
        zeroed = {
            key: torch.zeros_like(value) if key.endswith(f".{name}") else value
            for key, value in tensors.items()
        }
        return unflatten(zeroed, groups)

    with patch.object(checkpoints, "unflatten_optimizer", restored):
        yield


@contextmanager
def without_optimizer_groups():
    unflatten = checkpoints.unflatten_optimizer

    def restored(tensors, groups):
        fresh = [{**group, "lr": SETTINGS["learning_rate"]} for group in groups]
        return unflatten(tensors, fresh)

    with patch.object(checkpoints, "unflatten_optimizer", restored):
        yield


@contextmanager
def without_generator(name: str):
    restore = RngState.restore

    def restored(saved):
        now = RngState.capture()
        restore(
            RngState(
                {**saved.tensors, name: now.tensors[name]},
                {**saved.rest, name: now.rest.get(name)},
            )
        )

    with patch.object(RngState, "restore", restored):
        yield


@contextmanager
def without_lr_scheduler():
    nothing = patch.object(
        torch.optim.lr_scheduler.LambdaLR, "load_state_dict", lambda scheduler, state: None
    )
    with nothing:
        yield


@contextmanager
def without_weights():
    def load(model, path, device):
        kept = model.classifier.bias.detach().clone()
        load_model(model, path, device=device)
        model.classifier.bias.data.copy_(kept)

    load_model = checkpoints.load_model
    with patch.object(checkpoints, "load_model", load):
        yield


def mutants() -> dict[str, Callable]:
    """The piece that each leaves out, and how."""
    # rows_since_log is for the speed alone, a time field.
    names = [field.name for field in fields(TrainState) if field.name != "rows_since_log"]
    found: dict[str, Callable] = {name: lambda name=name: without_field(name) for name in names}
    for name in ("exp_avg", "exp_avg_sq", "step"):
        found[f"optimizer {name}"] = lambda name=name: without_optimizer_tensors(name)
    for name in ("torch", "python", "numpy"):
        found[f"generator {name}"] = lambda name=name: without_generator(name)
    found["optimizer groups"] = without_optimizer_groups
    found["lr_scheduler"] = without_lr_scheduler
    found["weights"] = without_weights
    return found


class StopAt(StopRequest):
    """Asks the loop to stop after a step, or in the evaluation after it."""

    def __init__(self, step: int, *, in_evaluation: bool = False) -> None:
        super().__init__()
        self.step, self.in_evaluation, self.asked = step, in_evaluation, 0

    @contextmanager
    def watching(self):
        count_step, evaluate = TrainState.count_step, session.evaluate

        def counted(state, *counts):
            count_step(state, *counts)
            if state.step == self.step and not self.in_evaluation:
                self.signal_number = 15
            self.asked = state.step

        def evaluated(*rest, **more):
            if self.in_evaluation and self.asked == self.step:
                self.signal_number = 15
            return evaluate(*rest, **more)

        with (
            patch.object(TrainState, "count_step", counted),
            patch.object(session, "evaluate", evaluated),
        ):
            yield


class Mutants:
    """The run that never stopped, the stopped ones, and what a mutant changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        model, data = crash.make_inputs(folder)
        self.paths = {"model": str(model), "data_dir": data}
        self.straight = Watched(folder / "straight", **self.paths)
        self.straight.run()
        self.end = self.outcome(self.straight)
        self.stopped = {}
        for name, step in STOPS.items():
            stop = StopAt(step, in_evaluation=name == "evaluation")
            run = self.stopped[name] = Watched(folder / f"stopped-{name}", **self.paths)
            try:
                with stop.watching():
                    run.run(stop)
            except StoppedError:
                continue
            raise AssertionError("it did not stop")

    def outcome(self, run: Watched) -> dict:
        found = crash.outcome(run.folder)
        del found["checkpoints"]  # a stop adds one
        return found

    def resumed(self, mutant: Callable, place: str) -> tuple[list[str], list[str]]:
        """The pieces that differ when the loop goes on, and what differs at the end."""
        stopped = self.stopped[place]
        # Forced, since a best model that is not there would end the run before it is compared.
        run = Watched(self.folder / "resumed", **self.paths, resume=True, force=True)
        shutil.rmtree(run.folder, ignore_errors=True)
        shutil.copytree(stopped.folder, run.folder)
        missed: set[str] = set()
        try:
            with mutant(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                run.run()
            end = crash.compare(self.outcome(run), self.end)
        except Exception as error:  # noqa: BLE001  a mutant may break anything
            end = [f"{type(error).__name__}: {error}"]
        missed.update(crash.compare(run.at_start, stopped.saved))
        first = min(run.at_forward, default=0)
        if first in run.at_forward and first in self.straight.at_forward:
            missed.update(crash.compare(run.at_forward[first], self.straight.at_forward[first]))
        return sorted(missed), end


def main() -> int:
    """Print what each mutant is missed by; return how many are not, or are missed without one."""
    survivors, unequal = 0, 0
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        runs = Mutants(folder)
    for place in runs.stopped:
        missed, end = runs.resumed(nullcontext, place)
        print(f"no mutant, stopped in {place}: missed {missed}, at the end {end}")
        unequal += bool(missed or end)
    for name, mutant in mutants().items():
        missed, end = runs.resumed(mutant, "evaluation" if name == "evaluation_due" else "step")
        caught = name in missed
        survivors += not caught
        print(f"{'caught' if caught else 'SURVIVED'}: {name}: {missed}; at the end: {end}")
    print(f"{len(mutants())} mutants, {survivors} survived; {unequal} unequal without one")
    shutil.rmtree(folder)
    return survivors + unequal


if __name__ == "__main__":
    sys.exit(bool(main()))
