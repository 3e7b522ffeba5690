"""Branches that are off, and what nothing uses then, are taken out of a script; the rest stays as it is."""

import json
import subprocess

import pytest
from conftest import ROOT, python

from plainloop.config.settings import TrainConfig
from plainloop.eject.branches import drop_unused, fill_in, keep_branches, space
from plainloop.eject.script import make_script

FULL_SCRIPT = ROOT / "src" / "plainloop" / "eject" / "full_script.py"

CHAIN = """\
before()
if KIND == "a":  # which one
    # why a
    if chosen():
        a()

    else:
        not_a()
elif KIND == "b" and not FLAG:
    b()
elif found():
    # why c
    c(
        KIND,
    )
else:
    d()
after()
"""
OF_A = """\
before()
# why a
if chosen():
    a()

else:
    not_a()
after()
"""
OF_C = """\
before()
if found():
    # why c
    c(
        KIND,
    )
else:
    d()
after()
"""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"KIND": "a", "FLAG": False}, OF_A),
        ({"KIND": "b", "FLAG": False}, "before()\nb()\nafter()\n"),
        ({"KIND": "b", "FLAG": True}, OF_C),
        ({}, CHAIN),
    ],
    ids=["if", "elif", "what is known at run time", "nothing is known"],
)
def test_of_a_chain_the_branch_that_is_on_stays_with_its_comments(settings, expected):
    assert keep_branches(CHAIN, settings) == expected


@pytest.mark.parametrize(
    ("line", "of_on", "of_off"),
    [
        ("x = a(1) if ON else b(2)\n", "x = a(1)\n", "x = b(2)\n"),
        ("x = y % (a if ON else b) + 1\n", "x = y % a + 1\n", "x = y % b + 1\n"),
        ("x = f(a if ON else b)\n", "x = f(a)\n", "x = f(b)\n"),
        ("x = f(\n    y,\n    **ON,\n)\n", "x = f(\n    y,\n    **ON,\n)\n", "x = f(\n    y,\n)\n"),
        ("if ON:\n    x()\ny()\n", "x()\ny()\n", "y()\n"),
        (
            "if z:\n    if ON:\n        x()\n    else:\n        y()\n",
            "if z:\n    x()\n",
            "if z:\n    y()\n",
        ),
    ],
)
def test_an_expression_an_argument_and_a_nested_branch(line, of_on, of_off):
    assert keep_branches(line, {"ON": {"a": 1}}) == of_on
    assert keep_branches(line, {"ON": {}}) == of_off


def test_what_is_unused_is_taken_out_with_what_only_that_used():
    source = (
        "import json\nimport math as m\n\nA = 1  # of f\nB = 2\n\n# %% one\n# About f.\ndef f():\n"
        "    return m.sqrt(A)\n\n\ndef g():\n    return B\n\n\nprint(json.dumps(g()))\n"
    )
    assert drop_unused(source) == (
        "import json\n\nB = 2\n\n# %% one\n\n\ndef g():\n    return B\n\n\nprint(json.dumps(g()))\n"
    )


def test_a_constant_takes_its_value_and_keeps_its_comment():
    source = "A: int = 1  # rows\nB = 2\nc = 3\n"
    assert fill_in(source, {"A": [4, "x"], "C": 5}) == 'A = [4, "x"]  # rows\nc = 3\n'


def test_functions_have_two_blank_lines_around_them():
    source = "x = 1\n\n\n\n# about f\ndef f():\n    a = 1\n\n\n    return a\n\nx = f()\n\n\ny = 2\n"
    assert space(source) == (
        "x = 1\n\n\n# about f\ndef f():\n    a = 1\n\n    return a\n\n\nx = f()\n\ny = 2\n"
    )


def test_texts_of_the_data_are_never_read_as_lines_of_the_script(tmp_path, tiny_model):
    labels = ["# %% save", "\n# %% loop\n", 'if True:  # "', "{DATA_DIR}", "a\n\n\n\nb"]
    rows = [{"text": f"the cat {n}", "label": labels[n % 5]} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TrainConfig(model=str(tiny_model), train_file=(str(tmp_path / "rows.jsonl"),))
    script = make_script(config, tmp_path / "train_it.py")
    constants: dict[str, object] = {}
    exec(script.parts["settings"], {"Path": lambda _: tmp_path, "__file__": "x"}, constants)
    assert sorted(constants["LABEL_NAMES"]) == sorted(labels)
    assert list(script.parts) == [
        *("imports", "settings", "accelerator", "data", "tokenize", "loaders", "model"),
        *("optimizer", "evaluation", "loop", "save"),
    ]


@pytest.mark.slow
def test_the_full_script_runs_as_it_stands_and_gives_the_numbers_of_what_is_kept_of_it(tmp_path):
    settings = {
        "task": "demo",
        "model": "demo",
        "max_train_samples": 40,
        "dropout": 0.1,
        "num_train_epochs": 1,
        "gradient_accumulation_steps": 2,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "label_smoothing_factor": 0.1,
        "class_weights": "balanced",
        "metric_for_best_model": "f1",
        "load_best_model_at_end": True,
    }
    config = TrainConfig(early_stopping_patience=3, **settings)
    script = make_script(config, tmp_path / "train_it.py")
    script.write()
    for path in (FULL_SCRIPT, script.path):
        subprocess.run([python(), str(path)], cwd=tmp_path, check=True, capture_output=True)
    whole, kept = tmp_path / "runs" / "demo", tmp_path / "runs" / "train_it"
    for name in ("history.jsonl", "model.safetensors", "config.json"):
        assert (whole / name).read_bytes() == (kept / name).read_bytes()
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (whole, kept)]
    assert metrics[0]["evaluations"] == metrics[1]["evaluations"]
    last = {"step": 3, **metrics[0]["validation"]}
    assert metrics[0]["evaluations"] == [last]
