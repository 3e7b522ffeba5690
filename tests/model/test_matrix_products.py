"""Which kernels multiply, that they are exact in float32, and that torch's switch is put back."""

import threading
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DynamoBackend
from torch import nn

from plainloop.config.settings import TrainConfig
from plainloop.model import matrix_products
from plainloop.model.matrix_products import (
    choose_products,
    is_exact,
    sample_operands,
    use_products,
)

SWITCH = torch.backends.mkldnn.matmul
MODEL = nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 48), nn.Linear(64, 48), nn.Linear(9, 9))


def accelerator(device="cpu", mixed_precision="no", backend=DynamoBackend.NO):
    state = SimpleNamespace(dynamo_plugin=SimpleNamespace(backend=backend))
    return SimpleNamespace(
        device=torch.device(device), mixed_precision=mixed_precision, state=state, num_processes=1
    )


def choose(saved=None, on=None, model=MODEL, **settings):
    return choose_products(model, TrainConfig(**settings), on or accelerator(), saved)


@pytest.fixture(autouse=True)
def _measures_anew():
    matrix_products._compare.cache_clear()
    yield
    matrix_products._compare.cache_clear()
    assert SWITCH.fp32_precision == "none"


@pytest.fixture
def candidate(monkeypatch):
    """Replace oneDNN's products by others, which take a share of torch's own time."""

    def replace(multiply, seconds=0.5):
        clock = [0.0]

        def timed(left, right, product, duration):
            clock[0] += duration
            return product(left, right)

        monkeypatch.setattr(matrix_products, "_onednn", lambda a, b: timed(a, b, multiply, seconds))
        monkeypatch.setattr(
            matrix_products, "_default", lambda a, b: timed(a, b, torch.matmul, 1.0)
        )
        monkeypatch.setattr(matrix_products.time, "perf_counter", lambda: clock[0])

    return replace


def in_bfloat16(left, right):
    return (left.bfloat16().float() @ right.bfloat16().float()).float()


def in_tf32(left, right):
    def rounded(value):
        return ((value.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    return rounded(left) @ rounded(right)


def in_another_order(left, right):
    half = left.shape[-1] // 2
    return left[..., :half] @ right[..., :half, :] + left[..., half:] @ right[..., half:, :]


def test_faster_exact_products_are_chosen_and_the_line_says_how_much_faster(candidate):
    candidate(in_another_order)
    said = "oneDNN's own matrix products: oneDNN's measured 2.00 times as fast"
    assert choose() == ("onednn", said)


@pytest.mark.parametrize("multiply", [in_bfloat16, in_tf32])
def test_faster_products_of_less_precision_are_refused(candidate, multiply):
    candidate(multiply, seconds=0.01)
    choice, said = choose()
    assert choice == "default"
    assert said.endswith("oneDNN's are not exact in float32 here")


@pytest.mark.parametrize("seconds", [1.0, 0.85])
def test_products_within_the_noise_of_torchs_own_are_not_chosen(candidate, seconds):
    candidate(in_another_order, seconds)
    assert choose()[0] == "default"


def test_products_of_equal_bits_are_not_timed(candidate):
    candidate(torch.matmul, seconds=0.01)
    assert choose() == (
        "default",
        "torch's own matrix products: oneDNN's measured 1.00 times as fast",
    )


@pytest.mark.parametrize("shape", [(384, 384), (1536, 384), (16, 8)])
def test_the_operands_betray_bfloat16_and_tf32_by_orders_of_magnitude(shape):
    operands = sample_operands(*shape)
    for left, right in operands:
        true = left.double() @ right.double()
        error, *others = (
            float((multiply(left, right).double() - true).abs().max())
            for multiply in (torch.matmul, in_tf32, in_bfloat16)
        )
        assert others[0] > 100 * error / 4
        assert others[1] > 1000 * error / 4
    assert is_exact(torch.matmul, operands)
    assert is_exact(in_another_order, operands)


def test_products_that_are_not_numbers_are_refused():
    assert not is_exact(lambda left, right: left @ right * float("nan"), sample_operands(48, 64))


@pytest.mark.parametrize("gain", [0.5, 3.0])
@pytest.mark.parametrize("saved", ["onednn", "default"])
def test_a_resumed_run_takes_the_saved_choice_whatever_is_faster(candidate, saved, gain):
    candidate(in_another_order, 1 / gain)
    choice, said = choose(saved)
    assert choice == saved
    assert said.endswith("as in the saved run")


def test_a_resumed_run_does_not_take_a_saved_choice_that_is_not_exact_here(candidate):
    candidate(in_bfloat16)
    assert choose("onednn")[0] == "default"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"products": "default"}, "--products default"),
        ({"execution": "padded"}, "--execution padded"),
        ({"on": accelerator("cuda")}, "on cuda"),
        ({"on": accelerator(mixed_precision="bf16")}, "mixed precision"),
        ({"on": accelerator(backend=DynamoBackend.INDUCTOR)}, "torch.compile"),
        ({"model": nn.Linear(8, 8).half()}, "no linear layer in float32"),
    ],
)
def test_it_stays_with_torchs_default_where_there_is_no_choice(candidate, more, reason):
    candidate(in_another_order)
    choice, said = choose(**more)
    assert choice == "default"
    assert reason in said


@pytest.mark.parametrize("precision", ["ieee", "tf32", "bf16"])
def test_a_users_own_setting_is_respected_and_stays(candidate, precision):
    candidate(in_another_order)
    SWITCH.fp32_precision = precision
    try:
        choice, said = choose()
        assert choice == "default"
        assert "is set" in said
        with use_products("onednn"):
            assert SWITCH.fp32_precision == precision
        assert SWITCH.fp32_precision == precision
    finally:
        SWITCH.fp32_precision = "none"


def test_a_setting_made_inside_the_block_stays():
    with use_products("onednn"):
        SWITCH.fp32_precision = "ieee"
    assert SWITCH.fp32_precision == "ieee"
    SWITCH.fp32_precision = "none"


def test_the_switch_is_on_inside_the_block_and_put_back_after_an_error():
    def predict():
        with use_products("onednn"):
            assert SWITCH.fp32_precision == "bf16"
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        predict()
    assert SWITCH.fp32_precision == "none"
    assert torch.get_float32_matmul_precision() == "highest"  # raises while the switch is on


def test_the_default_choice_touches_nothing():
    with use_products("default"):
        assert SWITCH.fp32_precision == "none"


def test_the_switch_stays_on_until_the_last_threads_block_ends():
    entered, leave = threading.Event(), threading.Event()

    def predict():
        with use_products("onednn"):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=predict)
    thread.start()
    assert entered.wait(10)
    with use_products("onednn"):
        pass
    assert SWITCH.fp32_precision == "bf16"
    leave.set()
    thread.join()
    assert SWITCH.fp32_precision == "none"


def test_the_real_switch_is_exact_or_refused_here():
    choice, _ = choose()
    if choice == "onednn":
        assert is_exact(matrix_products._onednn, sample_operands(384, 1536))


def test_the_random_numbers_of_the_process_are_left_alone():
    before = torch.get_rng_state()
    choose()
    assert torch.equal(torch.get_rng_state(), before)
