"""Comparing runs: the same rows or none, McNemar by hand, and a sentence no bolder than the numbers."""

import json
import shutil

import pytest
from scipy.stats import binom

from plainloop.cli.compare import compare
from plainloop.errors import UserError
from plainloop.experiments.comparison import Comparison, Difference, compare_runs, mcnemar
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.predict.loaded_run import load_run
from plainloop.run.manifest import write_manifest


@pytest.mark.parametrize(("first", "second"), [(3, 12), (0, 5), (7, 7), (1, 0)])
def test_mcnemars_p_is_the_binomials_two_tails(first, second):
    count = first + second
    tail = 2 * binom.cdf(min(first, second), count, 0.5)
    assert mcnemar(first, second) == pytest.approx(min(1, tail))


def test_without_a_changed_row_nothing_is_significant():
    assert mcnemar(0, 0) == 1


@pytest.fixture
def finished(run):
    return run(num_train_epochs=1, learning_rate=1e-3)


def changed_copy(result, path, flipped, texts=None):
    """A run beside it whose answers to some rows are turned around."""
    shutil.copytree(result.folder, path)
    rows = RowPredictions.load(path, "validation")
    rows.logits[flipped] = rows.logits[flipped][:, ::-1]
    if texts:
        rows.texts["sentence1"][0] = texts
    rows.save(path, "validation")
    write_manifest(path)
    return load_run(path)


def test_a_run_does_not_differ_from_itself(finished):
    run = load_run(finished.folder)
    found = compare_runs([run], [run])
    assert found.rows == 21
    assert {score.difference for score in found.scores.values()} == {0}
    assert found.only_first == found.only_second == ()
    assert found.mcnemar_p == 1
    assert found.conclusion().startswith("No difference can be concluded")


def test_the_rows_that_changed_are_named_on_the_right_side(finished, tmp_path):
    first = load_run(finished.folder)
    rows = RowPredictions.load(first.path, "validation")
    right = rows.logits.argmax(1) == rows.references
    flipped = [0, 3, 4]
    found = compare_runs([first], [changed_copy(finished, tmp_path / "b", flipped)])
    assert found.only_first == tuple(row for row in flipped if right[row])
    assert found.only_second == tuple(row for row in flipped if not right[row])
    change = len(found.only_second) - len(found.only_first)
    assert found.scores["accuracy"].difference == pytest.approx(change / 21)
    assert found.scores["accuracy"].first == finished.metrics["saved"]["accuracy"]


def test_a_large_difference_is_concluded_and_a_small_one_is_not(finished, tmp_path):
    first = load_run(finished.folder)
    rows = RowPredictions.load(first.path, "validation")
    wrong = (rows.logits.argmax(1) != rows.references).nonzero()[0]
    found = compare_runs([first], [changed_copy(finished, tmp_path / "b", wrong)])
    assert found.scores["accuracy"].second == 1
    assert found.conclusion().startswith("The second run is better on rows like these")
    assert "another seed may turn it" in found.conclusion()
    found = compare_runs([changed_copy(finished, tmp_path / "c", wrong)], [first])
    assert found.conclusion().startswith("The second run is worse")


def test_of_an_error_less_is_better():
    found = Comparison(
        "test", 9, (3, 3), {"rmse": Difference(2, 1, -1, (-2, -0.5))}, None, None, None
    )
    assert found.conclusion().startswith("The second run is better")
    assert "another seed" not in found.conclusion()


def test_several_seeds_are_compared_by_their_means(finished, tmp_path):
    first = load_run(finished.folder)
    seeds = [
        first,
        changed_copy(finished, tmp_path / "b", [0]),
        changed_copy(finished, tmp_path / "c", [1]),
    ]
    found = compare_runs(seeds, seeds)
    assert found.seeds == (3, 3)
    assert found.mcnemar_p is None
    low, high = found.scores["accuracy"].interval
    assert low < 0 < high


def test_other_rows_are_refused(finished, tmp_path, run, tiny_data):
    first = load_run(finished.folder)
    with pytest.raises(UserError, match="have different validation rows"):
        compare_runs([first], [changed_copy(finished, tmp_path / "b", [], texts="another")])
    other = run(max_steps=1, test_file=(str(tiny_data / "test.tsv"),))
    assert compare_runs([first], [load_run(other.folder)]).split == "validation"
    unscored = run(max_steps=1, eval_strategy="no")
    with pytest.raises(UserError, match="no predictions of a common split"):
        compare_runs([first], [load_run(unscored.folder)])


def test_the_command_prints_a_table_and_writes_all_of_it(finished, tmp_path, capsys):
    second = changed_copy(finished, tmp_path / "b", [0, 1])
    capsys.readouterr()
    compare(finished.folder, second.path, output=tmp_path / "difference.json")
    said = capsys.readouterr().out
    assert "Rows           21 validation rows" in said
    assert "McNemar's exact test: p = " in said
    written = json.loads((tmp_path / "difference.json").read_text(encoding="utf-8"))
    assert len(written["only_first"]) + len(written["only_second"]) == 2
    assert f"{written['scores']['accuracy']['difference']:+.4f}" in said
