"""A run is used from another folder than the one that it was made in."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

ROWS = "text,label\n" + "".join(
    f"The {subject} {verb} a {thing},{'yes' if number % 2 else 'no'}\n"
    for number, subject in enumerate(["cat", "dog", "girl", "boy"])
    for verb in ("sees", "likes")
    for thing in ("car", "tree", "house")
)


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory):
    """A folder with rows, a model and the runs that were made of them in that folder."""
    from plainloop.config.settings import TrainConfig
    from plainloop.training.fine_tune import fine_tune

    folder = tmp_path_factory.mktemp("made [here]")
    shutil.copytree(tiny_model, folder / "tiny")
    for name in ("a-1.csv", "a-2.csv"):
        (folder / name).write_text(ROWS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = {"model": "tiny", "save_strategy": "epoch", "num_train_epochs": 2}
        fine_tune(TrainConfig(train_file=("a-1.csv",), output_dir=Path("runs/one"), **settings))
        fine_tune(TrainConfig(train_file=("a-*.csv",), output_dir=Path("runs/pattern"), **settings))
        absolute = folder / "runs" / "absolute"
        fine_tune(TrainConfig(train_file=("a-1.csv",), output_dir=absolute, **settings))
    return folder


def scores_of(run):
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))["saved"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "pattern", "absolute"])
def test_evaluate_finds_the_rows_and_not_others_of_that_name(made, name, run_command, tmp_path):
    (tmp_path / "a-1.csv").write_text("text,label\nother,yes\nrows,no\n", encoding="utf-8")
    words = ["evaluate", made / "runs" / name, "-o", "scores.json"]
    run_command("-m", "plainloop", *words)
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["validation"]
    assert scores["loss"] == scores_of(made / "runs" / name)["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "absolute"])
def test_a_settings_file_trains_the_same_and_resumes(made, name, run_command, tmp_path):
    file = made / "runs" / name / "run.yaml"
    run_command("-m", "plainloop", "train", "--config", file, "-o", "again")
    assert scores_of(tmp_path / "again") == scores_of(made / "runs" / name)
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    file = copy / "runs" / name / "run.yaml"
    if name == "absolute":  # names the folder that it was copied from
        file.write_text(file.read_text(encoding="utf-8").replace(str(made), str(copy)))
    (file.parent / "metrics.json").unlink()
    finished = run_command("-m", "plainloop", "train", "--config", file, "--resume")
    assert "resuming from" in finished.stdout
    assert scores_of(file.parent) == scores_of(made / "runs" / name)


def test_in_its_own_folder_paths_stay_as_they_were_given(made, monkeypatch):
    from plainloop import load_run

    monkeypatch.chdir(made)
    assert load_run("runs/one").config.train_file == ("a-1.csv",)
    assert yaml.safe_load((made / "runs/one/run.yaml").read_text())["model"] == "tiny"
    (made / "elsewhere").symlink_to(made / "runs")
    assert load_run("elsewhere/one").config.train_file == ("a-1.csv",)


def test_a_settings_file_that_is_not_in_its_output_folder_starts_at_the_current_one(tmp_path):
    from plainloop.config.settings_file import read_settings_file

    (tmp_path / "mine.yaml").write_text("train_file: [a.csv]\noutput_dir: runs/x\n")
    assert read_settings_file(tmp_path / "mine.yaml")["train_file"] == ["a.csv"]
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "mine.yaml").rename(tmp_path / "runs" / "x" / "run.yaml")
    settings = read_settings_file(tmp_path / "runs" / "x" / "run.yaml")
    assert settings["train_file"] == [str(tmp_path / "a.csv")]
    assert settings["output_dir"] == str(tmp_path / "runs" / "x")
