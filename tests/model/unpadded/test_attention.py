"""Attention within each sequence of a packed row, against torch's own on each sequence."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from plainloop.model.unpadded.attention import attend, flash_attend
from plainloop.model.unpadded.packing import Packed, find_sequences

LENGTHS = [5, 1, 9, 3]
HEADS, SIZE = 2, 4


class CalledOperators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def packed_inputs(dtype=torch.float64):
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    torch.manual_seed(0)
    parts = torch.randn(3, sum(LENGTHS), HEADS * SIZE, dtype=dtype).unbind()
    return find_sequences(mask.long()), [part.clone().requires_grad_() for part in parts]


def one_by_one(packed, query, key, value, *, only_first=False, window=None):
    contexts = []
    for begin, length in zip(packed.starts.tolist(), packed.lengths, strict=True):
        end = begin + length
        last = begin + 1 if only_first else end
        q, k, v = (
            part[begin:stop].view(-1, HEADS, SIZE).transpose(0, 1)
            for part, stop in ((query, last), (key, end), (value, end))
        )
        places = torch.arange(end - begin)
        near = None
        if window is not None:
            before, after = (len(places) if most < 0 else most for most in window)
            behind = places[: last - begin].unsqueeze(1) - places
            near = (behind <= before) & (-behind <= after)
        context = scaled_dot_product_attention(q, k, v, attn_mask=near)
        contexts.append(context.transpose(0, 1).flatten(1))
    return torch.cat(contexts)


@pytest.mark.parametrize("only_first", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (1, 1), (3, 3), (-1, 0), (2, 0)])
def test_values_and_gradients_are_those_of_each_sequence_alone(only_first, window):
    packed, (query, key, value) = packed_inputs()
    expected = one_by_one(packed, query, key, value, only_first=only_first, window=window)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    asking = query[packed.starts] if only_first else query
    asks = {"window": window, "num_queries": 1 if only_first else None}
    context = attend(asking, key, value, packed, num_heads=HEADS, dropout_p=0.0, **asks)
    torch.testing.assert_close(context, expected, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad((context * weights).sum(), (query, key, value))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_gradient_with_dropout_is_that_of_finite_differences():
    packed, inputs = packed_inputs()

    def with_the_same_mask(*parts):
        torch.manual_seed(5)
        return attend(*parts, packed, num_heads=HEADS, dropout_p=0.3)

    assert torch.autograd.gradcheck(with_the_same_mask, inputs)


def test_dropout_leaves_the_mean_where_it_is():
    packed, (query, key, value) = packed_inputs()
    expected = attend(query, key, value, packed, num_heads=HEADS, dropout_p=0.0)
    torch.manual_seed(6)
    draws = torch.stack(
        [attend(query, key, value, packed, num_heads=HEADS, dropout_p=0.1) for _ in range(2000)]
    )
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((draws.mean(dim=0) - expected).abs() < 5 * error + 1e-12).all()


def test_bfloat16_stays_bfloat16_and_near():
    packed, parts = packed_inputs(torch.float32)
    expected = attend(*parts, packed, num_heads=HEADS, dropout_p=0.0)
    halves = [part.detach().bfloat16().requires_grad_() for part in parts]
    context = attend(*halves, packed, num_heads=HEADS, dropout_p=0.0)
    assert context.dtype == torch.bfloat16
    torch.testing.assert_close(context.float(), expected, rtol=0.02, atol=0.02)
    context.sum().backward()
    assert all(half.grad.dtype == torch.bfloat16 for half in halves)


@pytest.mark.parametrize("only_first", [False, True])
def test_the_kernel_of_cuda_takes_what_it_is_given(only_first):
    # There is no GPU: tensors without numbers, of which torch checks shapes and dtypes.
    packed = Packed(torch.ones(2, 3), (3, 1), torch.tensor([0, 3], device="meta"), torch.arange(4))
    key = torch.empty(4, HEADS * SIZE, device="meta", dtype=torch.bfloat16)
    query = key[:2] if only_first else key
    with CalledOperators() as called:
        context = flash_attend(
            query, key, key, packed, HEADS, window=(-1, -1), num_queries=1 if only_first else None
        )
    assert context.shape == query.shape
    assert context.dtype == torch.bfloat16
    assert any("varlen_attn" in name for name in called.names), called.names
