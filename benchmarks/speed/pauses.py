"""Lets any training loop run so many optimizer steps at a time, and sleeps in between."""

import time
from typing import Any

import torch
from datasets import Dataset
from torch.optim.optimizer import register_optimizer_step_post_hook

from speed.child import Requests, peak_memory


class Pauses:
    """Runs the loop of this process from one request to the next.

    A pause is in a hook that torch calls after every optimizer step of the process, so that no loop
    is changed for it and each is timed from the end of one step to the end of another. The row
    numbers of the batches are those that the loaders ask the data set for.

    A request is {"steps": N}; the answer has seconds, rows (the numbers of the rows of each step),
    threads and peak_memory (bytes, of the process so far).
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._batches: list[list[int]] = []
        self._step = 0
        self._record_batches()
        register_optimizer_step_post_hook(self._after_step)
        self._resume()

    def forget_batches(self) -> None:
        """Leave out what was drawn before the training, to be looked at."""
        self._batches.clear()

    def _resume(self) -> None:
        self._first, self._end = self._step, self._step + self._requests.next()["steps"]
        self._started = time.perf_counter()

    def _after_step(self, *_: Any) -> None:
        self._step += 1
        if self._step < self._end:
            return
        seconds = time.perf_counter() - self._started
        if not 0 <= len(self._batches) - self._step <= 1:  # accelerate's loaders draw one ahead
            raise RuntimeError(f"{len(self._batches)} batches drawn for {self._step} steps")
        self._requests.answer(
            seconds=seconds,
            rows=self._batches[self._first : self._step],
            threads=torch.get_num_threads(),
            peak_memory=peak_memory(),
        )
        self._resume()

    def _record_batches(self) -> None:
        get_rows = Dataset.__getitems__

        def recorded(dataset: Dataset, keys: list[int]) -> Any:
            self._batches.append(list(keys))
            return get_rows(dataset, keys)

        Dataset.__getitems__ = recorded
