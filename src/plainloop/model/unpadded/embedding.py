"""An embedding table of which only the rows that the training texts use are trained.

The other rows have no gradient and no moments in the whole run: left out, they cost nothing in
gradient, clipping and optimizer. What looks at the model or the optimizer from outside, an
evaluation, a saved model or a checkpoint, sees the full table and its full moments.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from plainloop.model.unpadded.layers import has_hooks

if TYPE_CHECKING:
    from datasets import Dataset

LARGEST_SHARE = 0.8
"""With more of the rows in use, leaving out the others is not worth it."""
DECAY = "decay"
"""What the optimizer's saved state calls the factor of the rows that are left out."""


class CompactEmbedding(nn.Embedding):
    """An embedding whose used rows are a parameter of their own.

    In training mode it looks up these, in evaluation mode the full table, `weight`, into which they
    are written at the change of the mode. Its state dict is that of the plain embedding.

    Args:
        full: the table; it is taken over and frozen.
        used: int64, sorted: its rows that any training text uses.
        decays: whether the optimizer has weight decay, which moves the other rows, too.
    """

    def __init__(self, full: nn.Embedding, used: torch.Tensor, *, decays: bool) -> None:
        num_rows, size = full.weight.shape
        weight = full.weight.detach()
        super().__init__(num_rows, size, full.padding_idx, _weight=weight, _freeze=True)
        # One row more, of ones, has no gradient either: it becomes what weight decay makes of 1,
        # and so the factor of the rows that are left out.
        self.used_weight = nn.Parameter(torch.cat([weight[used], weight.new_ones(1, size)]))
        # No buffers: DDP would send them around in every step.
        self.used = used
        self.places = torch.full((num_rows,), -1)
        self.places[used] = torch.arange(len(used))
        self.unused = (self.places < 0).nonzero().squeeze(1)
        self.initial = weight[self.unused] if decays else None
        self.undecayed = self.initial
        self.gradient: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as nn.Embedding has it
        """Look up tokens: int64 (...) -> (..., size). In training mode all must be used ones."""
        if not self.training:
            return super().forward(input)
        self.places = self.places.to(input.device)
        padding = None if self.padding_idx is None else int(self.places[self.padding_idx])
        if input.is_cuda:
            return nn.functional.embedding(self.places[input], self.used_weight, padding)
        rows: torch.Tensor = _LookUp.apply(self.used_weight, self.places[input], padding, self)  # type: ignore[no-untyped-call]
        return rows

    def train(self, mode: bool = True) -> "CompactEmbedding":
        """Change the mode; the full table is up to date when an evaluation begins."""
        if not mode:
            self.settle()
        super().train(mode)
        return self

    @torch.no_grad()
    def settle(self) -> None:
        """Write the trained rows, and the others decayed, into the full table."""
        self.weight[self.used] = self.used_weight[:-1]
        if self.undecayed is not None:
            self.weight[self.unused] = self.undecayed.to(self.weight.device) * self.used_weight[-1]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.settle()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}used_weight"]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        weight = state_dict[f"{prefix}weight"]
        ones = weight.new_ones(1, weight.shape[1])
        state_dict[f"{prefix}used_weight"] = torch.cat([weight[self.used], ones])
        super()._load_from_state_dict(state_dict, prefix, *args)
        del state_dict[f"{prefix}used_weight"]
        if self.initial is not None:
            self.undecayed = weight[self.unused]


class _LookUp(torch.autograd.Function):
    # As nn.functional.embedding, but that the gradient has the same memory in every step. A new one
    # is megabytes of zeros, in pages that the system takes back and gives anew. So who keeps a
    # gradient beyond `zero_grad` must clone it.

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        places: torch.Tensor,
        padding: int | None,
        table: CompactEmbedding,
    ) -> torch.Tensor:
        """The rows at some places: int64 (...) -> (..., size)."""
        ctx.places, ctx.padding, ctx.table = places, padding, table
        return nn.functional.embedding(places, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: torch.Tensor) -> Any:
        """The gradient of the weight; that of the padding stays zero."""
        table: CompactEmbedding = ctx.table
        if table.gradient is None or table.used_weight.grad is not None:  # in use: it adds up
            table.gradient = torch.empty_like(table.used_weight)
        gradient = table.gradient.zero_()
        gradient.index_add_(0, ctx.places.flatten(), of_rows.flatten(0, -2))
        if ctx.padding is not None:
            gradient[ctx.padding] = 0
        return gradient.detach(), None, None, None  # one more name of the memory is no copy


def compact_embedding(model: PreTrainedModel, rows: "Dataset", *, decays: bool) -> list[str]:
    """Train only the rows of a model's embedding table that the training texts use.

    Args:
        model: not yet prepared, without an optimizer. Left alone are tables that are frozen, have
            hooks, or are another class's, as an adapter's.
        rows: the training split, with input_ids.
        decays: whether the optimizer will have weight decay.

    Returns:
        What was done, to be shown; nothing where the table was left alone.
    """
    full: Any = model.get_input_embeddings()
    if type(full) is not nn.Embedding or not full.weight.requires_grad or has_hooks(full):
        return []
    used = find_used_tokens(rows)
    if full.padding_idx is not None:
        used = torch.cat([used, torch.tensor([full.padding_idx])]).unique()
    # A token that the table has not is told of by the first forward pass.
    if len(used) > LARGEST_SHARE * full.num_embeddings or used.max() >= full.num_embeddings:
        return []
    model.set_input_embeddings(CompactEmbedding(full, used, decays=decays))
    return [f"trains {len(used)} of {full.num_embeddings} token embeddings: no text has the others"]


def find_used_tokens(rows: "Dataset") -> torch.Tensor:
    """The tokens of a split: int64, sorted, each once."""
    found: set[int] = set()
    # Of the whole table, where the split is a choice of its rows: a few too many do no harm.
    for chunk in rows.data.column("input_ids").chunks:
        tokens = chunk
        while pa.types.is_list(tokens.type) or pa.types.is_large_list(tokens.type):
            tokens = tokens.flatten()  # twice where texts are in windows
        found.update(pc.unique(tokens).to_pylist())
    return torch.tensor(sorted(found))


def keep_full_moments(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Let an optimizer's state dict have moments of the full embedding table.

    So a checkpoint is the same whatever rows were trained.

    Args:
        optimizer: of the parameters of the model.
        model: with a `CompactEmbedding` or without.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for module in model.modules():
        if not isinstance(module, CompactEmbedding):
            continue
        key = next(n for n, parameter in enumerate(parameters) if parameter is module.used_weight)
        optimizer.register_state_dict_post_hook(partial(_expand_moments, module, key))
        optimizer.register_load_state_dict_pre_hook(partial(_compact_moments, module, key))


def _expand_moments(table: CompactEmbedding, key: int, _optimizer: Any, saved: Any) -> Any:
    """What the optimizer saves of the used rows, as of the full table."""
    if key not in saved["state"]:  # before the first step
        return saved
    moments = dict(saved["state"][key])
    for name, value in moments.items():
        if value.dim():
            moments[name] = value.new_zeros(table.weight.shape)
            moments[name][table.used] = value[:-1]
    moments[DECAY] = table.used_weight.detach()[-1, 0].clone()
    return {**saved, "state": {**saved["state"], key: moments}}


def _compact_moments(table: CompactEmbedding, key: int, _optimizer: Any, saved: Any) -> Any:
    """The inverse; the table's decay is put back beside it."""
    if key not in saved["state"]:
        return saved
    moments = dict(saved["state"][key])
    decay = moments.pop(DECAY, None)
    if decay is not None and table.initial is not None:
        table.undecayed = table.initial
        with torch.no_grad():
            table.used_weight[-1] = decay
    for name, value in moments.items():
        if value.dim():
            moments[name] = torch.cat([value[table.used], value.new_zeros(1, value.shape[1])])
    return {**saved, "state": {**saved["state"], key: moments}}
