"""Plots of the report, and the values that are shown beside their points."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from plainloop.report.plots import (
    draw,
    plot_calibration,
    plot_errors,
    plot_lengths,
    plot_series,
)

LOSSES = {
    "training loss": ([1, 2, 40], [0.5, 0.25, 0.75]),
    "validation loss": ([2, 40], [0.4, 0.3]),
}


def drawn_lines(svg):
    """The lines of an SVG inside of its axes, as points (left, top), shares of the image's size."""
    size = [float(number) for number in re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups()]
    paths = re.findall(r'<path d="([^"z]+)" clip-path', svg)
    numbers = [[float(number) for number in re.findall(r"-?[\d.]+", path)] for path in paths]
    lines = [list(zip(each[::2], each[1::2], strict=True)) for each in numbers]
    return [[(x / size[0], y / size[1]) for x, y in line] for line in lines]


def test_each_value_has_the_place_at_which_its_point_is_drawn():
    svg, values = draw(plot_series, LOSSES, "loss, nats")
    drawn = drawn_lines(svg)
    for series in values["series"]:
        places = [(left, top) for left, top, _, _ in series["points"]]
        same = [line for line in drawn if len(line) == len(places)]
        assert any(
            all(math.dist(a, b) < 2e-4 for a, b in zip(line, places, strict=True)) for line in same
        )


def test_the_values_are_those_of_the_series_with_the_names_of_the_axes():
    values = draw(plot_series, LOSSES, "loss, nats").values
    assert (values["x"], values["y"]) == ("optimizer step", "loss, nats")
    found = {each["name"]: [point[2:] for point in each["points"]] for each in values["series"]}
    assert found == {
        "training loss": [["1", "0.5"], ["2", "0.25"], ["40", "0.75"]],
        "validation loss": [["2", "0.4"], ["40", "0.3"]],
    }


def test_a_single_series_has_no_name():
    (only,) = draw(plot_series, {"": ([1, 2], [3.0, 4.0])}, "gradient norm").values["series"]
    assert only["name"] == ""


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_has_no_point(value):
    values = draw(plot_series, {"": ([1, 2, 3], [3.0, value, 4.0])}, "gradient norm").values
    assert [point[2] for point in values["series"][0]["points"]] == ["1", "3"]


def test_the_line_of_equality_has_no_values():
    bins = [{"mean_probability": 0.6, "share_right": 0.5, "rows": 4}]
    values = draw(plot_calibration, bins).values
    assert {tuple(point[2:]) for each in values["series"] for point in each["points"]} == {
        ("0.6", "0.5")
    }


def test_a_bar_has_its_value_at_the_middle_of_its_top():
    parts = [
        {"from_characters": 1, "to_characters": 9, "loss": 0.5},
        {"from_characters": 9, "to_characters": 30, "loss": 0.25},
    ]
    svg, values = draw(plot_lengths, parts, "loss", "log loss, nats")
    (only,) = values["series"]
    assert [point[2:] for point in only["points"]] == [["1-9", "0.5"], ["9-30", "0.25"]]
    size = [float(number) for number in re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups()]
    paths = re.findall(r'<path d="([^"]+z)[^"]*" clip-path', svg)
    numbers = [[float(number) for number in re.findall(r"-?[\d.]+", path)] for path in paths]
    tops = [
        ((min(each[::2]) + max(each[::2])) / 2 / size[0], min(each[1::2]) / size[1])
        for each in numbers
    ]
    places = [(left, top) for left, top, _, _ in only["points"]]
    assert len(tops) == len(places)
    assert all(math.dist(a, b) < 2e-4 for a, b in zip(tops, places, strict=True))


def test_a_histogram_has_the_rows_of_each_bin_that_has_any():
    logits = np.array([[0.0], [0.0], [3.0]], dtype=np.float32)
    rows = SimpleNamespace(logits=logits, references=np.zeros(3, dtype=np.float32))
    (only,) = draw(plot_errors, rows).values["series"]
    assert [point[2:] for point in only["points"]] == [["0 to 0.1", "2"], ["2.9 to 3", "1"]]
