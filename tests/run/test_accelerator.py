"""What is passed to Accelerate for the precision and torch.compile, and what is refused."""

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DynamoBackend

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.run import accelerator as accelerators
from plainloop.run.accelerator import choose_precision, create_accelerator


@pytest.fixture(autouse=True)
def as_without_a_launcher(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    yield
    AcceleratorState._reset_state()


def create(**settings):
    return create_accelerator(TrainConfig(use_cpu=True, **settings))


def state_of(accelerator):
    return accelerator.mixed_precision, accelerator.state.dynamo_plugin.backend


def test_the_settings_reach_accelerate_and_a_second_run_has_its_own():
    assert state_of(create()) == ("no", DynamoBackend.NO)
    assert state_of(create(bf16=True)) == ("bf16", DynamoBackend.NO)
    assert state_of(create(torch_compile=True)) == ("no", DynamoBackend.INDUCTOR)
    assert state_of(create()) == ("no", DynamoBackend.NO)


@pytest.mark.parametrize("settings", [{}, {"bf16": True}])
def test_the_launchers_precision_and_backend_are_kept(monkeypatch, settings):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    assert state_of(create(**settings)) == ("bf16", DynamoBackend.EAGER)
    assert state_of(create(torch_compile=True, **settings)) == ("bf16", DynamoBackend.EAGER)


def test_the_launchers_no_is_no_wish(monkeypatch):
    """accelerate launch sets both variables in any case."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    assert state_of(create(bf16=True, torch_compile=True)) == ("bf16", DynamoBackend.INDUCTOR)


@pytest.mark.parametrize(
    ("launched", "settings", "message"),
    [
        ("fp16", {"bf16": True}, "--bf16: the launcher asks for the mixed precision fp16; leave"),
        (
            "no",
            {"fp16": True},
            "--fp16: a CPU does not compute in fp16; leave it out, or take bf16",
        ),
        ("fp16", {}, "accelerate launch --mixed_precision: a CPU does not compute in fp16; leave"),
        ("no", {"tf32": True}, "--tf32: TF32 needs an NVIDIA GPU of Ampere or later; leave it out"),
    ],
)
def test_what_the_launcher_or_the_device_contradicts_is_one_line(
    monkeypatch, launched, settings, message
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    with pytest.raises(UserError) as caught:
        create(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """What Accelerate and torch are told where there is a GPU; nothing is computed."""
    told = {}

    def record(**arguments):
        told.update(arguments)
        raise InterruptedError

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(accelerators, "is_bf16_available", lambda **_: told.get("bf16", True))
    monkeypatch.setattr(accelerators, "is_torch_tf32_available", lambda: True)
    monkeypatch.setattr(accelerators, "enable_tf32", lambda wanted: told.update(tf32=wanted))
    monkeypatch.setattr(accelerators, "Accelerator", record)
    return told


@pytest.mark.parametrize("tf32", [None, True, False])
def test_on_a_gpu_float16_and_tf32_are_passed_on(as_on_a_gpu, tf32):
    with pytest.raises(InterruptedError):
        create_accelerator(TrainConfig(fp16=True, torch_compile=True, tf32=tf32))
    assert as_on_a_gpu["mixed_precision"] == "fp16"
    assert as_on_a_gpu["dynamo_backend"] == "inductor"
    assert as_on_a_gpu["cpu"] is False
    assert as_on_a_gpu.get("tf32") is tf32


def test_a_gpu_without_bfloat16_is_named(as_on_a_gpu):
    as_on_a_gpu["bf16"] = False
    with pytest.raises(UserError, match=r"--bf16: this GPU does not compute in bf16; .* fp16"):
        choose_precision(TrainConfig(bf16=True), on_cpu=False)
