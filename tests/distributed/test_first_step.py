"""Weights that differ between processes are found at the first step, in one line."""

import json
import re

import pytest
from conftest import ROOT

pytestmark = pytest.mark.distributed
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

PREPARED = """\
    model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
        model, optimizer, dataloaders["train"], dataloaders["validation"]
    )
"""
NOT_PREPARED = """\
    optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
        optimizer, dataloaders["train"], dataloaders["validation"]
    )
"""
HEAD_DRAWN_AGAIN = """\
    set_seed(config.seed, device_specific=True)
    accelerator.unwrap_model(model).classifier.reset_parameters()
"""
ONE_WEIGHT = """\
    accelerator.unwrap_model(model).classifier.bias.data[0] += accelerator.process_index / 8
"""
BEFORE_THE_MODEL = "    set_seed(config.seed)\n    model, new_parameters"


@pytest.fixture
def launch(tiny_model, tiny_data, tmp_path, run_command):
    """Run train.py with some lines of it replaced, on two processes; its errors and its folder."""

    def launch(old, new, expect):
        source = (ROOT / "train.py").read_text(encoding="utf-8")
        assert source.count(old) == 1
        script = tmp_path / "changed.py"
        script.write_text(source.replace(old, new), encoding="utf-8")
        flags = ["--task", "demo", "--model", tiny_model, "--data-dir", tiny_data, "--use-cpu"]
        flags += ["--max-steps", "3", "--logging-steps", "1", "-o", tmp_path / "run"]
        finished = run_command(*LAUNCH, script, *flags, expect=expect, OMP_NUM_THREADS="1")
        return re.findall(r"^error: (.*)$", finished.stderr, re.MULTILINE), tmp_path / "run"

    return launch


@pytest.mark.parametrize(
    ("fault", "different"),
    [
        (NOT_PREPARED, r"bert\.embeddings\..* and \d+ more"),
        (PREPARED + HEAD_DRAWN_AGAIN, r"module\.classifier\.weight, module\.classifier\.bias"),
        (PREPARED + ONE_WEIGHT, r"module\.classifier\.bias"),
    ],
    ids=["model not prepared", "head drawn again with another seed", "one weight"],
)
def test_weights_that_differ_between_processes_are_named(fault, different, launch):
    errors, run = launch(PREPARED, fault, expect=1)
    assert len(errors) == 1
    assert re.fullmatch(
        rf"optimizer step 1: the processes have different {different}; prepare the model with the "
        r"accelerator, and change it identically on each process",
        errors[0],
    ), errors[0]
    assert not (run / "model.safetensors").exists()


def test_another_seed_on_each_process_before_the_model_is_prepared_is_right(launch):
    seeded = BEFORE_THE_MODEL.replace("seed)", "seed, device_specific=True)")
    errors, run = launch(BEFORE_THE_MODEL, seeded, expect=0)
    assert errors == []
    records = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in records] == [1, 2, 3]
