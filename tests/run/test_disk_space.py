"""A run that the disk has no room for is refused before it starts, with sizes that can be read."""

from types import SimpleNamespace

import pytest
from torch import nn

from plainloop.config.settings import TrainConfig
from plainloop.errors import MachineError
from plainloop.run import resume
from plainloop.run.resume import check_disk_space, size

WEIGHTS = 4 * (10 * 10 + 10)  # bytes of a model in float32


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        ({"save_strategy": "no"}, 1),
        ({"save_strategy": "no", "save_total_limit": 2}, 1),
        ({"save_total_limit": 2}, 3 * 3 + 1),
        ({"save_total_limit": None}, 3 * 1 + 1),
        ({"save_total_limit": 3, "load_best_model_at_end": True}, 3 * 4 + 1 + 2),
    ],
)
def test_the_room_for_checkpoints_saved_model_and_best_models_must_be_free(
    tmp_path, monkeypatch, settings, copies
):
    config = TrainConfig(output_dir=tmp_path / "not" / "yet" / "there", **settings)
    model, needed, asked = nn.Linear(10, 10), copies * WEIGHTS, []

    def disk_usage(folder):
        asked.append(folder)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(resume.shutil, "disk_usage", disk_usage)
    free = needed
    check_disk_space(config, model)
    free = needed - 40
    with pytest.raises(MachineError) as caught:
        check_disk_space(config, model)
    assert caught.value.what == (
        f"the run needs {size(needed)}, {size(free)} are free: 40 bytes too few"
    )
    assert caught.value.where == f"--output-dir {config.output_dir}"
    assert caught.value.fix == (
        "choose another folder, or --save-strategy no to do without checkpoints"
    )
    assert asked == [tmp_path, tmp_path]


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [
        *((0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (2_340_000, "2.34 MB")),
        *((999_000, "999 kB"), (45_600_000_000, "45.6 GB"), (7.89e12, "7.89 TB")),
    ],
)
def test_a_size_has_the_unit_that_shows_it(num_bytes, shown):
    assert size(num_bytes) == shown
