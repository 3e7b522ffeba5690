"""The generators of a process come back from a file as they were."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from plainloop.run.rng import RngState

COUNTS = st.integers(0, 5)


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def draws():
    """From each generator the kinds of draws that move it differently."""
    return (
        [random.random(), random.gauss(0, 1), random.getrandbits(70)],
        np.random.standard_normal(3).tolist(),  # noqa: NPY002
        np.random.randint(0, 2**32, 3, dtype=np.uint32).tolist(),  # noqa: NPY002
        torch.rand(3).tolist(),
        torch.randn(3).tolist(),
        torch.randperm(20).tolist(),
    )


def draw_before(uniform, gaussian):
    for _ in range(uniform):
        random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
    for _ in range(gaussian):  # an odd number leaves the second one of a pair in the cache
        random.gauss(0, 1), np.random.standard_normal(), torch.randn(1)  # noqa: NPY002


@given(seed=st.integers(0, 2**32 - 1), uniform=COUNTS, gaussian=COUNTS, between=COUNTS)
def test_the_same_draws_follow_a_round_trip_through_a_file(
    tmp_path_factory, seed, uniform, gaussian, between
):
    path = tmp_path_factory.getbasetemp() / "generators.safetensors"
    seed_all(seed)
    draw_before(uniform, gaussian)
    before = RngState.capture()
    before.save(path)
    expected = draws()
    seed_all(seed + between if seed < 2**31 else seed - between)
    draw_before(between, between)
    RngState.load(path).restore()
    assert draws() == expected
    before.restore()
    assert draws() == expected, "and one that was kept in memory is not moved by the draws"


@pytest.mark.parametrize("gaussian", [0, 1])
def test_the_cached_half_of_a_pair_of_normal_draws_comes_back(tmp_path, gaussian):
    seed_all(3)
    draw_before(1, gaussian)
    assert (random.getstate()[2] is not None) == bool(gaussian)
    assert np.random.get_state()[3] == gaussian  # noqa: NPY002
    RngState.capture().save(tmp_path / "generators")
    expected = random.gauss(0, 1), np.random.standard_normal(), torch.randn(1).item()  # noqa: NPY002
    seed_all(4)
    draw_before(0, 1 - gaussian)
    RngState.load(tmp_path / "generators").restore()
    assert (random.gauss(0, 1), np.random.standard_normal(), torch.randn(1).item()) == expected  # noqa: NPY002


def test_taking_and_saving_them_draws_nothing(tmp_path):
    seed_all(5)
    expected = draws()
    seed_all(5)
    RngState.capture().save(tmp_path / "generators")
    RngState.load(tmp_path / "generators")
    assert draws() == expected


def test_the_file_has_the_same_bytes_each_time(tmp_path):
    seed_all(6)
    for name in ("one", "two"):
        RngState.capture().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
