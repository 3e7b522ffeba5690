"""plainloop gives the Trainer's numbers, bit for bit, and the comparison can tell."""

import parity
import pytest
from conftest import ROOT, write_pairs

ROWS = 245  # 31 batches of 8, the last one with 5 rows: two epochs are 62 steps


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    write_pairs(folder / "train.tsv", ROWS, seed=4)
    write_pairs(folder / "validation.tsv", 21, seed=5)
    return folder


@pytest.fixture
def compare(run_command, tiny_model, data):
    def compare(*flags: str, expect: int = 0) -> str:
        return run_command(
            ROOT / "benchmarks" / "parity.py",
            *("--task", "demo", "--data-dir", data, "--model", tiny_model, "--epochs", "2"),
            *flags,
            expect=expect,
        ).stdout

    return compare


@pytest.mark.parametrize(
    "flags",
    [
        (),
        *(
            pytest.param(flags, marks=pytest.mark.slow)
            for flags in (
                ("--weight-decay", "0.1", "--lr", "1e-3"),
                ("--warmup-steps", "0.2"),
                ("--lr-scheduler-type", "cosine", "--max-grad-norm", "0"),
                ("--eval-strategy", "steps", "--eval-steps", "7"),
                ("--bf16",),
            )
        ),
        *(
            pytest.param(flags, marks=[pytest.mark.slow, pytest.mark.nightly])
            for flags in (
                ("--optim", "adamw_torch"),
                ("--optim", "sgd", "--lr", "0.1", "--weight-decay", "0.1"),
                ("--optim", "adafactor", "--lr", "1e-3", "--weight-decay", "0.1"),
            )
        ),
    ],
    ids=" ".join,
)
def test_every_loss_gradient_norm_rate_score_and_weight_is_the_trainers(compare, flags):
    printed = compare(*flags)
    assert printed.splitlines()[-1] == "equal, bit for bit"
    assert "62 steps" in printed
    counts = [line.split()[-2:] for line in printed.splitlines()[1:-2]]
    assert len(counts) == 7, "3 series of the steps, 3 of the evaluations, the weights"
    assert all(int(values) > 0 and different == "0" for values, different in counts)


@pytest.mark.slow
def test_rows_grouped_by_length_train_as_in_the_trainer(compare):
    """The Trainer groups the evaluation's rows, too, which moves the last bits of its loss."""
    printed = compare("--train-sampling-strategy", "group_by_length", "--eval-strategy", "no")
    assert printed.splitlines()[-1] == "equal, bit for bit"
    assert "62 steps" in printed


@pytest.mark.slow
def test_another_seed_makes_the_comparison_fail(compare):
    printed = compare("--perturb-seed", expect=1)
    assert printed.splitlines()[-1] == "NOT equal"


def test_a_flag_that_the_trainers_side_would_ignore_is_refused(run_command):
    script = ROOT / "benchmarks" / "parity.py"
    flags = ("--task", "demo", "--freeze-layers", "1", "--class-weights", "balanced")
    printed = run_command(script, *flags, expect=2).stderr
    assert printed.splitlines() == [
        "error: --freeze-layers: the Trainer's side does not take it; leave it out",
        "error: --class-weights: the Trainer's side does not take it; leave it out",
    ]


def test_one_differing_bit_is_found():
    import math

    ours = {
        "steps": [{"step": 1, "loss": 0.5, "grad_norm": 1.0, "learning_rate": 0.1}],
        "evaluations": [{"step": 1, "loss": 0.5}],
        "weights": "a",
    }
    theirs = {**ours, "steps": [{**ours["steps"][0], "loss": math.nextafter(0.5, 1)}]}
    different = {name: count for name, _, count, _ in parity.compare(ours, theirs)}
    assert different == {
        "loss": 1,
        "grad_norm": 0,
        "learning_rate": 0,
        "evaluation loss": 0,
        "weights": 0,
    }
    missing = {**ours, "steps": []}
    assert {row[0]: row[2] for row in parity.compare(missing, theirs)}["grad_norm"] == 1


@pytest.mark.parametrize(
    ("task", "data", "steps"),
    [
        pytest.param("mrpc", "glue_beginning", 8, marks=pytest.mark.slow),
        *(
            pytest.param(task, "glue", 60, marks=pytest.mark.nightly)
            for task in ("mrpc", "cola", "stsb")
        ),
    ],
)
def test_the_start_of_a_real_task_is_the_trainers(run_command, request, task, data, steps):
    printed = run_command(
        ROOT / "benchmarks" / "parity.py",
        *("--task", task, "--data-dir", request.getfixturevalue(data)),
        *("--model", "demo", "--steps", str(steps)),
    ).stdout
    assert printed.splitlines()[-1] == "equal, bit for bit"
    assert f"{steps} steps" in printed
