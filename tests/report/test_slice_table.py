"""--slice-column: evaluate and report score the rows of each value of a column of the run's file."""

import csv
import json
import re
from html import unescape

import pytest
from conftest import OBJECTS, SUBJECTS

from plainloop.cli.app import app
from plainloop.cli.flags import run_app
from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.predict.evaluate_run import evaluate_run, evaluate_slices
from plainloop.predict.loaded_run import load_run
from plainloop.report.page import render_report, write_report
from plainloop.report.slice_table import format_slices, score_saved_slices
from plainloop.training.fine_tune import fine_tune

NUM_ROWS, HELD_OUT = 160, 80


def write_rows(path, num_rows=NUM_ROWS):
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["n", "text", "label", "Source"])
        for n in range(num_rows):
            text = f"The {SUBJECTS[n % 8]} likes the {OBJECTS[n // 8 % 8]} {'and the car ' * (n // 64)}"
            rows.writerow(
                [
                    n,
                    text,
                    ["no", "yes"][(n % 8 < 4) ^ (n % 9 == 0)],
                    ["<b>a</b>", "other", ""][n % 7 % 3],
                ]
            )
    return path


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sliced")
    fine_tune(
        TrainConfig(
            train_file=(str(write_rows(folder / "train.csv")),),
            text_column=("text",),
            label_column="label",
            model=str(tiny_model),
            output_dir=folder / "run",
            validation_fraction=HELD_OUT / NUM_ROWS,
            max_steps=40,
            learning_rate=2e-3,
        )
    )
    return folder


def test_the_report_and_an_evaluation_give_the_same_slices_of_all_validation_rows(folder):
    run = load_run(folder / "run")
    [(scores, slices)] = evaluate_slices(run, column="source").values()
    assert slices == score_saved_slices(run, "validation", "source")
    assert sum(one.rows for one in slices) == HELD_OUT
    assert {one.value for one in slices} == {"<b>a</b>", "other", ""}
    mean = sum(one.rows * one.score for one in slices) / HELD_OUT
    assert mean == pytest.approx(scores["accuracy"])
    assert {"validation": scores} == evaluate_run(run)


def test_a_row_is_in_the_slice_that_its_own_line_of_a_file_names(folder, tmp_path):
    run = load_run(folder / "run")
    path = write_rows(tmp_path / "other.csv", 60)
    [(scores, slices)] = evaluate_slices(run, [path], column="Source").values()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = [run.predict(row["text"])[0]["label"] == row["label"] for row in rows]
    assert scores["accuracy"] == pytest.approx(sum(right) / 60)
    for one in slices:
        of = [hit for hit, row in zip(right, rows, strict=True) if row["Source"] == one.value]
        assert (one.rows, one.score) == (len(of), pytest.approx(sum(of) / len(of)))


@pytest.mark.slow
def test_the_page_has_the_table_with_every_value_escaped(folder):
    run = load_run(folder / "run")
    slices = score_saved_slices(run, "validation", "Source")
    page = render_report(run, "Source")
    section = page.partition('<section id="slices">')[2].partition("</section>")[0]
    assert "<b>" not in section
    text = unescape(re.sub(r"<[^>]*>", " ", section.partition("<tbody>")[2]))
    places = [text.index(one.value or "(missing)") for one in slices]
    assert places == sorted(places)
    assert f"{slices[0].score:.4f}" in text
    first = next(one.interval for one in slices if one.interval)
    assert f"{first[0]:.4f} to {first[1]:.4f}" in text
    assert "3 slices were compared" in text
    assert '<a href="#slices">' in page
    assert "slices" not in render_report(run)


def test_the_command_prints_and_writes_the_slices(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", str(folder / "run"), "--slice-column", "Source", "-o", "scores.json"]
    run_app(app, words)
    slices = score_saved_slices(load_run(folder / "run"), "validation", "Source")
    printed = capsys.readouterr().out
    assert "\n".join(format_slices(slices, "accuracy")) in printed
    written = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    found = [(one["value"], one["score"]) for one in written["validation"]["slices"]]
    assert found == [(one.value, one.score) for one in slices]


@pytest.mark.slow
def test_a_column_that_cannot_be_used_is_one_line_before_the_model_is_loaded(
    folder, refused, tmp_path
):
    path = write_rows(tmp_path / "new.csv")
    evaluate = ["evaluate", folder / "run", path, "--slice-column"]
    assert refused(*evaluate, "lang") == [
        f"error: --slice-column lang: no such column in {path}; its columns: n, text, label, Source"
    ]
    for name in ("n", "text"):
        [line] = refused(*evaluate, name)
        assert f"--slice-column {name}: " in line
        assert " different values in 160 rows of " in line


def test_the_report_refuses_a_column_before_it_writes(folder):
    with pytest.raises(UserError, match=r"no such column in .*its columns: n, text, label, Source"):
        write_report(load_run(folder / "run"), "lang")
    assert not (folder / "run" / "report.html").exists()


def test_the_report_refuses_a_file_that_has_changed_since(folder):
    changed = (folder / "train.csv").read_text(encoding="utf-8")
    try:
        (folder / "train.csv").write_text(changed.replace("The cat", "A cat"), encoding="utf-8")
        with pytest.raises(UserError, match="have changed since the training"):
            score_saved_slices(load_run(folder / "run"), "validation", "Source")
    finally:
        (folder / "train.csv").write_text(changed, encoding="utf-8")


def test_a_task_has_no_other_columns(run):
    opened = load_run(run(max_steps=1).folder)
    with pytest.raises(UserError, match="only the texts and labels of --task demo are read"):
        evaluate_slices(opened, column="label")
