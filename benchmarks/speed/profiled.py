"""Where a training step's time goes, by what torch computes: on the Trainer and on plainloop.

    python -m speed.profiled SIDE WORK

A process that trains as `speed.training` does, and answers one request for some optimizer steps with
their seconds by kind of operation, as torch's profiler has them.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile
from tqdm.auto import tqdm

from speed.child import Child, Requests
from speed.pauses import Pauses
from speed.rows import WARM_UP_STEPS
from speed.sides import AUTO, TRAINER
from speed.work import Work

PROFILED_SIDES = (TRAINER, AUTO)
BATCH_SIZE = 8
"""The rows of the table that are profiled: where the least of the time is in products."""
STEPS = 40
KINDS = {
    "products of linear maps": ("addmm", "mm"),
    "products of attention": ("bmm", "baddbmm"),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "GELU": ("gelu", "gelu_backward"),
    "layer norm": ("native_layer_norm", "native_layer_norm_backward"),
    "random numbers": ("random_", "bernoulli_"),
    "AdamW": ("_fused_adamw_",),
    "norm of the gradients": ("linalg_vector_norm",),
    "other arithmetic": (
        "mul",
        "mul_",
        "add",
        "add_",
        "sub_",
        "sum",
        "div",
        "div_",
        "addcmul",
        "ge_",
    ),
    "copies and zeros": (
        "copy_",
        "cat",
        "fill_",
        "zero_",
        "index_select",
        "index",
        "masked_scatter",
    ),
}
"""Kind -> torch's operators, by the time within themselves. What is left over is the last kind."""
REST = "batches, Python, autograd, other operators"


class ProfiledRequests:
    """Stands between `Pauses` and the parent: profiles the steps that are asked for after the warm-up."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._profiler: profile | None = None
        self._is_warm = False

    def next(self) -> dict[str, Any]:
        """Warm up first; then profile as many steps as the parent asks for."""
        if not self._is_warm:
            return {"steps": WARM_UP_STEPS}
        request = self._requests.next()
        self._profiler = profile(activities=[ProfilerActivity.CPU])
        self._profiler.start()
        return request

    def answer(self, **values: Any) -> None:
        """Answer with the seconds of each kind."""
        if self._profiler is not None:
            self._profiler.stop()
            self._requests.answer(kinds=seconds_by_kind(self._profiler, values["seconds"]))
        self._is_warm = True


def seconds_by_kind(profiler: profile, seconds: float) -> dict[str, float]:
    """The seconds that the operators of each kind took by themselves, and what is left of all seconds."""
    kind_of = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
    taken = dict.fromkeys(KINDS, 0.0)
    for event in profiler.key_averages():
        if event.key in kind_of:
            taken[kind_of[event.key]] += event.self_cpu_time_total / 1e6
    return {**taken, REST: seconds - sum(taken.values())}


def measure_profile(title: str, work: Work, *, steps: int, threads: int) -> dict[str, Any]:
    """Profile the same steps on each side.

    Returns:
        steps; and for each side kinds, the seconds of each kind.
    """
    work = replace(work, max_steps=WARM_UP_STEPS + steps)
    sides = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, side in enumerate(
            tqdm(PROFILED_SIDES, desc=f"profile, {title}", unit="side", leave=False)
        ):
            words = ("speed.profiled", side, work.dumps())
            with Child(*words, log=Path(folder) / f"{number}.log", threads=threads) as child:
                sides[side] = child.ask(steps=steps)
    return {"steps": steps, **sides}


def main(side: str, work: str) -> None:
    """Train until the parent has its answer."""
    from speed.training import LOOPS

    requests: Any = ProfiledRequests(Requests())
    with tempfile.TemporaryDirectory() as folder:
        LOOPS[side](Work.loads(work), Path(folder) / "run", Pauses(requests))


if __name__ == "__main__":
    main(*sys.argv[1:])
