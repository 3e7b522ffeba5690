"""Measurements become the figures of the page, and only whole results of one machine do."""

import json
from dataclasses import replace

import pytest
from conftest import ROOT
from speed.__main__ import Options, open_results
from speed.accuracy import paired_interval
from speed.architectures import BASE
from speed.child import Child, peak_memory
from speed.figures import Target, ratio, share_of_limit, speed, speed_ratio, targets
from speed.page import MARKERS, check_page, describe_details, describe_figures, write_page
from speed.profiled import KINDS, PROFILED_SIDES, REST
from speed.results import Results, describe_machine
from speed.rows import choose_rows
from speed.sides import (
    AUTO,
    DEFAULT,
    GROUPED,
    PADDED,
    SIDES,
    SWITCHED,
    TRAINER,
    TUTORIAL,
)
from transformers import AutoConfig

from plainloop.errors import UserError

SECONDS = {
    TUTORIAL: 4.0,
    TRAINER: 2.0,
    GROUPED: 1.5,
    SWITCHED: 1.8,
    PADDED: 2.0,
    DEFAULT: 1.2,
    AUTO: 1.0,
}


ARCHITECTURE = {
    "parameters": 110_000_000,
    "batch_size": 32,
    "steps": 4,
    "padded": [6.0, 6.0],
    "auto": [4.0, 4.0],
}


@pytest.fixture
def row():
    return {
        "steps": 2,
        "repeats": 3,
        "batch_size": 8,
        "gflops": [50.0, 100.0, 50.0],
        "rows_sha256": dict.fromkeys(SIDES, "a" * 64),
        "sides": {
            side: {
                "seconds": [seconds, 2 * seconds, seconds],  # the machine was slow meanwhile
                "samples": [16, 16, 16],
                "tokens": [160, 160, 160],
                "flops": [25e9, 25e9, 25e9],
                "peak_memory": 10**9 if side != TRAINER else 8 * 10**8,
            }
            for side, seconds in SECONDS.items()
        },
    }


@pytest.fixture
def results(tmp_path):
    return Results(
        tmp_path / "results.json", {**describe_machine(1), "data": "GLUE", "model": "demo"}
    )


def test_ratios_are_of_blocks_that_followed_each_other(row):
    assert ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0
    assert speed_ratio(row, AUTO, TRAINER) == 2.0
    assert speed_ratio(row, AUTO, TUTORIAL) == 4.0


def test_group_by_length_is_measured_over_all_its_blocks_since_they_are_not_alike(row):
    row["sides"][GROUPED].update(seconds=[8.0, 2.0, 2.0], tokens=[480, 120, 120])
    assert speed(row, GROUPED) == 4.0
    assert speed(row, AUTO) == 16.0
    assert speed_ratio(row, AUTO, GROUPED) == 3.0  # 48 in 4 seconds over 48 in 12
    assert speed_ratio(row, AUTO, GROUPED, "tokens") == 2.0


def test_the_share_of_the_limit_is_flops_over_time_over_plain_products(row):
    # 25 GFLOP in 1, 2, 1 seconds beside 50, 100, 50 GFLOP/s: 0.5, 0.125, 0.5
    assert share_of_limit(row, AUTO) == 0.5


def test_targets_are_those_of_what_was_measured(row):
    assert targets({}, {}, None, None) == []
    halved = {"bert": {"padded": [2.0, 2.2], "auto": [1.0, 1.0]}, "electra": ARCHITECTURE}
    measured = targets({"mrpc-8": row}, halved, None, {"warm": [6.0]})
    found = {target.what: target for target in measured}
    assert found["times padded, the least of 2, base"].figure == 1.5
    assert found["mrpc-8: times the Trainer"].is_reached
    assert found["mrpc-8: times the tutorial's loop"].figure == 4.0
    assert found["times plainloop, torch's products, the least"].figure == (
        SECONDS[DEFAULT] / SECONDS[AUTO]
    )
    assert not found["mrpc-8: share of the limit"].is_reached
    assert found["peak memory over the Trainer's, the most"].figure == 1.25
    assert not found["peak memory over the Trainer's, the most"].is_reached
    assert not found["first step on the demo, warm, in seconds"].is_reached


def test_a_bound_itself_is_reached():
    assert Target("x", 1.6, 1.6).is_reached
    assert Target("x", 1.0, 1.0, at_most=True).is_reached
    assert not Target("x", 1.59, 1.6).is_reached


def test_the_interval_is_students():
    mean, half = paired_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302653 / 3**0.5)  # t of 2 degrees of freedom at 0.975
    with pytest.raises(ValueError, match="one difference"):
        paired_interval([1.0])


def test_results_are_there_again_on_the_same_machine_alone(results, row):
    results.add("train/mrpc-8", row)
    again = Results(results.path, results.machine)
    assert again.part("train") == {"mrpc-8": row}
    with pytest.raises(UserError, match=r"threads was 1 and is 2.*another --results"):
        Results(results.path, {**results.machine, "threads": 2})


def test_scores_alone_may_be_of_other_hardware_but_not_of_other_versions(results, row):
    results.add("train/mrpc-8", row)
    elsewhere = {**results.machine, "cpu": "Z80", "threads": 2}
    with pytest.raises(UserError, match=r"cpu was .* and is Z80"):
        Results(results.path, elsewhere)
    again = Results(results.path, elsewhere, any_hardware=True)
    assert again.machine == results.machine  # the times are still of that one
    with pytest.raises(UserError, match=r"torch was .* and is 0\.1"):
        Results(results.path, {**elsewhere, "torch": "0.1"}, any_hardware=True)


def test_times_are_not_added_to_those_of_other_hardware_and_scores_are(results, row):
    results.machine = {
        **describe_machine(1),
        "cpu": "Z80",
        "data": "the embedded data",
        "model": "demo",
    }
    results.add("train/mrpc-8", row)
    options = Options(results=results.path, threads=1)
    for parts in (("train",), ("train", "accuracy")):
        with pytest.raises(UserError, match="cpu was Z80"):
            open_results(replace(options, parts=parts))
    assert open_results(replace(options, parts=("accuracy",))).machine["cpu"] == "Z80"


def test_the_page_takes_figures_details_and_plot_between_its_markers(results, row, tmp_path):
    page = tmp_path / "page.md"
    (begin, end), (begin_details, end_details) = MARKERS.values()
    text = f"# Before\n\n{begin}old\n{end}\n\nBetween.\n\n{begin_details}old\n{end_details}\n\nAfter.\n"
    page.write_text(text, encoding="utf-8")
    results.add("train/mrpc-8", row)
    write_page(results, page)
    first, plot = page.read_text(encoding="utf-8"), page.with_suffix(".svg").read_bytes()
    assert first.startswith(f"# Before\n\n{begin}")
    assert f"{end}\n\nBetween.\n\n{begin_details}" in first
    assert first.endswith(f"{end_details}\n\nAfter.\n")
    assert "old" not in first
    assert "![Samples a second, the Trainer's as 1](page.svg)" in first
    write_page(results, page)
    assert page.read_text(encoding="utf-8") == first
    assert page.with_suffix(".svg").read_bytes() == plot


def test_the_figures_of_the_documentation_are_those_of_the_measurements_beside_it():
    measured = ROOT / "docs" / "performance.json"
    results = Results(measured, json.loads(measured.read_text(encoding="utf-8"))["machine"])
    page = measured.with_suffix(".md").read_text(encoding="utf-8")
    bodies = describe_figures(results, "performance.svg"), describe_details(results)
    for (begin, end), body in zip(MARKERS.values(), bodies, strict=True):
        assert f"{begin}\n{body}\n{end}" in page


def test_rows_are_shown_in_their_own_order(results, row):
    for name in ("stsb-8", "mrpc-8", "cola-32"):
        results.add(f"train/{name}", row)
    shown = [line for line in describe_details(results).splitlines() if " repeats of " in line]
    assert [line.partition(":")[0] for line in shown] == ["**mrpc-8**", "**cola-32**", "**stsb-8**"]
    shown = [line for line in describe_figures(results, "x.svg").splitlines() if line[:2] == "| "]
    assert [line.split(" | ")[0][2:] for line in shown][2:6] == [
        "mrpc", "cola", "stsb", "geometric mean"
    ]  # fmt: skip


def test_every_part_has_its_table(results, row):
    results.add("train/mrpc-8", row)
    kinds = {**dict.fromkeys(KINDS, 0.0), "AdamW": 0.3, REST: 0.1}
    profiled = {side: {"kinds": kinds} for side in PROFILED_SIDES}
    results.add("profile/mrpc-8", {"steps": 2, **profiled})
    results.add("architectures/xlm-roberta-32", ARCHITECTURE)
    results.add("startup", {"cold": [6.0, 7.0], "warm": [4.0, 5.0], "imports": [3.0, 4.0]})
    seconds = {"seconds": [2.0, 2.0], "samples": 100, "peak_memory": 1}
    pass_of = {**seconds, "flops": 4 * 10**9}
    outcomes: dict[str, object] = {
        **dict.fromkeys(("Run.predict", "pipeline", "Trainer.predict"), (0.5, 0.625)),
        **dict.fromkeys(("plainloop.evaluate", "Trainer.evaluate"), 0.5),
    }
    sides = {side: {**pass_of, "outcome": outcome} for side, outcome in outcomes.items()}
    results.add("prediction", {"sides": sides, "gflops": [4.0, 8.0]})
    results.add("tokenization", {"tokenize_splits": seconds, "DatasetDict.map": seconds})
    stages = ("imports, reading", "checks, tokenization", "loaders", "model", "first step")
    grown = {**dict.fromkeys(stages, 1.0), "samples_per_second": 20.0}
    results.add("growth", {"1000": {**grown, "peak_memory": 10**9, "own_memory": 10**8}})
    for seed, f1 in ((42, 0.8), (43, 0.9)):
        scores = {"loss": 0.5, "accuracy": 0.75, "f1": f1}
        entry = {"plainloop": scores, "Trainer": {**scores, "f1": 0.75}}
        results.add(f"accuracy/{seed}", {**entry, "machine": {"cpu": "Z80", "threads": 1}})
    lines = describe_figures(results, "x.svg").splitlines() + describe_details(results).splitlines()
    assert "| plainloop | 16.0 (8.0 - 16.0) | 160 | 1,000 | 0.50 | 1.00 | 1.00 | 1.00 |" in lines
    assert "| AdamW | 150.0 (75%) | 150.0 (75%) |" in lines
    assert "| xlm-roberta | 110 | 32 | 1.50 (1.50 - 1.50) | 1.00 (1.00 - 1.00) | 1.50 |" in lines
    assert "| tokenized rows in the cache | 4.5 (4.0 - 5.0) |" in lines
    assert "| a Python that only imports the libraries | 3.5 (3.0 - 4.0) |" in lines
    assert "| pipeline | 50.0 (50.0 - 50.0) | 0.38 |" in lines
    assert "The probabilities of 2 rows differ from Trainer.predict's by at most 0.0e+00." in lines
    assert "| 1,000 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 20.0 | 1,000 | 100 |" in lines
    assert "**Scores, seeds 42, 43**, trained on Z80, 1 thread(s)" in lines
    assert "| accuracy | 0.7500 | 0.7500 | +0.0000 (+0.0000 to +0.0000) |" in lines
    assert any(line.startswith("| f1 | 0.8500 | 0.7500 | +0.1000 (-0.5353 to ") for line in lines)


def test_a_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "page.md"
    with pytest.raises(UserError, match="has no lines"):
        check_page(page)
    page.write_text("# No markers\n", encoding="utf-8")
    with pytest.raises(UserError, match="has no lines"):
        check_page(page)


def test_an_unknown_row_is_refused(tmp_path):
    assert [row.name for row in choose_rows(None, ())] == ["demo-8", "demo-32"]
    assert [row.name for row in choose_rows(tmp_path, ("cola-32",))] == ["cola-32"]
    with pytest.raises(UserError, match="no row 'mrpc-9'"):
        choose_rows(tmp_path, ("mrpc-9",))


def test_a_child_that_fails_says_why(tmp_path):
    with (
        Child("no_such_module", log=tmp_path / "side.log", threads=1) as child,
        pytest.raises(RuntimeError, match=r"side failed:\n.*No module named no_such_module"),
    ):
        child.ask()


def test_peak_memory_is_of_this_process():
    before = peak_memory()
    block = bytearray(before + 64 * 2**20)
    assert peak_memory() >= len(block)


def test_the_architectures_are_of_base_size():
    for name, settings in BASE.items():
        config = AutoConfig.for_model(name, **settings)
        assert (config.hidden_size, config.num_attention_heads) == (768, 12), name
        assert config.num_hidden_layers in (6, 12, 22), name  # DistilBERT, ModernBERT
