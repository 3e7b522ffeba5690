"""From a file that Excel saved to predictions, with no flag but the file."""

import csv

import pytest
from blocks import blocks_of
from conftest import ROOT
from samples import write_survey


@pytest.mark.slow
def test_a_file_from_excel_needs_no_flag(tmp_path, tiny_model, run_command):
    write_survey(tmp_path / "survey.csv")
    before = (tmp_path / "survey.csv").read_bytes()
    train = ["train", "--train-file", "survey.csv", "--model", tiny_model, "--epochs", "1"]
    trained = run_command("-m", "plainloop", *train)
    [shown] = [
        block.content
        for block in blocks_of(ROOT / "docs" / "your-data.md")
        if block.language == "text" and "survey.csv" in block.content
    ]
    printed = (trained.stdout + trained.stderr).splitlines()
    assert [line for line in shown.splitlines()[1:] if line not in printed] == []
    predict = ["predict", "runs/survey", "--file", "survey.csv", "--output", "predicted.csv"]
    run_command("-m", "plainloop", *predict)
    with (tmp_path / "predicted.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    with (tmp_path / "survey.csv").open(encoding="utf-8-sig", newline="") as file:
        own = [*csv.DictReader(file, delimiter=";")]
    assert [{name: row[name] for name in own[0]} for row in rows] == own
    added = rows[0].keys() - own[0].keys()
    assert added == {"label", "probability_Preis", "probability_Service", "probability_Qualität"}
    assert (tmp_path / "survey.csv").read_bytes() == before
    run_command("-m", "plainloop", "evaluate", "runs/survey", "--file", "survey.csv")
