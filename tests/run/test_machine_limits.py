"""A step that does not fit into the memory ends with the batch that would."""

import pytest
import torch

from plainloop.config.settings import TrainConfig
from plainloop.errors import MachineError
from plainloop.run.machine_limits import explain_training_errors

OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from plainloop.cli.app import train
from plainloop.cli.exits import expected_errors_exit
from plainloop.config.settings import TrainConfig
import torch, plainloop.training.fine_tune, plainloop.training.loop

settings = TrainConfig(
    task="demo", model=sys.argv[1], data_dir=Path(sys.argv[2]), max_steps=2,
    per_device_train_batch_size=32, gradient_accumulation_steps=2,
)
original = plainloop.training.loop.optimizer_steps
def optimizer_steps(*arguments):
    # From the first step on no more than 100 MB is to be had, and 1 GB is asked for.
    resource.setrlimit(resource.RLIMIT_AS, (100 * 2**20 + used(), -1))
    for step in original(*arguments):
        torch.empty(2**28)
        yield step
def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
plainloop.training.loop.optimizer_steps = optimizer_steps
with expected_errors_exit():
    train(settings)
"""


def test_a_real_failed_allocation_ends_with_exit_4_and_the_same_effective_batch(
    run_command, tiny_model, tiny_data, tmp_path
):
    script = tmp_path / "out_of_memory.py"
    script.write_text(OUT_OF_MEMORY, encoding="utf-8")
    finished = run_command(script, tiny_model, tiny_data, expect=4)
    assert "Traceback" not in finished.stderr
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("error: out of memory with 32 rows in a training batch")
    assert "--per-device-train-batch-size 16 --gradient-accumulation-steps 4" in last


@pytest.mark.parametrize(
    ("rows", "batches", "smaller", "more"), [(8, 1, 4, 2), (3, 2, 1, 6), (2, 4, 1, 8)]
)
def test_the_advice_keeps_the_effective_batch(rows, batches, smaller, more):
    config = TrainConfig(per_device_train_batch_size=rows, gradient_accumulation_steps=batches)
    with pytest.raises(MachineError) as caught, explain_training_errors(config):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    assert f"size {smaller} --gradient-accumulation-steps {more} " in str(caught.value)
    assert smaller * more == rows * batches


def test_one_row_that_does_not_fit_gets_other_advice():
    config = TrainConfig(per_device_train_batch_size=1)
    with pytest.raises(MachineError, match="--max-length"), explain_training_errors(config):
        raise MemoryError


def test_another_error_is_not_taken_for_it():
    with pytest.raises(RuntimeError, match="shape"), explain_training_errors(TrainConfig()):
        raise RuntimeError("shape mismatch")
