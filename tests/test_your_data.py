"""docs/your-data.md: its four commands take a csv from check to predictions, as they are written."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "your-data.md"
OPINIONS = {
    "good": ["I love it", "it works very well", "a great buy, I am happy"],
    "bad": ["it broke at once", "I want my money back", "a waste of money"],
    "neutral": ["it is blue", "it came on Tuesday", "it has two buttons"],
}
THINGS = ["This phone", "The lamp", "My new chair", "The kettle", "Their radio"]


def write(path, columns, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.mark.slow
def test_the_pages_commands_take_a_csv_with_three_classes_from_check_to_predictions(
    run_command, tmp_path
):
    rows = [
        (f"{thing}, bought in {year}: {opinion}", label)
        for label, opinions in OPINIONS.items()
        for opinion in opinions
        for thing in THINGS
        for year in range(2020, 2024)
    ]
    write(tmp_path / "reviews.csv", ("review", "opinion"), rows)
    new = [(number, text) for number, (text, _) in enumerate(rows[::7])]
    write(tmp_path / "new.csv", ("id", "review"), new)
    block = re.search(r"<!-- commands -->\n```\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    commands = [shlex.split(line) for line in block[1].splitlines()]
    assert [words[1] for words in commands] == ["check", "train", "evaluate", "predict"]
    said = [run_command("-m", *words, OMP_NUM_THREADS="2").stdout for words in commands]
    assert "bad" in said[0]
    checked = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert checked
    metrics = json.loads((tmp_path / "runs/reviews/metrics.json").read_text(encoding="utf-8"))
    assert metrics["saved"]["accuracy"] > 0.5
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        predictions = list(csv.DictReader(file))
    assert [(int(row["id"]), row["review"]) for row in predictions] == new
    assert {row["label"] for row in predictions} <= set(OPINIONS)
    shares = [sum(float(row[f"probability_{name}"]) for name in OPINIONS) for row in predictions]
    assert shares == pytest.approx([1.0] * len(predictions))
