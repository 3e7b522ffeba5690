"""Sequences of like length as one rectangle."""

import math
from itertools import chain

import torch
from hypothesis import given, strategies as st

from plainloop.model.unpadded import grouping
from plainloop.model.unpadded.attention import attend, gather, scatter
from plainloop.model.unpadded.grouping import KEYS, QUERIES, choose_groups, group_sequences
from plainloop.model.unpadded.packing import find_sequences

HEADS, SIZE = 2, 3
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def packed_of(lengths):
    return find_sequences((torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long())


def layout_of(lengths, num_queries=None, window=(-1, -1)):
    return group_sequences(packed_of(lengths), HEADS, SIZE, num_queries, window)


def is_near(behind, window):
    before, after = (math.inf if most < 0 else most for most in window)
    return (behind <= before) & (-behind <= after)


@given(LENGTHS, st.integers(0, 90))
def test_every_sequence_is_in_one_group_and_little_is_padded(lengths, most_padding):
    groups = choose_groups(lengths, lengths, most_padding)
    assert sorted(chain(*groups)) == list(range(len(lengths)))
    for group in groups:
        of_group = [lengths[number] for number in group]
        assert max(of_group) == of_group[0]
        assert all(of_group[0] ** 2 - length**2 <= most_padding for length in of_group)


def test_without_padding_only_equal_lengths_share_a_group():
    assert choose_groups([3, 5, 3, 4, 5], [3, 5, 3, 4, 5], 0) == [[1, 4], [3], [0, 2]]


@given(LENGTHS, st.sampled_from([None, 1, 2]))
def test_rows_come_back_to_their_places(lengths, num_queries):
    layout = layout_of(lengths, num_queries)
    for tokens, rows, places in (
        (sum(lengths), layout.key_gather, layout.key_scatter),
        (
            sum(lengths) if num_queries is None else num_queries * len(lengths),
            layout.query_gather,
            layout.query_scatter,
        ),
    ):
        packed = torch.arange(tokens * HEADS * SIZE).view(tokens, HEADS * SIZE)
        grouped = gather(packed, rows, HEADS)
        assert torch.equal(scatter(grouped, places, HEADS), packed)
    real = torch.ones(len(layout.query_gather), dtype=torch.bool)
    real[layout.query_padding] = False
    assert real.sum() == len(layout.query_scatter)
    assert real[layout.query_scatter].all()


@given(
    LENGTHS,
    st.sampled_from([None, 1, 2]),
    st.sampled_from([(-1, -1), (1, 1), (3, 3), (-1, 0), (2, 0)]),
)
def test_a_query_sees_the_keys_of_its_own_sequence_and_window(lengths, num_queries, window):
    layout = layout_of(lengths, num_queries, window)
    assert layout.num_scores == sum(a * b * c for a, b, c in layout.shapes)
    sequences = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    places = torch.cat([torch.arange(length) for length in lengths])
    asking, asked = sequences, places
    if num_queries is not None:
        asking = torch.arange(len(lengths)).repeat_interleave(num_queries)
        asked = torch.arange(num_queries).repeat(len(lengths))

    def grouped(values, rows, side):
        return layout.split(gather(values.repeat_interleave(HEADS), rows, 1), side)

    of_query = [grouped(values, layout.query_gather, QUERIES) for values in (asking, asked)]
    of_key = [grouped(values, layout.key_gather, KEYS) for values in (sequences, places)]
    padding = torch.zeros(len(layout.query_gather), 1)
    padding[layout.query_padding] = 1
    seen_of_sequence = torch.zeros(len(lengths))
    for index, mask in enumerate(layout.masks):
        sees = torch.ones(layout.shapes[index], dtype=torch.bool)
        if mask is not None:
            sees = (sees.unflatten(0, (len(mask), HEADS)) + mask.unsqueeze(1) > 0).flatten(0, 1)
        sees &= layout.split(padding, QUERIES)[index] == 0
        same = of_query[0][index] == of_key[0][index].transpose(1, 2)
        assert same[sees].all()
        behind = of_query[1][index] - of_key[1][index].transpose(1, 2)
        assert is_near(behind[sees], window).all()
        seen_of_sequence.index_add_(
            0, of_query[0][index].expand(sees.shape)[sees], torch.ones(int(sees.sum()))
        )
    wanted = [
        HEADS
        * sum(
            bool(is_near(torch.tensor(query - key), window))
            for query in range(num_queries or length)
            for key in range(length)
        )
        for length in lengths
    ]
    assert seen_of_sequence.tolist() == wanted


def test_a_group_of_all_gives_what_each_sequence_alone_gives(monkeypatch):
    lengths = [9, 2, 7, 1, 9]
    inputs = [part.clone().requires_grad_() for part in torch.randn(3, 28, 8).double().unbind()]

    def contexts_and_gradients(most_padding):
        monkeypatch.setattr(grouping, "MAX_PADDING_COST", most_padding)
        packed = packed_of(lengths)
        context = attend(*inputs, packed, num_heads=HEADS, dropout_p=0.0)
        [layout] = packed.layouts.values()
        weighted = (context * torch.arange(8)).sum()
        return len(layout.shapes), [context, *torch.autograd.grad(weighted, inputs)]

    alone, expected = contexts_and_gradients(0)
    together, found = contexts_and_gradients(10**9)
    assert (alone, together) == (4, 1)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
