"""Compact embedding: train only the token embeddings that occur in the training texts.

The other rows of the table never get a gradient or Adam moments, so leaving them out saves their share
of the gradient, clipping and optimizer step. Evaluations, saved models and checkpoints still see
the full table and its full moments.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from plainloop.model.load import token_embeddings
from plainloop.model.unpadded.layers import has_hooks

if TYPE_CHECKING:
    from datasets import Dataset

MAX_USED_FRACTION = 0.8
"""Above this fraction of used rows the savings are too small."""
DECAY = "decay"
"""Key in the optimizer's state dict of the accumulated weight decay of the unused rows."""


class CompactEmbedding(nn.Embedding):
    """An embedding table whose used rows are a parameter of their own.

    In training mode it looks tokens up in `used_weight`, in evaluation mode in the full table,
    `weight`, which is updated when the mode changes. Its state dict is that of the plain embedding.

    Args:
        full: the embedding to replace; its weight is shared and frozen.
        used_ids: int64, sorted: the token ids that occur in the training texts.
        has_decay: whether the optimizer decays weights, which changes unused rows too.
    """

    def __init__(self, full: nn.Embedding, used_ids: torch.Tensor, *, has_decay: bool) -> None:
        num_rows, size = full.weight.shape
        weight = full.weight.detach()
        super().__init__(num_rows, size, full.padding_idx, _weight=weight, _freeze=True)
        # The extra row of ones gets a zero gradient, so AdamW only decays it: it becomes the factor by
        # which the unused rows would have decayed.
        self.used_weight = nn.Parameter(torch.cat([weight[used_ids], weight.new_ones(1, size)]))
        # Plain attributes, not buffers: DDP broadcasts buffers in every step.
        self.used_ids = used_ids
        self.row_of_id = torch.full((num_rows,), -1)  # -1 makes the lookup of an unused id fail
        self.row_of_id[used_ids] = torch.arange(len(used_ids))
        padding = full.padding_idx
        self.padding_row = None if padding is None else int(self.row_of_id[padding])
        self.unused_ids = (self.row_of_id < 0).nonzero().squeeze(1)
        self.initial_unused = weight[self.unused_ids] if has_decay else None
        self.undecayed_unused = self.initial_unused
        self.grad_buffer: torch.Tensor | None = None
        self.buffer_is_taken = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as nn.Embedding has it
        """Look up token ids: int64 (...) -> (..., size).

        Raises:
            IndexError: in training mode on a CPU, an id does not occur in the training texts.
        """
        if not self.training:
            return super().forward(input)
        self.row_of_id = self.row_of_id.to(input.device)
        self.buffer_is_taken = False
        if input.is_cuda:
            return nn.functional.embedding(
                self.row_of_id[input], self.used_weight, self.padding_row
            )
        rows: torch.Tensor = _LookUp.apply(  # type: ignore[no-untyped-call]
            self.used_weight, self.row_of_id[input], self.padding_row, self
        )
        return rows

    def train(self, mode: bool = True) -> "CompactEmbedding":
        """Set the mode; entering evaluation mode updates the full table first."""
        if not mode:
            self.update_full_table()
        super().train(mode)
        return self

    @torch.no_grad()
    def update_full_table(self) -> None:
        """Copy the trained rows, and the unused rows after weight decay, into `weight`."""
        self.weight[self.used_ids] = self.used_weight[:-1]
        if self.undecayed_unused is not None:
            # Kept there: a table of a large vocabulary is copied to a GPU once.
            self.undecayed_unused = self.undecayed_unused.to(self.weight.device)
            self.weight[self.unused_ids] = self.undecayed_unused * self.used_weight[-1]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.update_full_table()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}used_weight"]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        weight = state_dict[f"{prefix}weight"]
        # Loaded unused rows have decayed already, so the factor starts at 1 again.
        ones = weight.new_ones(1, weight.shape[1])
        state_dict[f"{prefix}used_weight"] = torch.cat([weight[self.used_ids], ones])
        super()._load_from_state_dict(state_dict, prefix, *args)
        del state_dict[f"{prefix}used_weight"]
        if self.initial_unused is not None:
            self.undecayed_unused = weight[self.unused_ids]


class _LookUp(torch.autograd.Function):
    # As nn.functional.embedding, except that every step's gradient reuses one buffer. A new one is
    # megabytes of zeroed pages that the system frees and faults in again in each step. Code that
    # keeps this gradient beyond `zero_grad` must clone it.

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        rows: torch.Tensor,
        padding: int | None,
        table: CompactEmbedding,
    ) -> torch.Tensor:
        """Look up rows of the weight: int64 (...) -> (..., size)."""
        ctx.rows, ctx.padding, ctx.table = rows, padding, table
        return nn.functional.embedding(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Gradient of the weight; zero for the padding token, as `nn.Embedding` has it."""
        table: CompactEmbedding = ctx.table
        # With gradient accumulation .grad is the buffer itself, to which autograd adds the result. And
        # T5 looks up twice, before its encoder and its decoder: the first gradient waits for the second.
        is_taken = table.buffer_is_taken or table.used_weight.grad is not None
        if table.grad_buffer is None or is_taken:
            table.grad_buffer = torch.empty_like(table.used_weight)
        table.buffer_is_taken = True
        grad_weight = table.grad_buffer.zero_()
        grad_weight.index_add_(0, ctx.rows.flatten(), grad.flatten(0, -2))
        if ctx.padding is not None:
            grad_weight[ctx.padding] = 0
        # detach: autograd copies a gradient into .grad if another Python reference to it exists.
        return grad_weight.detach(), None, None, None


def compact_embedding(model: PreTrainedModel, rows: "Dataset", *, has_decay: bool) -> list[str]:
    """Replace a model's token embedding by a `CompactEmbedding` of the tokens in the training texts.

    Args:
        model: before it is prepared or has an optimizer. Its embedding stays if it is frozen, has
            hooks, or is not a plain `nn.Embedding` (one with an adapter, say).
        rows: the training split, with input_ids.
        has_decay: whether the optimizer will decay weights.

    Returns:
        A line for the user; none if the embedding was not replaced.
    """
    full: Any = token_embeddings(model)
    if type(full) is not nn.Embedding or not full.weight.requires_grad or has_hooks(full):
        return []
    # Padding, and tokens that a model adds itself, as T5 before the decoder's input.
    special = [value for name, value in model.config.get_text_config().to_dict().items()
               if name.endswith("_token_id") and isinstance(value, int)]  # fmt: skip
    special += [] if full.padding_idx is None else [full.padding_idx]
    num_rows = full.num_embeddings
    special = [token for token in special if 0 <= token < num_rows]
    used_ids = torch.cat([find_used_token_ids(rows), torch.tensor(special, dtype=torch.long)])
    used_ids = used_ids.unique()
    # An id beyond the table is left to the first forward pass, which reports it.
    if len(used_ids) > MAX_USED_FRACTION * num_rows or used_ids.max() >= num_rows:
        return []
    model.set_input_embeddings(CompactEmbedding(full, used_ids, has_decay=has_decay))
    return [f"trains {len(used_ids)} of {num_rows} token embeddings: no text has the others"]


def find_used_token_ids(rows: "Dataset") -> torch.Tensor:
    """The distinct token ids of a split: int64, sorted."""
    found: set[int] = set()
    # The Arrow table may hold more rows than the split selects: a few ids too many do no harm.
    for chunk in rows.data.column("input_ids").chunks:
        token_ids = chunk
        while pa.types.is_list(token_ids.type) or pa.types.is_large_list(token_ids.type):
            token_ids = token_ids.flatten()  # twice for texts in sliding windows
        found.update(pc.unique(token_ids).to_pylist())
    return torch.tensor(sorted(found))


def keep_full_moments(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Make an optimizer's state dict hold the moments of the full embedding table.

    A checkpoint then does not depend on which rows were trained.

    Args:
        optimizer: of the parameters of the model.
        model: with or without a `CompactEmbedding`.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for module in model.modules():
        if not isinstance(module, CompactEmbedding):
            continue
        # A state dict names parameters by their index over all groups.
        key = next(n for n, parameter in enumerate(parameters) if parameter is module.used_weight)
        optimizer.register_state_dict_post_hook(partial(_expand_moments, module, key))
        optimizer.register_load_state_dict_pre_hook(partial(_compact_moments, module, key))


def _expand_moments(table: CompactEmbedding, key: int, _optimizer: Any, saved: Any) -> Any:
    """State dict hook: moments of the used rows -> moments of the full table, zero elsewhere."""
    if key not in saved["state"]:  # before the first step
        return saved
    moments = dict(saved["state"][key])
    for name, value in moments.items():
        if value.dim():  # the step count has none
            moments[name] = value.new_zeros(table.weight.shape)
            moments[name][table.used_ids] = value[:-1]
    moments[DECAY] = table.used_weight.detach()[-1, 0].clone()
    return {**saved, "state": {**saved["state"], key: moments}}


def _compact_moments(table: CompactEmbedding, key: int, _optimizer: Any, saved: Any) -> Any:
    """Load hook, inverse of `_expand_moments`; restores the decay factor of the unused rows."""
    if key not in saved["state"]:
        return saved
    moments = dict(saved["state"][key])
    decay = moments.pop(DECAY, None)
    if decay is not None and table.initial_unused is not None:
        # Initial rows times the factor, in one product as in a run without interruption: loaded rows,
        # which are decayed and rounded already, would resume with other bits.
        table.undecayed_unused = table.initial_unused
        with torch.no_grad():
            table.used_weight[-1] = decay
    for name, value in moments.items():
        if value.dim():
            moments[name] = torch.cat([value[table.used_ids], value.new_zeros(1, value.shape[1])])
    return {**saved, "state": {**saved["state"], key: moments}}
