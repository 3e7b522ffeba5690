"""The folder of a run: never anything lost that is not a run, nor a run without asking."""

import json

import pytest
import yaml

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.run.accelerator import create_accelerator
from plainloop.run.folder import (
    RunFolder,
    check_output_dir,
    has_saved_model,
    is_finished,
    load_metrics,
    summarize,
)
from plainloop.run.state import TrainState


def content(folder):
    return {
        path: path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.fixture
def old_run(tmp_path):
    folder = tmp_path / "runs" / "old"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.yaml").write_text("task: mrpc\nnum_train_epochs: 3\n", encoding="utf-8")
    (folder / "checkpoints" / "weights").touch()
    (folder / "tokenizer.json").touch()
    return folder


@pytest.fixture
def no_run(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work", encoding="utf-8")
    return folder


@pytest.mark.parametrize("where", ["new", "a/b/new", "empty"])
def test_a_new_or_empty_folder_is_made_and_holds_the_settings(tmp_path, where):
    (tmp_path / "empty").mkdir()
    config = TrainConfig(task="demo", output_dir=tmp_path / where, seed=7)
    run = RunFolder.create(config)
    assert run.path == tmp_path / where
    written = (run.path / "run.yaml").read_text(encoding="utf-8")
    assert names(run.path) == ["run.yaml"]
    called = {"overwrite", "dry_run", "resume", "resume_from_checkpoint", "force"}
    settings = {name: value for name, value in config.to_dict().items() if name not in called}
    assert yaml.safe_load(written) == settings


def test_the_default_folder_is_runs_and_the_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunFolder.create(TrainConfig(task="demo"))
    assert (tmp_path / "runs" / "demo" / "run.yaml").is_file()


@pytest.mark.parametrize("take", [check_output_dir, RunFolder.create])
def test_a_run_is_not_replaced_without_asking(old_run, take):
    before = content(old_run)
    with pytest.raises(
        UserError, match=r"the folder holds a run already; .* --overwrite"
    ) as caught:
        take(TrainConfig(task="demo", output_dir=old_run))
    assert caught.value.where == f"--output-dir {old_run}"
    assert content(old_run) == before


@pytest.mark.parametrize("take", [check_output_dir, RunFolder.create])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_replaced(no_run, take, overwrite):
    before = content(no_run)
    with pytest.raises(UserError, match=r"is not a run .*; choose another folder$"):
        take(TrainConfig(task="demo", output_dir=no_run, overwrite=overwrite))
    assert content(no_run) == before


def test_overwrite_replaces_a_run_and_leaves_what_is_beside_it(old_run, tmp_path):
    beside = old_run.parent / "other"
    beside.mkdir()
    (old_run / "notes.txt").write_text("mine", encoding="utf-8")
    RunFolder.create(TrainConfig(task="demo", output_dir=old_run, overwrite=True))
    assert names(old_run) == ["notes.txt", "run.yaml"], "what is none of a run's stays"
    assert "task: demo" in (old_run / "run.yaml").read_text(encoding="utf-8")
    assert beside.is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for output_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="file is not a folder; choose"):
            RunFolder.create(TrainConfig(task="demo", output_dir=output_dir, overwrite=overwrite))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_checking_changes_nothing(old_run, tmp_path, overwrite):
    before = content(tmp_path)
    for output_dir in (tmp_path / "new", old_run if overwrite else tmp_path / "a" / "b"):
        check_output_dir(TrainConfig(task="demo", output_dir=output_dir, overwrite=overwrite))
    assert content(tmp_path) == before


def test_the_folder_one_stands_in_can_hold_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunFolder.create(TrainConfig(task="demo", output_dir=tmp_path.relative_to(tmp_path)))
    assert names(tmp_path) == ["run.yaml"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_to_a_folder_leads_to_it_and_stays(old_run, tmp_path, overwrite):
    (tmp_path / "empty").mkdir()
    target = old_run if overwrite else tmp_path / "empty"
    link = tmp_path / "link"
    link.symlink_to(target)
    RunFolder.create(TrainConfig(task="demo", output_dir=link, overwrite=overwrite))
    assert link.is_symlink()
    assert names(target) == ["run.yaml"]
    assert "task: demo" in (target / "run.yaml").read_text(encoding="utf-8")


def test_another_programs_run_yaml_makes_no_run(tmp_path):
    (tmp_path / "run.yaml").write_text("jobs: [build]\n", encoding="utf-8")
    (tmp_path / "model.py").write_text("mine", encoding="utf-8")
    before = content(tmp_path)
    for settings in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(UserError, match="is not a run"):
            RunFolder.create(TrainConfig(task="demo", output_dir=tmp_path, **settings))
    assert content(tmp_path) == before


def test_a_folder_that_another_process_writes_to_is_refused(tmp_path):
    config = TrainConfig(task="demo", output_dir=tmp_path / "run")
    first = RunFolder.create(config)
    again = TrainConfig(task="demo", output_dir=tmp_path / "run", overwrite=True)
    with pytest.raises(UserError, match="another process is writing to this folder"):
        check_output_dir(again)
    first.lock.release()
    RunFolder.create(again)


def test_steps_are_appended_to_the_history(tmp_path):
    run = RunFolder.create(TrainConfig(task="demo", output_dir=tmp_path / "run"))
    records = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": 1e-12}]
    for record in records:
        run.log_step(record)
    lines = (run.path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records


@pytest.mark.parametrize("content", [b'{"evaluations": [{"st', b"", b"[]", b"\xff"])
def test_damaged_metrics_are_one_line_and_make_the_run_unfinished(tmp_path, content):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics.json: cannot be read: .*; plainloop train ") as e:
        load_metrics(tmp_path)
    assert "\n" not in str(e.value)
    assert not is_finished(tmp_path)


def test_a_run_is_finished_when_its_final_evaluation_is_written(tmp_path):
    assert not has_saved_model(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert not has_saved_model(tmp_path)
    run = RunFolder(tmp_path, None)
    run.save_metrics({"steps": 1})
    assert has_saved_model(tmp_path)
    assert not is_finished(tmp_path)
    run.save_metrics({"steps": 1, "data": {}})
    assert is_finished(tmp_path)


def test_what_a_killed_process_left_is_in_the_way_of_no_run(tmp_path):
    (tmp_path / ".lock").touch()
    left = tmp_path / ".plainloop-1-run.yaml.tmp"
    left.touch()
    config = TrainConfig(task="demo", output_dir=tmp_path)
    RunFolder.create(config).lock.release()
    assert names(tmp_path) == ["run.yaml"]
    left.touch()
    RunFolder.reopen(config, TrainState())
    assert names(tmp_path) == ["history.jsonl", "run.yaml"]


@pytest.mark.parametrize(("load_best", "saved"), [(False, 2), (True, 1)])
def test_the_summary_names_the_best_evaluation_and_the_saved_one(load_best, saved):
    config = TrainConfig(task="demo", load_best_model_at_end=load_best)
    state = TrainState()
    for step, loss in ((1, 0.1), (2, 0.2)):
        state.step = step
        state.record_evaluation({"loss": loss}, config)
    summary = summarize(state, config, create_accelerator(TrainConfig(use_cpu=True)))
    assert summary["best"]["step"] == 1
    assert summary["saved"]["step"] == saved
    assert [record["step"] for record in summary["evaluations"]] == [1, 2]
