"""What is said before a run, and which launches are refused; in one process, by the environment."""

import os

import pytest
import torch
from joblib import cpu_count

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.run import accelerator as distributed
from plainloop.run.accelerator import check_environment, create_accelerator, share_cores
from plainloop.training import announce as preflight
from plainloop.training.announce import describe_run, launcher_name

PREFIXES = (
    "ACCELERATE_",
    "FSDP_",
    "TORCHELASTIC_",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_",
    "MASTER_",
    "OMP_",
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        monkeypatch.delenv(name)


def lines_of(**settings):
    accelerator = create_accelerator(TrainConfig(use_cpu=True))
    return dict(describe_run(TrainConfig(task="demo", **settings), accelerator, 43))


def test_the_numbers_of_a_run_of_one_process():
    said = lines_of(
        per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=1.5, seed=7
    )
    assert "Launcher" not in said
    assert said["Batch"] == "4 rows x 1 process x 2 batches = 8 an optimizer step"
    # 43 rows are 11 batches of 4, and 6 windows of 2; one and a half times.
    assert said["Steps"] == "6 an epoch, 9 in all"
    assert said["Seed"] == "7"
    assert said["Device"].startswith("cpu; float32; threads: ")
    assert said["Device"].endswith(f"cores: {cpu_count()}")


def test_threads_that_are_more_than_the_cores_are_warned_of(monkeypatch):
    assert "Warning" not in lines_of()
    monkeypatch.setattr(preflight, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert lines_of()["Warning"] == ("1 x 3 threads on 2 cores: slower than OMP_NUM_THREADS=2")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "none"),
        ({"ACCELERATE_DYNAMO_MODE": "default"}, "accelerate launch"),
        ({"ACCELERATE_DYNAMO_MODE": "default", "TORCHELASTIC_RUN_ID": "1"}, "accelerate launch"),
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2"}, "torchrun"),
        ({"WORLD_SIZE": "2"}, "a scheduler's or your own (WORLD_SIZE)"),
    ],
)
def test_the_launcher_is_known_by_what_it_leaves(monkeypatch, environment, name):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert launcher_name() == name


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, None),
        ({"MASTER_ADDR": "10.0.0.1"}, None),  # a scheduler's script exports it for all it starts
        ({"ACCELERATE_DYNAMO_MODE": "default"}, None),
        (
            {"ACCELERATE_DYNAMO_MODE": "default", "MASTER_ADDR": "127.0.0.1"},
            "several processes and has started one",
        ),
        (
            {
                "ACCELERATE_DYNAMO_MODE": "default",
                "MASTER_ADDR": "127.0.0.1",
                "WORLD_SIZE": "2",
                "RANK": "1",
            },
            None,
        ),
        ({"WORLD_SIZE": "2"}, "2 processes, and not which one this is"),
    ],
)
def test_a_launch_that_cannot_be_meant_is_refused(monkeypatch, environment, refused):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    if refused is None:
        check_environment()
        return
    with pytest.raises(UserError, match=refused):
        check_environment()


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch):
    create_accelerator(
        TrainConfig(use_cpu=True)
    )  # so that the next one is one of 1 process, as this is
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="2 processes were started, and each believes"):
        create_accelerator(TrainConfig(use_cpu=True))


@pytest.mark.parametrize(
    ("cores", "processes", "given", "threads"),
    [(8, 2, None, 4), (2, 4, None, 1), (8, 2, "3", 3), (8, 1, None, None)],
    ids=["shared", "more processes than cores", "given", "alone"],
)
def test_each_process_gets_its_share_of_the_cores(monkeypatch, cores, processes, given, threads):
    before = torch.get_num_threads()
    monkeypatch.setattr(distributed, "cpu_count", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", "")  # so that it is put back afterwards
        monkeypatch.delenv("OMP_NUM_THREADS")
    try:
        share_cores()
        assert os.environ.get("OMP_NUM_THREADS") == (str(threads) if threads else None)
        if not given:
            assert torch.get_num_threads() == (threads or before)
    finally:
        torch.set_num_threads(before)


def test_the_file_of_accelerate_config_is_named_with_the_values_that_apply(monkeypatch, tmp_path):
    file = tmp_path / "default_config.yaml"
    file.write_text("num_processes: 4\nmixed_precision: 'no'\nuse_cpu: true\n", encoding="utf-8")
    monkeypatch.setattr(preflight, "default_config_file", str(file))
    assert "Accelerate" not in lines_of()  # it is accelerate launch that reads the file
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    assert lines_of()["Accelerate"] == (
        f"{file}: num_processes 4 (here 1), mixed_precision no, use_cpu yes; "
        "a flag or --config_file beats it"
    )


def test_an_engine_that_was_asked_for_and_is_not_there_is_warned_of(monkeypatch):
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert lines_of()["Warning"] == (
        "FSDP was asked for; without a GPU it is plain data parallelism (DDP)"
    )
