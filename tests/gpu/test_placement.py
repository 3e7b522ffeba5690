"""What a run does on a GPU has its tensors on one device; seen by twins, without a GPU."""

import dataclasses
import math

import accelerate.data_loader
import pytest
import torch
from tiny import RunTiny, largest_difference, run_tiny
from torch.nn.attention import SDPBackend, sdpa_kernel
from twin import MixedDevicesError, on_twins

from plainloop.errors import UserError
from plainloop.model.unpadded import attention, embedding, forwards, packing
from plainloop.predict.loaded_run import load_run
from plainloop.training import loop, progress
from plainloop.training.loss import CrossEntropy

BASE = {"max_steps": 3, "learning_rate": 1e-3, "eval_strategy": "no", "save_strategy": "no"}
EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
CASES = {
    "accumulation": {"gradient_accumulation_steps": 2, "class_weights": (1.0, 2.0)},
    "evaluations and the best model": {**EVALUATED, "weight_decay": 0.1},
    "LoRA": {"lora_rank": 2},
    "sliding windows": {"max_length": 16, "stride": 2, "focal_gamma": 2.0},
}
PAIRS = [("The cat sees the car", "The dog likes a tree and a car"), ("a", "The nurse")]


@pytest.mark.parametrize("more", CASES.values(), ids=CASES)
def test_a_padded_run_has_the_numbers_of_the_cpu(run: RunTiny, more):
    settings = {**BASE, **more, "execution": "padded"}
    with sdpa_kernel(SDPBackend.MATH):  # without dropout torch has an attention for CPUs alone
        on_cpu = run(**settings)
        with on_twins():
            found = run(**settings)
    for name in ("loss", "grad_norm"):
        assert found.series(name) == on_cpu.series(name)
    assert found.metrics["evaluations"] == on_cpu.metrics["evaluations"]
    assert largest_difference(found.weights, on_cpu.weights) == 0


@pytest.mark.parametrize("more", CASES.values(), ids=CASES)
def test_an_unpadded_run_needs_no_tensor_of_the_cpu(run: RunTiny, more):
    with on_twins():
        found = run(**{**BASE, **more, "execution": "unpadded"})
    assert all(map(math.isfinite, found.series("loss")))


def test_an_unpadded_run_without_dropout_has_the_losses_of_the_cpu(run: RunTiny):
    settings = {**BASE, "dropout": 0.0}
    on_cpu = run(**settings, execution="padded")
    with on_twins():
        found = run(**settings, execution="unpadded")
    for name in ("loss", "grad_norm"):
        assert found.series(name) == pytest.approx(on_cpu.series(name), rel=1e-4)


def test_a_run_resumes_to_the_same_bits(run: RunTiny, tiny_model, tiny_data):
    """Unpadded, with the moments and the decay of the token embeddings that no text has."""
    settings = {**BASE, "save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1}
    with on_twins():
        straight = run(**settings, execution="unpadded")
        checkpoint = straight.folder / "checkpoints" / "step-000002"
        settings |= {"resume_from_checkpoint": checkpoint, "execution": "unpadded"}
        resumed = run_tiny(straight.folder, model=str(tiny_model), data_dir=tiny_data, **settings)
    assert resumed.series("loss") == straight.series("loss")
    assert largest_difference(resumed.weights, straight.weights) == 0


def test_a_run_predicts(run: RunTiny):
    finished = run(**BASE)
    on_cpu = load_run(finished.folder).predict(PAIRS)
    with on_twins() as mode:
        found = load_run(finished.folder).predict(PAIRS)
    assert [row["label"] for row in found] == [row["label"] for row in on_cpu]
    for ours, theirs in zip(found, on_cpu, strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-6)
    assert any("classifier.py" in line for _, line in mode.waits), "the logits came from there"


def stay(value, *_, **__):
    return value


def keep_loss_on_the_cpu(patch):
    create = progress.Progress.__init__

    def create_on_cpu(self, *args, **kwargs):
        create(self, *args, **kwargs)
        self._loss_sum = self._loss_sum.cpu()

    patch.setattr(progress.Progress, "__init__", create_on_cpu)


def on_cpu(function):
    return lambda *args, **kwargs: function(*args, **kwargs).cpu()


def set_on_cpu(table, row_of_id):
    table._cpu_map = row_of_id.cpu()


def leave_in_packed(field):
    def leave(patch):
        find = packing.find_sequences

        def found(*args, **kwargs):
            packed = find(*args, **kwargs)
            return packed and dataclasses.replace(packed, **{field: getattr(packed, field).cpu()})

        patch.setattr(packing, "find_sequences", found)

    return leave


MISTAKES = {
    "a batch is not moved": lambda patch: patch.setattr(
        accelerate.data_loader, "send_to_device", stay
    ),
    "class weights stay on the CPU": lambda patch: patch.setattr(
        CrossEntropy, "_weights_on", lambda self, _: self.class_weights
    ),
    "the sum of the losses is on the CPU": keep_loss_on_the_cpu,
    "the denominators of a step are on two devices": lambda patch: patch.setattr(
        loop, "all_reduce_sum", lambda value, _: torch.full((1,), float(value))
    ),
    "dropout draws on the CPU": lambda patch: patch.setattr(
        attention, "draw_keep_mask", on_cpu(attention.draw_keep_mask)
    ),
    "position ids are on the CPU": lambda patch: patch.setattr(
        forwards, "position_ids_of", on_cpu(forwards.position_ids_of)
    ),
    "the places of the real tokens stay on the CPU": leave_in_packed("places"),
    "the embedding's map of token ids stays on the CPU": lambda patch: patch.setattr(
        embedding.CompactEmbedding,
        "row_of_id",
        property(lambda self: self._cpu_map, set_on_cpu),
        raising=False,
    ),
}


@pytest.mark.parametrize("make", MISTAKES.values(), ids=MISTAKES)
def test_a_misplaced_tensor_is_found(run: RunTiny, monkeypatch, make):
    settings = {**BASE, "class_weights": (1.0, 2.0), "execution": "unpadded"}
    make(monkeypatch)
    with on_twins(), pytest.raises((MixedDevicesError, UserError)) as caught:
        run(**settings)
    assert isinstance(caught.value.__cause__ or caught.value, MixedDevicesError)
