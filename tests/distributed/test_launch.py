"""Each way to launch of docs/distributed.md, run for real: what is said, once, and what is written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from conftest import python
from safetensors.torch import load_file

pytestmark = pytest.mark.distributed

ROOT = Path(__file__).parent.parent.parent
SCRIPT = str(ROOT / "train.py")
ACCELERATE = ["-m", "accelerate.commands.accelerate_cli"]
LAUNCH = [*ACCELERATE, "launch", "--main_process_port", "0"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TWO = ["--multi_gpu", "--num_processes", "2", "--num_cpu_threads_per_process", "1"]
MULTI_CPU, MULTI_GPU = 1, 4  # their places in the questionnaire's menu
NO, BF16 = 0, 2
DOWN, ENTER = "\x1b[B", "\r"


@pytest.fixture
def launch(tiny_model, tiny_data, tmp_path):
    """Run a launcher's command with the flags of a short run; stdout, stderr and the run's folder."""

    def launch(*words, expect=0, new=False, **environment):
        run = tmp_path / "run"
        flags = ["--task", "demo", "--model", tiny_model, "--data-dir", tiny_data]
        flags += ["--max-steps", "4", "--logging-steps", "1", "--output-dir", run]
        unset = ("OMP_NUM_THREADS",)
        finished = subprocess.run(
            [sys.executable if new else python(), *map(str, words), *map(str, flags)],
            env={k: v for k, v in os.environ.items() if k not in unset} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert finished.returncode == expect, finished.stdout + finished.stderr
        return finished.stdout, finished.stderr, run

    return launch


def said_by(stdout: str, title: str) -> list[str]:
    """What the lines of the preflight under a title say."""
    return re.findall(rf"^{title} +(.*)$", stdout, re.MULTILINE)


def check_run(printed: str, run: Path, *, processes: int, launcher: str) -> None:
    """That so many processes trained as one: each line is there once, and 4 steps are logged."""
    count = "1 process" if processes == 1 else f"{processes} processes"
    launched = [f"{launcher}, {count}"] if processes > 1 else []
    assert said_by(printed, "Launcher") == launched
    batch = "1 batch"
    assert said_by(printed, "Batch") == [
        f"8 rows x {count} x {batch} = {8 * processes} an optimizer step"
    ]
    lines = [line for line in printed.splitlines() if line.strip(" {}()")]
    twice = {line for line in lines if lines.count(line) > 1 and ":" in line}
    assert {line for line in twice if "features" not in line} == set()
    assert len((run / "history.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    assert (run / "model.safetensors").exists()
    assert not [*run.rglob(".tmp-*")]


def test_accelerate_launch_of_one_process_says_that_it_has_one_thread(launch):
    printed, _, run = launch(*LAUNCH, SCRIPT)
    check_run(printed, run, processes=1, launcher="accelerate launch")
    assert said_by(printed, "Device")[0].startswith("cpu; float32; threads: 1; cores: ")


@pytest.mark.parametrize(
    ("program", "environment"),
    [([SCRIPT], {}), (["-m", "plainloop", "train"], {"ACCELERATE_USE_CPU": "1"})],
    ids=["script", "module"],
)
def test_accelerate_launch_of_two_processes(launch, program, environment):
    new = program == [SCRIPT]  # here the launcher and its processes start as a person's do
    printed, _, run = launch(*LAUNCH, *TWO, *program, new=new, **environment)
    check_run(printed, run, processes=2, launcher="accelerate launch")
    assert said_by(printed, "Device")[0].startswith("cpu; float32; threads in each: 1; cores: ")


def test_a_compiled_model_trains_padded_and_gives_the_same_losses(
    launch, run_command, tiny_model, tiny_data
):
    # eager: torch.compile without a compiler of C++, which takes minutes for a tiny model, too.
    words = ["--cpu", "--num_processes", "1", "--num_cpu_threads_per_process", "1"]
    printed, _, run = launch(*ACCELERATE, "launch", *words, "--dynamo_backend", "eager", SCRIPT)
    assert "padded: torch.compile would recompile" in printed
    data = ["--data-dir", tiny_data]
    plain = ["--execution", "padded", "--max-steps", "4", "--logging-steps", "1"]
    run_command(
        SCRIPT, "--task", "demo", "--model", tiny_model, *data, *plain, "-o", run.parent / "p"
    )
    losses = [
        [json.loads(line)["loss"] for line in (folder / "history.jsonl").read_text().splitlines()]
        for folder in (run, run.parent / "p")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    assert not any("_orig_mod" in name for name in load_file(run / "model.safetensors"))


def test_torchrun(launch):
    printed, _, run = launch(*TORCHRUN, SCRIPT)
    check_run(printed, run, processes=2, launcher="torchrun")


ENDS = """
import atexit, sys
import plainloop, torch

atexit.register(lambda: print("at exit:", torch.distributed.is_initialized()))

def main(config, stop):
    plainloop.create_accelerator(config)
    print("within:", torch.distributed.is_initialized())

plainloop.run_script(main, sys.argv[1:], program="ends.py", description="")
"""


def test_a_process_ends_without_its_process_group_whose_threads_could_abort_it(tmp_path, launch):
    script = tmp_path / "ends.py"
    script.write_text(ENDS, encoding="utf-8")
    printed, _, _ = launch(*TORCHRUN, script)
    assert sorted(printed.split("\n")) == ["", *["at exit: False"] * 2, *["within: True"] * 2]


def test_two_processes_of_which_one_was_started_are_refused_with_the_right_command(launch):
    _, errors, run = launch(*LAUNCH, "--num_processes", "2", SCRIPT, expect=1)
    said = re.findall(r"^error: (.*)$", errors, re.MULTILINE)
    assert len(said) == 1
    assert "asked for several processes and has started one" in said[0]
    assert "accelerate launch --multi_gpu --num_processes N" in said[0]
    assert "exit status 2." in errors  # of the Python process; the launcher makes 1 of it
    assert not run.exists()


def test_a_mistake_that_every_process_finds_is_said_once(launch):
    _, errors, run = launch(*TORCHRUN, SCRIPT, "--learning-rate", "-1", expect=1)
    assert len(re.findall(r"^error: --learning-rate", errors, re.MULTILINE)) == 1
    assert re.search(r"rank +: 0 .*\n *exitcode +: 2 ", errors)
    assert not run.exists()


def test_a_mistake_found_after_the_processes_have_met_is_said_once(launch):
    _, errors, _ = launch(*TORCHRUN, SCRIPT, "--max-length", "2", expect=1)
    assert len(re.findall(r"^error: --max-length", errors, re.MULTILINE)) == 1
    assert "plainloop/data" not in errors  # no traceback of ours


def answer_questionnaire(home: Path, machine: int, precision: int) -> Path:
    """Run `accelerate config` in a terminal, and answer as a person does; the file it wrote."""
    environment = {**os.environ, "HF_HOME": str(home), "TERM": "xterm"}
    child = pexpect.spawn(
        sys.executable,
        [*ACCELERATE, "config"],
        env=environment,
        encoding="utf-8",
        timeout=60,
        dimensions=(60, 240),
    )
    child.expect("AWS")  # the last line of each menu, which is then there whole
    child.send(ENTER)
    child.expect("TPU")
    child.send(DOWN * machine + ENTER)
    questions = ["fp8", r"should be used for distributed training\?", r"(?i)\[yes/no\]", r"\]:"]
    answers = {1: "2", 2: "no", 3: ""}
    while (asked := child.expect(questions)) != 0:
        if asked == 1:
            child.expect(r"\]:")
        child.sendline(answers[asked])
    child.send(DOWN * precision + ENTER)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    return home / "accelerate" / "default_config.yaml"


def test_the_file_of_accelerate_config_is_honoured_and_named_and_bf16_trains(launch, tmp_path):
    file = answer_questionnaire(tmp_path / "home", MULTI_GPU, BF16)
    home = {"HF_HOME": str(tmp_path / "home")}
    printed, _, run = launch(*LAUNCH, SCRIPT, **home)
    check_run(printed, run, processes=2, launcher="accelerate launch")
    assert said_by(printed, "Device")[0].startswith("cpu; bf16; ")
    values = "num_processes 2, mixed_precision bf16, use_cpu no (here yes)"
    assert said_by(printed, "Accelerate") == [f"{file}: {values}; a flag or --config_file beats it"]
    history = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [json.loads(line)["loss"] for line in history]
    assert all(0 < loss < 3 for loss in losses)
    # bf16 has 8 bits: a loss that float32 gives is not hit.
    again, _, run = launch(*LAUNCH, "--mixed_precision", "no", SCRIPT, "--overwrite", **home)
    assert "mixed_precision bf16 (here no)" in said_by(again, "Accelerate")[0]
    history = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    exact = [json.loads(line)["loss"] for line in history]
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.05)


def test_the_questionnaires_multi_cpu_starts_one_process_and_is_refused(launch, tmp_path):
    answer_questionnaire(tmp_path / "home", MULTI_CPU, NO)
    home = {"HF_HOME": str(tmp_path / "home")}
    _, errors, run = launch(*LAUNCH, SCRIPT, expect=1, **home)
    assert "asked for several processes and has started one" in errors
    assert not run.exists()


def test_fsdp_that_became_data_parallelism_is_said(launch):
    printed, _, run = launch(*LAUNCH, "--use_fsdp", "--num_processes", "2", SCRIPT)
    check_run(printed, run, processes=2, launcher="accelerate launch")
    assert "FSDP was asked for" in "".join(said_by(printed, "Warning"))


def test_fully_shard_gives_the_numbers_of_one_process(tiny_model, tiny_data, tmp_path):
    runs = []
    for processes in ("1", "2"):
        words = [*TORCHRUN[:-1], processes, Path(__file__).parent / "sharded.py"]
        result = tmp_path / f"{processes}.json"
        subprocess.run(
            [python(), *map(str, words), str(tiny_model), str(tiny_data), str(result)],
            check=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        runs.append(json.loads(result.read_text(encoding="utf-8")))
    assert len(runs[0]) == 8
    for key in ("loss", "grad_norm"):
        alone, sharded = ([record[key] for record in run] for run in runs)
        assert sharded == pytest.approx(alone, rel=1e-5)
