"""Damaged and hostile checkpoints are found before they are used; the older ones are kept."""

import json
import pickle
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from test_atomic import Run, leftovers, loaded
from torch import nn

from plainloop.config.settings import TrainConfig
from plainloop.errors import CheckpointError, PlainloopError, UserError
from plainloop.run.atomic import MANIFEST_FILE, find_corruption, hash_file
from plainloop.run.checkpoints import list_checkpoints
from plainloop.training.fine_tune import fine_tune

FILES = (
    "state.json",
    "model.safetensors",
    "optimizer.safetensors",
    "generators-0.safetensors",
    MANIFEST_FILE,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of steps 4 and 8, and what each of them holds."""
    folder = tmp_path_factory.mktemp("saved")
    run, contents = Run(folder), {}
    for step in (4, 8):
        run.train_to(step)
        run.save()
        contents[step] = run.expected()
    return folder, contents


def corruptions(content: bytes, other: bytes):
    """Name and new content (None: no file) of each way to damage a file."""
    draw = random.Random(len(content))
    yield "missing", None
    yield "empty", b""
    yield "of another step", other
    for cut in draw.sample(range(1, len(content)), 20):
        yield f"cut at {cut}", content[:cut]
    for bit in draw.sample(range(8 * len(content)), 20):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)
    yield "longer", content + b"\0"
    yield "a folder", "folder"
    yield "a link", "link"


@pytest.mark.parametrize("name", FILES)
def test_every_corruption_is_named_and_the_checkpoint_before_is_used(saved, tmp_path, capsys, name):
    start, contents = saved
    newest = tmp_path / "checkpoints" / "step-000008"
    file, count = newest / name, 0
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    whole = file.read_bytes()
    other = (tmp_path / "checkpoints" / "step-000004" / name).read_bytes()
    for what, content in corruptions(whole, other):
        file.unlink()
        if content == "folder":
            file.mkdir()
        elif content == "link":
            file.symlink_to(start / "checkpoints" / "step-000008" / name)
        elif content is not None:
            file.write_bytes(content)
        reason = find_corruption(newest)
        held = loaded(tmp_path)
        if reason is None:  # white space of the manifest, or a link to what is whole
            assert name == MANIFEST_FILE, what
            assert held == contents[8], what
        else:
            assert reason.startswith(f"{name}: ") or name == MANIFEST_FILE, f"{what}: {reason}"
            assert held == contents[4], what
            assert f"{newest}: {reason}" in capsys.readouterr().out, what
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(whole)
        count += 1
    assert count * len(FILES) >= 200
    assert loaded(tmp_path) == contents[8]


def test_bits_all_over_the_manifest_are_found_or_change_nothing(saved, tmp_path):
    start, contents = saved
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "step-000008"
    whole = (newest / MANIFEST_FILE).read_bytes()
    harmless = []
    for bit in range(0, 8 * len(whole), 11):  # a prime to 8, so each place in a byte
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (newest / MANIFEST_FILE).write_bytes(flipped)
        if find_corruption(newest) is None:
            harmless.append(bit)
            assert json.loads(flipped) == json.loads(whole) or loaded(tmp_path) == contents[8]
    assert len(harmless) < 0.02 * 8 * len(whole) / 11


def test_several_damaged_checkpoints_are_passed_over_and_none_is_left_is_an_error(tmp_path, capsys):
    run = Run(tmp_path, save_total_limit=3)
    for step in (4, 8, 12):
        run.train_to(step)
        run.save()
    folders = list_checkpoints(tmp_path / "checkpoints")
    for number, folder in enumerate(reversed(folders), 1):
        (folder / "model.safetensors").write_bytes(b"")
        if number < 3:
            assert loaded(tmp_path)["state"]["step"] == 12 - 4 * number
            assert capsys.readouterr().out.count("damaged, so") == number
    with pytest.raises(CheckpointError) as caught:
        loaded(tmp_path)
    assert all(str(folder) in str(caught.value) for folder in folders)
    assert "\n" not in str(caught.value)


# What the name of the folder, the manifest and the state say of each other.


def vouch(folder: Path) -> None:
    """Renew a manifest, as somebody who changes a file on purpose would."""
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    for name in manifest["files"]:
        size = (folder / name).stat().st_size
        manifest["files"][name] = {"bytes": size, "sha256": hash_file(folder / name)}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": 7}, "of step 7"),
        ({"step": -3}, "of step -3"),
        ({"step": "8"}, "of step 8"),
        ({"step": 9, "logged_step": 9}, "of step 9"),
        ({"logged_step": 9}, "counts what cannot be after step 8"),
        ({"best_step": -1}, "counts what cannot be after step 8"),
        ({"epochs_done": 9}, "counts what cannot be after step 8"),
        ({"batches_done": -1}, "counts what cannot be after step 8"),
        ({"history": [{"step": 10}]}, "counts what cannot be after step 8"),
        ({"evaluations": [{"step": 10}]}, "counts what cannot be after step 8"),
    ],
    ids=str,
)
def test_a_state_that_is_not_of_its_step_is_named_and_the_one_before_is_used(
    saved, tmp_path, capsys, change, reason
):
    start, contents = saved
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "step-000008"
    content = json.loads((newest / "state.json").read_text())
    content["state"] |= change
    (newest / "state.json").write_text(json.dumps(content))
    vouch(newest)
    assert loaded(tmp_path) == contents[4]
    assert f"{newest}: state.json: {reason}\n" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=reason):
        Run(tmp_path).checkpoints.check(newest)


@pytest.mark.parametrize("name", ["step-000012", "step-000012.old", "step-0000012"])
def test_a_checkpoint_under_another_name_is_not_used(saved, tmp_path, capsys, name):
    start, contents = saved
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    renamed = tmp_path / "checkpoints" / name
    shutil.copytree(tmp_path / "checkpoints" / "step-000004", renamed)
    assert loaded(tmp_path) == contents[8]
    assert f"{renamed}: manifest.json: of step-000004" in capsys.readouterr().out


def test_a_manifest_without_a_name_as_earlier_versions_wrote_it_is_taken_if_the_state_agrees(
    saved, tmp_path
):
    start, contents = saved
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "step-000008"
    manifest = json.loads((newest / MANIFEST_FILE).read_text())
    assert manifest.pop("folder") == "step-000008"
    (newest / MANIFEST_FILE).write_text(json.dumps(manifest))
    assert loaded(tmp_path) == contents[8]
    newest.rename(newest.with_name("step-000012"))
    assert loaded(tmp_path) == contents[4]


def test_the_best_model_of_another_step_is_not_loaded_as_this_ones(tmp_path):
    run = Run(tmp_path)
    run.checkpoints.save_best(run.model, 4)
    (tmp_path / "best" / "step-000004").rename(tmp_path / "best" / "step-000008")
    with pytest.raises(CheckpointError, match=r"manifest\.json: of step-000004"):
        run.checkpoints.load_best(nn.Linear(3, 2), 8)


# What is kept.


@pytest.mark.parametrize(
    ("limit", "kept"), [(1, [16, 20]), (2, [16, 20]), (3, [12, 16, 20]), (None, [4, 8, 12, 16, 20])]
)
def test_at_least_two_checkpoints_are_kept(tmp_path, limit, kept):
    run = Run(tmp_path, save_total_limit=limit)
    for step in (4, 8, 12, 16, 20):
        run.train_to(step)
        run.save()
    folders = list_checkpoints(tmp_path / "checkpoints")
    assert [int(folder.name[5:]) for folder in folders] == kept
    assert all(find_corruption(folder) is None for folder in folders)


def test_steps_are_ordered_as_numbers(tmp_path):
    run = Run(tmp_path)
    for step in (999_999, 1_000_000, 1_000_001):
        run.state.step = step
        run.save()
    assert loaded(tmp_path)["state"]["step"] == 1_000_001
    assert len(list_checkpoints(tmp_path / "checkpoints")) == 2


@pytest.mark.parametrize("damaged", [[8], [8, 12], [8, 12, 16]])
def test_a_save_after_a_fallback_keeps_itself_and_the_one_it_came_from(tmp_path, damaged):
    run = Run(tmp_path, save_total_limit=4)
    for step in (4, *damaged):
        run.train_to(step)
        run.save()
    for step in damaged:
        (tmp_path / "checkpoints" / f"step-{step:06d}" / "model.safetensors").write_bytes(b"")
    run = Run(tmp_path, save_total_limit=2)
    for step in (5, 6):  # before those that are damaged
        run.train_to(step)
        assert run.save().is_dir(), "what was just saved is not deleted"
        assert loaded(tmp_path)["state"]["step"] == step
        whole = [
            p for p in list_checkpoints(tmp_path / "checkpoints") if find_corruption(p) is None
        ]
        assert len(whole) == 2


def test_a_save_never_deletes_itself_where_newer_ones_are_whole(tmp_path):
    run = Run(tmp_path, save_total_limit=None)
    for step in (4, 8, 12):
        run.train_to(step)
        run.save()
    again = Run(tmp_path, save_total_limit=2)  # as with --resume-from-checkpoint step-000004
    again.train_to(5)
    assert find_corruption(again.save()) is None
    assert loaded(tmp_path)["state"]["step"] == 5, "--resume goes on from what was saved last"


def test_only_the_newest_best_model_is_kept_and_a_damaged_one_is_an_error(tmp_path):
    run = Run(tmp_path)
    for step in (4, 8):
        run.checkpoints.save_best(run.model, step)
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["step-000008"]
    run.checkpoints.load_best(nn.Linear(3, 2), 8)
    (tmp_path / "best" / "step-000008" / "model.safetensors").write_bytes(b"0")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: 1 bytes, expected"):
        run.checkpoints.load_best(nn.Linear(3, 2), 8)


# Hostile files.


class Payload:
    def __init__(self, trap: Path):
        self.trap = trap

    def __reduce__(self):
        return Path.touch, (self.trap,)


def hostile(trap: Path) -> dict[str, bytes]:
    """Pickles that create the trap when they are loaded."""
    import io

    import torch

    zipped = io.BytesIO()
    torch.save({"weight": Payload(trap)}, zipped)
    legacy = io.BytesIO()
    torch.save(Payload(trap), legacy, _use_new_zipfile_serialization=False)
    return {
        **{f"protocol {number}": pickle.dumps(Payload(trap), number) for number in (0, 2, 5)},
        "torch": zipped.getvalue(),
        "legacy torch": legacy.getvalue(),
    }


def test_the_payloads_are_live(tmp_path):
    for content in list(hostile(tmp_path / "trap").values())[:3]:
        pickle.loads(content)
        assert (tmp_path / "trap").exists()
        (tmp_path / "trap").unlink()


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_the_place_of_a_file_of_a_checkpoint_does_not_run(saved, tmp_path, name):
    start, contents = saved
    trap = tmp_path / "trap"
    for kind, content in hostile(trap).items():
        folder = tmp_path / kind
        shutil.copytree(start, folder)
        newest = folder / "checkpoints" / "step-000008"
        (newest / name).write_bytes(content)
        assert find_corruption(newest).startswith(f"{name}: "), kind
        assert loaded(folder) == contents[4], kind
        assert not trap.exists(), kind


@pytest.mark.parametrize("name", FILES[:-1])
def test_a_pickle_that_the_manifest_vouches_for_does_not_run_and_is_an_error(saved, tmp_path, name):
    """A checkpoint from somebody else, who wrote the manifest, too."""
    trap = tmp_path / "trap"
    for kind, content in hostile(trap).items():
        folder = tmp_path / kind
        shutil.copytree(saved[0], folder)
        newest = folder / "checkpoints" / "step-000008"
        (newest / name).write_bytes(content)
        manifest = json.loads((newest / MANIFEST_FILE).read_text())
        manifest["files"][name] = {"bytes": len(content), "sha256": hash_file(newest / name)}
        (newest / MANIFEST_FILE).write_text(json.dumps(manifest))
        assert find_corruption(newest) is None
        with pytest.raises(CheckpointError) as caught:
            loaded(folder)
        assert name in str(caught.value), kind
        assert not trap.exists(), kind


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_pickle_in_the_place_of_a_file_of_a_model_does_not_run(
    tiny_model, tiny_data, tmp_path, name
):
    trap = tmp_path / "trap"
    for kind, content in list(hostile(trap).items())[1:4]:
        folder = tmp_path / kind
        shutil.copytree(tiny_model, folder)
        (folder / name).write_bytes(content)
        config = TrainConfig(task="demo", data_dir=tiny_data, model=str(folder), dry_run=True)
        with pytest.raises(PlainloopError) as caught:
            fine_tune(config)
        assert "\n" not in str(caught.value)
        assert not trap.exists(), kind


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt"])
def test_a_pickle_beside_or_instead_of_the_weights_does_not_run(
    tiny_model, tiny_data, tmp_path, name
):
    trap, folder = tmp_path / "trap", tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / name).write_bytes(hostile(trap)["torch"])
    config = TrainConfig(task="demo", data_dir=tiny_data, model=str(folder), dry_run=True)
    fine_tune(config)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="weights"):
        fine_tune(config)
    assert not trap.exists()


# A real disk that is full.

FILLING = """
import sys
from pathlib import Path
from plainloop.run import checkpoints
from plainloop.__main__ import main

disk, left = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
begin = checkpoints.begin_folder

def fill_and_begin(folder):
    if folder.name == "step-000002":
        import shutil
        (disk / "filler").write_bytes(b"0" * (shutil.disk_usage(disk).free - left))
    return begin(folder)

checkpoints.begin_folder = fill_and_begin
main()
"""


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "plainloop-test", str(disk)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("a tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("left", [0])
def test_a_real_full_disk_ends_the_run_in_one_line_and_the_old_checkpoint_is_whole(
    tiny_model, tiny_data, small_disk, run_command, left
):
    run = small_disk / "run"
    finished = run_command(
        *("-c", FILLING, small_disk, left, "train", "--task", "demo", "--model", tiny_model),
        *("--data-dir", tiny_data, "--save-strategy", "steps", "--save-steps", "1"),
        *("--eval-strategy", "no", "--logging-steps", "1", "--output-dir", run),
        expect=4,
    )
    errors = [line for line in finished.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert "the disk is full" in errors[0]
    assert "Traceback" not in finished.stderr
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-000001"]
    assert find_corruption(run / "checkpoints" / "step-000001") is None
    assert leftovers(run / "checkpoints") == []
