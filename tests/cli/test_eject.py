"""`plainloop eject` as a command: what it writes, prints and refuses."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import python

from plainloop.cli.eject import eject
from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError


@pytest.mark.slow
def test_flags_give_a_script_that_trains(run_command, tiny_model, tiny_data, tmp_path):
    flags = ["--task", "demo", "--data-dir", tiny_data, "--model", tiny_model, "--epochs", "1"]
    done = run_command("-m", "plainloop", "eject", *flags, "-o", "train_it.py", "--explain")
    assert done.stderr.splitlines()[-1] == "Written        train_it.py"
    script = tmp_path / "train_it.py"
    shown = [line for line in done.stdout.splitlines() if not line.startswith("#| ")]
    assert "\n".join(shown) + "\n" == script.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["train_it.py"]
    probe = (
        f"import runpy, sys; runpy.run_path({str(script)!r})\n"
        "assert not any(name.startswith('plainloop') for name in sys.modules)"
    )
    finished = subprocess.run(
        [python(), "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "Saved in runs/train_it" in finished.stdout
    saved = tmp_path / "runs" / "train_it"
    assert len(json.loads((saved / "metrics.json").read_text(encoding="utf-8"))["evaluations"]) == 1
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(saved))
    answer = classify({"text": "The cat sees a car", "text_pair": "The cat"})
    answer = answer[0] if isinstance(answer, list) else answer
    assert answer["label"] in ("different", "paraphrase")


def test_a_runs_folder_gives_the_script_of_its_settings(run, tmp_path, capsys):
    ours = run(max_steps=2, seed=7, save_strategy="no")
    capsys.readouterr()
    eject(ours.folder, script=tmp_path / "again.py")
    source = (tmp_path / "again.py").read_text(encoding="utf-8")
    assert "SEED = 7\n" in source
    assert "MAX_STEPS = 2  # optimizer steps\n" in source
    assert 'OUTPUT_DIR = "runs/again"' in source
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"--config .*run\.yaml takes its settings"):
        eject(ours.folder, script=tmp_path / "other.py", config=TrainConfig(seed=8))
    assert not (tmp_path / "other.py").exists()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ["--script: is missing"]),
        ({"script": "a.txt"}, ["--script a.txt: does not end in .py; name it a.py"]),
        ({"script": "a.ipynb"}, ["name it a.py, or add --notebook"]),
        ({"script": "a.py", "notebook": True}, ["does not end in .ipynb"]),
        ({"notebook": True, "explain": True}, ["--notebook and --explain"]),
    ],
)
def test_words_that_do_not_go_together_are_refused_at_once(given, wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "script" in given:
        given = {**given, "script": Path(given["script"])}
    with pytest.raises(UserError) as caught:
        eject(tmp_path / "no-run", **given)
    lines = str(caught.value).splitlines()
    assert all(any(text in line for line in lines) for text in wanted)
    assert any("not the folder of a run" in line for line in lines)
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_ejected_is_said_before_anything_slow(refused):
    lines = refused("eject", "--task", "demo", "--calibrate", "--dtype", "bfloat16", "-o", "x.py")
    assert [line.split(":")[1].strip() for line in lines] == ["--dtype", "--calibrate"]
