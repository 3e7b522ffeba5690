"""Labels with decimal commas, in files of semicolons."""

import pytest

from plainloop.config.settings import TrainConfig
from plainloop.data.custom.dataset import read_custom_dataset

TARGETS = ["1,5", "-2", "1.234,25", "0,125", "1.000"]
NUMBERS = [1.5, -2.0, 1234.25, 0.125, 1000.0]


def read(tmp_path, labels, separator=";", **settings):
    path = tmp_path / "a.csv"
    rows = [f"the room was not so clean, {n}{separator}{one}\n" for n, one in enumerate(labels * 4)]
    path.write_text(f"text{separator}label\n" + "".join(rows), encoding="utf-8")
    return read_custom_dataset(
        TrainConfig(train_file=(str(path),), validation_file=(str(path),), **settings)
    )


def test_between_semicolons_they_are_numbers_and_it_is_said(tmp_path):
    found = read(tmp_path, TARGETS, problem_type="regression")
    assert found.raw["train"]["label"][:] == NUMBERS * 4
    assert found.found[1].endswith("a.csv: the commas in column 'label' are decimal commas")
    whole = read(tmp_path, ["1,0", "2,0"], problem_type="single_label_classification")
    assert whole.task.label_names == ("1", "2")


@pytest.mark.parametrize(
    ("labels", "settings", "names"),
    [
        (["1,2", "2", "1"], {"label_separator": ","}, ("1", "2")),
        (["a,b", "1,5"], {"problem_type": "single_label_classification"}, ("1,5", "a,b")),
        (["1.5", "2.5"], {"problem_type": "single_label_classification"}, ("1.5", "2.5")),
        (["1,2,3", "1,5"], {"problem_type": "single_label_classification"}, ("1,2,3", "1,5")),
    ],
)
def test_other_commas_stay(tmp_path, labels, settings, names):
    assert read(tmp_path, labels, **settings).task.label_names == names


def test_between_tabs_a_comma_is_text(tmp_path):
    single = {"problem_type": "single_label_classification"}
    assert read(tmp_path, ["1,5", "2,5"], "\t", **single).task.label_names == ("1,5", "2,5")
