"""A padded batch as one row of its real tokens."""

import torch
from hypothesis import given, strategies as st

from plainloop.model.unpadded.packing import find_sequences


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_packing_keeps_the_real_tokens_in_their_order_and_padding_brings_them_back(lengths):
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    packed = find_sequences(mask)
    values = torch.arange(1.0, mask.numel() + 1).view_as(mask) * mask
    row = packed.pack(values)
    assert row.shape == (1, sum(lengths))
    assert row[0].tolist() == [value for value in values.flatten().tolist() if value]
    assert torch.equal(packed.pad(row.unsqueeze(-1)).squeeze(-1), values)
    assert packed.lengths == tuple(lengths)
    assert [row[0, start].item() for start in packed.starts] == values[:, 0].tolist()


def test_a_gap_a_left_padding_an_empty_row_and_a_finished_mask_are_not_packed():
    assert find_sequences(torch.tensor([[1, 0, 1]])) is None
    assert find_sequences(torch.tensor([[0, 1, 1]])) is None
    assert find_sequences(torch.tensor([[1, 1], [0, 0]])) is None
    assert find_sequences(torch.ones(2, 1, 3, 3)) is None
    assert find_sequences(torch.tensor([[1, 0, 1]]), at_right=True) is None
    assert find_sequences(torch.tensor([[0, 1], [1, 0]]), at_right=True) is None
    assert find_sequences(torch.tensor([[0, 1], [0, 0]]), at_right=True) is None
    assert find_sequences(torch.tensor([[1, 1, 0]])) is not None


def test_texts_at_the_right_are_packed_in_their_order_where_places_do_not_matter():
    packed = find_sequences(torch.tensor([[0, 0, 1], [1, 1, 1]]), at_right=True)
    assert packed.pack(torch.arange(1, 7).view(2, 3)).tolist() == [[3, 4, 5, 6]]
    assert (packed.lengths, packed.starts.tolist()) == ((1, 3), [0, 1])
