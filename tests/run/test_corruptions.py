"""No damage to a file of a finished run or of a checkpoint is used silently, and none is a traceback.

The tests of `make test` draw a part of the corruptions; those of `make nightly` try all of them.
"""

import contextlib
import itertools
import random
import shutil

import pytest
from corruptions import corruptions
from tiny import run_tiny

from plainloop.cli.app import app
from plainloop.cli.flags import run_app
from plainloop.config.settings import TrainConfig
from plainloop.errors import CheckpointError, PlainloopError
from plainloop.run.accelerator import create_accelerator
from plainloop.run.checkpoints import Checkpoints

SEED = 0
ALLOWED = {"missing", "a dangling link", "a pipe", "a folder", "without folder", "folder: None"}
PARTS = [pytest.param(25, id="drawn"), pytest.param(None, id="all", marks=pytest.mark.nightly)]
NO_DAMAGE = {
    *("missing", "a dangling link", "a pipe", "a folder"),  # a run without a manifest
    *("without folder", "folder: None"),  # a checkpoint of plainloop 0.1.0
    *("longer", "one byte less"),  # white space at the end
}
"""What may be done to a manifest."""
COMMANDS = {
    "predict": ("predict", "run", "--file", "rows.tsv", "--output", "out.csv"),
    "evaluate": ("evaluate", "run", "--output", "out.json"),
    "compare": ("compare", "run", "other", "--output", "out.json"),
    "report": ("report", "run"),
    "eject": ("eject", "run", "-o", "train.py"),
}


@pytest.fixture(scope="module")
def made(tiny_model, tiny_data, tmp_path_factory):
    return run_tiny(
        tmp_path_factory.mktemp("made") / "run",
        data_dir=tiny_data,
        model=str(tiny_model),
        max_steps=2,
        calibrate=True,
        save_strategy="steps",
        save_steps=1,
        test_file=(str(tiny_data / "test.tsv"),),
    ).folder


@pytest.fixture
def run(made, tiny_data, tmp_path, monkeypatch):
    """A copy of the run without its checkpoints, beside another and rows to predict."""
    for name in ("run", "other"):
        left_out = shutil.ignore_patterns("checkpoints", ".lock", "report.html", "README.md")
        shutil.copytree(made, tmp_path / name, ignore=left_out)
    rows = (tiny_data / "test.tsv").read_text(encoding="utf-8").splitlines()
    unlabelled = [line.rpartition("\t")[0] for line in rows]
    (tmp_path / "rows.tsv").write_text("\n".join(unlabelled) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def drawn(folder, part):
    """Each corruption that changes a file, or `part` of them, with its file damaged meanwhile."""
    found = [
        (name, label, damage)
        for name, label, damage in corruptions(folder)
        if name != "manifest.json" or label not in NO_DAMAGE
    ]
    for name, label, damage in random.Random(SEED).sample(found, part or len(found)):
        path = folder / name
        content = path.read_bytes()
        damage(path)
        if not path.is_file() or path.read_bytes() != content:
            yield f"{name}: {label}"
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.write_bytes(content)


@pytest.mark.parametrize("part", PARTS)
def test_no_corruption_of_a_finished_run_is_used(run, part, capsys):
    tried = 0
    for what, words in zip(drawn(run, part), itertools.cycle(COMMANDS.values()), strict=False):
        print(what)
        with pytest.raises(CheckpointError) as caught:
            run_app(app, [*words])
        assert "\n" not in str(caught.value), what
        assert {path.name for path in run.parent.iterdir()} == {"run", "other", "rows.tsv"}, what
        tried += 1
    assert part or tried >= 400
    capsys.readouterr()
    print(f"{tried} corruptions of a finished run: 0 used, 0 tracebacks")


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_of_a_run_without_a_manifest_a_corruption_is_a_line_or_a_warning(run, part, caplog):
    """None can be seen for sure then; but none is a traceback, and a warning says it each time."""
    (run / "manifest.json").unlink()
    refused = tried = 0
    for what, words in zip(drawn(run, part), itertools.cycle(COMMANDS.values()), strict=False):
        caplog.clear()
        try:
            run_app(app, [*words])
        except PlainloopError as error:
            refused += 1
            lines = error.lines()
            named = all("run.yaml: --" in line for line in lines)  # a value can break two rules
            several = "run.yaml" in what and (named or words[0] == "eject")
            assert len(lines) == 1 or several, what
        else:
            assert "no manifest.json to verify" in caplog.text, what
        tried += 1
        for name in ("out.csv", "out.json", "train.py"):
            (run.parent / name).unlink(missing_ok=True)
    assert refused
    print(f"{tried} without a manifest: {refused} refused, {tried - refused} with a warning")


@pytest.mark.parametrize("part", PARTS)
def test_no_corrupted_checkpoint_is_chosen(made, part, tmp_path, capsys):
    folder = shutil.copytree(made / "checkpoints", tmp_path / "checkpoints")
    checkpoints = Checkpoints(
        folder, tmp_path / "best", create_accelerator(TrainConfig(use_cpu=True)), {}
    )
    older, newest = folder / "step-000001", folder / "step-000002"
    assert checkpoints.newest() == newest
    tried = 0
    for what in drawn(newest, part):
        capsys.readouterr()
        assert checkpoints.newest() == older, what
        assert "damaged, so the one before is used: " in capsys.readouterr().out, what
        tried += 1
    print(f"{tried} corruptions of a checkpoint: 0 chosen")
