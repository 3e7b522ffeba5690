"""Dropout from 16 bits: its rate, its independence, its gradient, its generator."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from plainloop.model.unpadded.dropout import apply_dropout, draw_keep_mask, quantize_p

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_what_16_bits_can_give_and_no_other(p):
    assert abs(quantize_p(p) - p) <= 2**-17
    torch.manual_seed(0)
    keep = draw_keep_mask(4_000_000, p, CPU)
    dropped = int((keep == 0).sum())
    assert stats.binomtest(dropped, keep.numel(), quantize_p(p)).pvalue > 0.001
    # What 8 bits would give is told apart, where they give something else.
    if round(p * 256) / 256 != p:
        assert stats.binomtest(dropped, keep.numel(), round(p * 256) / 256).pvalue < 1e-6


def test_neighbours_within_a_draw_and_across_draws_are_independent():
    torch.manual_seed(1)
    keep = draw_keep_mask(4_000_000, 0.3, CPU).numpy()
    for distance in (1, 2, 3, 4, 5, 64):
        table = np.histogram2d(keep[:-distance], keep[distance:], bins=2)[0]
        assert stats.chi2_contingency(table).pvalue > 0.001, distance
    # Each of the four lanes of a draw by itself.
    counts = [(keep[lane::4] == 0).sum() for lane in range(4)]
    assert stats.chisquare(counts).pvalue > 0.001


def test_runs_of_dropped_elements_are_as_long_as_they_should_be():
    torch.manual_seed(2)
    kept = np.flatnonzero(draw_keep_mask(2_000_000, 0.5, CPU).numpy())
    gaps = np.minimum(np.diff(kept), 12)  # geometric
    expected = np.array([0.5**length for length in range(1, 12)] + [0.5**11])
    assert stats.chisquare(np.bincount(gaps)[1:], expected * len(gaps)).pvalue > 0.001


@pytest.mark.parametrize("has_residual", [False, True])
def test_the_gradient_is_that_of_a_product_with_the_mask(has_residual):
    dropout = nn.Dropout(0.25)
    x = torch.randn(7, 33, requires_grad=True)
    residual = torch.randn(7, 33, requires_grad=True) if has_residual else None
    torch.manual_seed(0)
    y = apply_dropout(dropout, x)
    if residual is not None:
        torch.manual_seed(0)
        added = apply_dropout(dropout, x, residual)
        torch.testing.assert_close(added, y + residual)
        gradient = torch.randn_like(y)
        torch.testing.assert_close(
            torch.autograd.grad(added, (x, residual), gradient),
            (*torch.autograd.grad(y, x, gradient, retain_graph=True), gradient),
        )
    factor = 1 / (1 - quantize_p(0.25))
    kept = y != 0
    torch.testing.assert_close(y, x * kept * factor)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    torch.testing.assert_close(x.grad, gradient * kept * factor)


def test_outside_of_training_and_at_the_ends_it_is_what_torch_does():
    x = torch.randn(3, 5)
    assert apply_dropout(nn.Dropout(0.5).eval(), x) is x
    assert apply_dropout(nn.Dropout(0.0), x) is x
    assert torch.equal(apply_dropout(nn.Dropout(1.0), x), torch.zeros(3, 5))
    assert torch.equal(apply_dropout(nn.Dropout(0.5).eval(), x, x), x + x)
    assert torch.equal(apply_dropout(nn.Dropout(1.0), x, x), x)


def test_the_masks_come_from_the_global_generator_alone():
    torch.manual_seed(3)
    first, state = draw_keep_mask(101, 0.5, CPU), torch.get_rng_state()
    second = draw_keep_mask(101, 0.5, CPU)
    torch.set_rng_state(state)
    assert torch.equal(draw_keep_mask(101, 0.5, CPU), second)
    assert not torch.equal(first, second)
