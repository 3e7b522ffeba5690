"""A state dict comes back from its file as it was, whatever its nesting."""

import pytest
import torch

from plainloop.run.state_dict_file import load_state_dict, save_state_dict


def test_tensors_numbers_and_keys_come_back(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "weight": shared,
        "view": shared.view(2, 3)[1],
        "state": {0: {"step": torch.tensor(3)}, "b": {}},
        "groups": [{"lr": 0.1, "betas": [0.9, 0.999], "name": None, "fused": True}],
    }
    save_state_dict(state, tmp_path / "state")
    found = load_state_dict(tmp_path / "state")
    assert found.keys() == state.keys()
    assert torch.equal(found["view"], state["view"])
    assert torch.equal(found["state"][0]["step"], torch.tensor(3))
    assert found["state"].keys() == {0, "b"}
    assert found["groups"] == state["groups"]


def test_an_optimizers_state_goes_on_with_the_same_bits(tmp_path):
    def optimizer_of(weights):
        return torch.optim.Adam([{"params": [w]} for w in weights], lr=0.1)

    weights = [torch.ones(3, requires_grad=True), torch.zeros(2, requires_grad=True)]
    optimizer = optimizer_of(weights)
    copies = None
    for step in range(4):
        if step == 2:
            save_state_dict(optimizer.state_dict(), tmp_path / "adam")
            copies = [w.detach().clone().requires_grad_() for w in weights]
            other = optimizer_of(copies)
            other.load_state_dict(load_state_dict(tmp_path / "adam"))
        for group, one in ((weights, optimizer), (copies, step > 1 and other)):
            if not group:
                continue
            for number, weight in enumerate(group):
                weight.grad = torch.full_like(weight, 0.5 + number + step)
            one.step()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights, copies, strict=True))


def test_what_is_not_plain_is_refused(tmp_path):
    with pytest.raises(TypeError):
        save_state_dict({"function": print}, tmp_path / "state")
