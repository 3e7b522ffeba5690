"""Checks for mistakes in a training that raise nothing: at its first step and in evaluations.

They are for what a person gives to `train`: a model, a loss, an optimizer or a schedule that do not
belong together, which trains without an error and gives a wrong model.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from plainloop.console import say
from plainloop.data.batches.loaders import Batch, EpochRandomSampler, LengthGroupedOrder
from plainloop.data.batches.weighted_sampler import EpochWeightedSampler
from plainloop.errors import UserError
from plainloop.run.resume import OpenRun
from plainloop.run.rng import RngState
from plainloop.training.loss import LossFn, loss_denominator

SMALLEST_LEARNING_RATE = 1e-7  # with less, float32 weights may rightly stay where they are
LOSS_TOLERANCE = 0.02  # relative: half precision rounds a loss by up to 1 %
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes -> type
MOST_SHOWN = 5  # parameters in a message
SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
"""There the optimizer holds other tensors than the model, and no check of the step is made."""


def check_train_dataloader(dataloader: DataLoader[Batch], run: OpenRun | None) -> None:
    """Check that the batches can be counted; warn that a resume may be inexact with a loader of the user's.

    Raises:
        ValueError: the loader is empty, or has no length or batch size.
    """
    sampler = dataloader.batch_sampler
    if not hasattr(dataloader.dataset, "__len__") or not hasattr(sampler, "batch_size"):
        raise ValueError("train_dataloader needs a dataset with a length, and a batch_size")
    if len(dataloader) == 0:
        raise ValueError("train_dataloader has no batches")
    sampler = getattr(sampler, "batch_sampler", sampler)  # Accelerate's share of a process
    if (
        run
        and run.folder
        and not isinstance(
            getattr(sampler, "sampler", None),
            (EpochRandomSampler, EpochWeightedSampler, LengthGroupedOrder),
        )
    ):
        say(
            "Warning",
            "exact resume is not promised: train_dataloader is not of create_dataloaders, whose order "
            "depends on the seed and the epoch alone",
        )


class FirstStepChecks:
    """Checks of the first optimizer step of a run, and of the first after a resume.

    Args:
        model: prepared; its parameters are hashed now, to see later which ones have changed.
        optimizer: of the parameters that require a gradient.
        lr_scheduler: of the optimizer.
        accelerator: of the run.
        loss_fn: the loss, if it is not the model's own.
        run: whose registered optimizers count, too.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        lr_scheduler: Any,
        *,
        accelerator: Accelerator,
        loss_fn: LossFn | None,
        run: OpenRun | None,
    ) -> None:
        self._model, self._lr_scheduler = model, lr_scheduler
        self._accelerator, self._loss_fn = accelerator, loss_fn
        registered = run.checkpoints.registered.values() if run else ()
        self._optimizers = [optimizer, *(one for one in registered if hasattr(one, "param_groups"))]
        # DTensors, as fully_shard makes them, have a device_mesh, and no hash.
        has_shards = any(hasattr(parameter, "device_mesh") for parameter in model.parameters())
        self._is_due = accelerator.distributed_type not in SHARDED and not has_shards
        self._hashes = self._hash_parameters() if self._is_due else {}

    def after_step(self, outputs: Any, labels: torch.Tensor, steps_done: int) -> None:
        """Check the step that was just done, once; gradients must still be there.

        Args:
            outputs: the model's, of the step's last micro-batch.
            labels: of that micro-batch.
            steps_done: optimizer steps before this one; one with (almost) no learning rate is not
                the one that is checked.

        Raises:
            UserError: every mistake that was found.
        """
        learning_rate = max(group["lr"] for group in self._optimizers[0].param_groups)
        skipped = self._accelerator.optimizer_step_was_skipped  # float16 overflow
        if not self._is_due or skipped or learning_rate < SMALLEST_LEARNING_RATE:
            return
        self._is_due = False
        rng_state = RngState.capture()  # a loss may draw numbers, and is computed again here
        problems = [
            *self._check_optimizer(),
            *self._check_gradients(),
            *self._check_movement(),
            *self._check_schedule(steps_done),
            *self._check_loss(outputs, labels),
            *self._check_ranks(),
        ]
        rng_state.restore()
        self._hashes = {}
        if problems:
            where = f"optimizer step {steps_done + 1}"
            raise UserError.together([UserError(w, where=where, fix=f) for w, f in problems])

    def _hash_parameters(self) -> dict[str, int]:
        return {
            name: _hash(parameter.detach()) for name, parameter in self._model.named_parameters()
        }

    def _check_optimizer(self) -> Iterator[tuple[str, str]]:
        held = [
            p for one in self._optimizers for group in one.param_groups for p in group["params"]
        ]
        counts: dict[int, int] = {}
        for parameter in held:
            counts[id(parameter)] = counts.get(id(parameter), 0) + 1
        trained = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        if missing := [name for name, p in trained.items() if id(p) not in counts]:
            yield (
                f"the optimizer has no {_shown(missing)}, which require a gradient",
                "make it of the parameters of the model that is trained, or freeze them",
            )
        if twice := [name for name, p in trained.items() if counts.get(id(p), 0) > 1]:
            yield f"two places of the optimizer have {_shown(twice)}", "give each parameter once"

    def _check_gradients(self) -> Iterator[tuple[str, str]]:
        trained = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        without = {name: p.numel() for name, p in trained.items() if p.grad is None}
        if sum(without.values()) > sum(p.numel() for p in trained.values()) / 2:
            yield (
                f"no gradient reaches {_shown(list(without))}",
                "look for a detach() or a no_grad() on the way from them to the loss",
            )
        elif without and self._accelerator.is_main_process:
            say("Warning", f"no gradient reaches {_shown(list(without))}: they stay as they are")
        gradients = ((name, p.grad) for name, p in trained.items() if p.grad is not None)
        if infinite := [name for name, grad in gradients if not grad.isfinite().all()]:
            yield (
                f"the gradient of {_shown(infinite)} is not finite",
                "look for a division by zero or the root of zero in the loss",
            )

    def _check_movement(self) -> Iterator[tuple[str, str]]:
        now = self._hash_parameters()
        moved = {name for name, before in self._hashes.items() if now.get(name) != before}
        frozen = {name for name, p in self._model.named_parameters() if not p.requires_grad}
        if moved & frozen:
            yield (
                f"{_shown(sorted(moved & frozen))} changed without requiring a gradient",
                "freeze parameters before the optimizer is made",
            )
        if not moved - frozen:
            yield (
                "no parameter of the model has changed",
                "make the optimizer of the parameters of the model that is trained",
            )

    def _check_schedule(self, steps_done: int) -> Iterator[tuple[str, str]]:
        steps = getattr(self._lr_scheduler, "last_epoch", 0)
        if steps > steps_done:
            yield (
                f"the schedule was stepped {steps} times before {steps_done + 1} optimizer steps",
                "leave lr_scheduler.step() to the loop, and do not prepare the schedule",
            )

    @torch.no_grad()
    def _check_loss(self, outputs: Any, labels: torch.Tensor) -> Iterator[tuple[str, str]]:
        logits = getattr(outputs, "logits", None)
        if not isinstance(logits, torch.Tensor) or len(logits) != len(labels):
            return
        if self._loss_fn is None:
            expected = _expected_loss(self._accelerator.unwrap_model(self._model), logits, labels)
            if expected is not None and _differ(float(outputs.loss), expected):
                yield (
                    f"the model's loss is {float(outputs.loss):.4f}, not the mean {expected:.4f}",
                    "return the mean loss of the batch's rows, of its logits and labels",
                )
            return
        if len(labels) == 1:
            return
        parts = [slice(0, len(labels) // 2), slice(len(labels) // 2, None)]
        try:
            halves = [
                (self._loss_fn(SimpleNamespace(logits=logits[part]), labels[part]), labels[part])
                for part in parts
            ]
            whole = float(self._loss_fn(SimpleNamespace(logits=logits), labels))
        except AttributeError:  # it takes more of the outputs than their logits
            return
        sums = [float(loss) * loss_denominator(self._loss_fn, of) for loss, of in halves]
        mean = float(sum(sums) / loss_denominator(self._loss_fn, labels))
        if _differ(whole, mean):
            yield (
                f"loss_fn gives {whole:.4f} for a batch, and {mean:.4f} as the mean of its halves",
                "return the mean over the rows, or add a method denominator(labels)",
            )

    def _check_ranks(self) -> Iterator[tuple[str, str]]:
        if self._accelerator.num_processes == 1:
            return
        hashes = self._hash_parameters()
        mine = torch.tensor([list(hashes.values())], device=self._accelerator.device)
        of_ranks = self._accelerator.gather(mine)
        differ = (of_ranks != of_ranks[0]).any(dim=0)
        if different := [n for n, is_one in zip(hashes, differ.tolist(), strict=True) if is_one]:
            yield (
                f"the processes have different {_shown(different)}",
                "prepare the model with the accelerator, and change it identically on each process",
            )


def check_eval_mode(model: nn.Module) -> None:
    """Check that a model to be evaluated is in evaluation mode, with all its modules.

    Raises:
        UserError: it is not: its dropout would be active.
    """
    if training := [name or "the model" for name, m in model.named_modules() if m.training]:
        raise UserError(
            f"{_shown(training)} in training mode after model.eval()",
            where="evaluation",
            fix="let train() and eval() of the model reach all its modules",
        )


def _expected_loss(model: nn.Module, logits: torch.Tensor, labels: torch.Tensor) -> float | None:
    """The mean loss as transformers' classifiers compute it; None for a model of another kind."""
    problem_type = getattr(getattr(model, "config", None), "problem_type", None)
    logits = logits.float()
    if problem_type == "single_label_classification":
        return float(functional.cross_entropy(logits, labels))
    if problem_type == "multi_label_classification":
        return float(functional.binary_cross_entropy_with_logits(logits, labels.float()))
    if problem_type == "regression":
        return float(functional.mse_loss(logits.squeeze(-1), labels.float()))
    return None


def _hash(values: torch.Tensor) -> int:
    """A hash of a parameter, of 64 bits; hash_tensor alone is 0 for an even count of equal values."""
    bits = values.view(INTEGERS[values.element_size()])
    added = torch.hash_tensor(values).view(torch.int64) + bits.sum(dtype=bits.dtype)  # both wrap
    return int(added)


def _differ(first: float, second: float) -> bool:
    return abs(first - second) > LOSS_TOLERANCE * max(abs(first), abs(second), 1e-3)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more
