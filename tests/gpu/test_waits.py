"""Where a step of a training waits for its GPU: each line is known. Seen by twins, without a GPU."""

from collections import Counter
from unittest.mock import patch

import pytest
from architectures.tiny import save_checkpoint
from tiny import RunTiny
from twin import on_twins

from plainloop.run.state import TrainState
from plainloop.training.loop import Progress

STEP = 4  # neither it nor a step before it is logged
# The batch, by accelerate: each of its tensors; and transformers looks for padding in the mask.
BATCH = {"transformers/tokenization_utils_base.py", "accelerate/utils/operations.py"}
THEIRS = "transformers/masking_utils.py"
LENGTHS = "plainloop/model/unpadded/packing.py"
WINDOWS = "plainloop/data/batches/sliding_windows.py"
PADDED, UNPADDED = {"execution": "padded"}, {"execution": "unpadded"}
WEIGHTS = {"class_weights": (1.0, 2.0), "gradient_accumulation_steps": 2}
CASES = {
    "padded": (PADDED, {THEIRS: 1}),
    "padded, class weights, two batches": ({**PADDED, **WEIGHTS}, {THEIRS: 2}),
    "unpadded": ({**UNPADDED, "focal_gamma": 2.0}, {LENGTHS: 1}),
    "unpadded, windows": ({**UNPADDED, "max_length": 16, "stride": 2}, {LENGTHS: 1, WINDOWS: 1}),
}


@pytest.fixture
def in_a_step(run: RunTiny):
    """The files whose lines wait for the GPU, and those that copy to it, in one step."""

    def in_a_step(**settings):
        counts = []
        count_step = TrainState.count_step

        def counted(state, *args):
            count_step(state, *args)
            counts.append((mode.waits.copy(), mode.copies.copy()))

        settings = {"eval_strategy": "no", "save_strategy": "no", "logging_steps": 100, **settings}
        with on_twins() as mode, patch.object(TrainState, "count_step", counted):
            run(max_steps=STEP + 1, **settings)
        before, after = counts[STEP - 2 : STEP]
        return [by_file(now - earlier) for now, earlier in zip(after, before, strict=True)]

    return in_a_step


def by_file(counted):
    files = Counter()
    for (_, line), number in counted.items():
        files[line.rpartition(":")[0]] += number
    return {name: number for name, number in files.items() if name not in BATCH}


@pytest.mark.parametrize(("settings", "expected"), CASES.values(), ids=CASES)
def test_a_step_that_is_not_logged_waits_for_the_lengths_of_its_rows_alone(
    in_a_step, settings, expected
):
    waits, copies = in_a_step(**settings)
    assert waits == expected
    # The indices of the groups, which are made on the CPU.
    assert copies.keys() == (
        {"plainloop/model/unpadded/grouping.py"} if LENGTHS in waits else set()
    )


@pytest.mark.parametrize("kind", ["albert", "qwen3"])
def test_so_do_the_other_kinds_of_unpadded_execution(in_a_step, tmp_path, kind):
    save_checkpoint(kind, tmp_path / kind)
    waits, _ = in_a_step(model=str(tmp_path / kind), **UNPADDED)
    assert {name: n for name, n in waits.items() if name.startswith("plainloop")} == {LENGTHS: 1}


def test_the_table_of_the_unused_embeddings_is_copied_once_for_all_evaluations(run: RunTiny):
    with on_twins() as mode:
        run(**UNPADDED, max_steps=4, eval_strategy="steps", eval_steps=1, weight_decay=0.1)
    copied = {line: n for (what, line), n in mode.waits.items() if what == "a copy to the GPU"}
    [_the_map_of_ids, the_table] = [n for line, n in copied.items() if "embedding.py" in line]
    assert the_table == _the_map_of_ids == 1


def test_a_loss_that_is_read_in_each_step_is_found(in_a_step, monkeypatch):
    monkeypatch.setattr(Progress, "step", lambda self, loss, rows: loss.item())
    waits, _ = in_a_step(**PADDED)
    assert waits == {THEIRS: 1, "gpu/test_waits.py": 1}
