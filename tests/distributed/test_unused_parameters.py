"""Models of which some parameters get no gradient train on two processes as on one."""

import pytest
from architectures.tiny import save_checkpoint
from test_numbers import train

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("kind", ["roformer", "xlnet"])
def test_parameters_without_a_gradient_are_found_before_the_first_step(tmp_path, tiny_data, kind):
    save_checkpoint(kind, tmp_path / "model")
    ways = {"one": (1, 8, 1), "two": (2, 4, 1), "accumulated": (2, 2, 2)}
    runs = {
        name: train(tmp_path / name, tmp_path / "model", tiny_data, way)
        for name, way in ways.items()
    }
    history, _, weights = runs.pop("one")
    assert len(history) == 12
    for other_history, _, other_weights in runs.values():
        losses = [record["loss"] for record in other_history]
        assert losses == pytest.approx([record["loss"] for record in history], rel=1e-5)
        for name, value in weights.items():
            assert float((other_weights[name] - value).abs().max()) < 1e-5, name
