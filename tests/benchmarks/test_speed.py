"""The benchmark measures real runs, all sides on the same rows, and only what it does not have yet."""

import json

import pytest
from conftest import ROOT
from speed.page import MARKERS
from speed.profiled import KINDS, REST
from speed.sides import AUTO, GROUPED, SIDES

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(run_command, tiny_model, tmp_path):
    def bench(*flags):
        return run_command(
            *("-m", "speed", "--model", tiny_model, "--threads", "1"),
            *("--results", tmp_path / "results.json", *flags),
            PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'benchmarks'}",
        ).stdout

    return bench


@pytest.fixture
def entries(tmp_path):
    def entries():
        saved = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        return saved["entries"]

    return entries


@pytest.mark.nightly
def test_all_sides_train_on_the_same_rows_and_a_second_run_measures_nothing(
    bench, entries, tmp_path
):
    page = tmp_path / "page.md"
    markers = "\n".join(f"{begin}{end}" for begin, end in MARKERS.values())
    page.write_text(f"{markers}\n", encoding="utf-8")
    row = ["--parts", "train", "--rows", "demo-8", "--steps", "3", "--repeats", "2"]
    printed = bench(*row, "--page", page)
    assert "| Trainer |" in page.read_text(encoding="utf-8")
    (row,) = entries().values()
    assert set(row["sides"]) == set(SIDES)
    hashes = {side: value for side, value in row["rows_sha256"].items() if side != GROUPED}
    assert len(set(hashes.values())) == 1
    assert row["rows_sha256"][GROUPED] not in hashes.values()
    assert all(side["samples"] == [24, 24] for side in row["sides"].values())
    assert row["sides"][AUTO]["tokens"] == row["sides"]["Trainer"]["tokens"]
    assert all(seconds > 0 for side in row["sides"].values() for seconds in side["seconds"])
    assert hashes[AUTO] in printed
    before = entries()
    assert bench("--parts", "train", "--rows", "demo-8", "--page", page) == printed
    assert entries() == before


@pytest.mark.nightly
def test_prediction_evaluation_and_tokenization_give_all_sides_the_same(bench, entries):
    bench("--parts", "prediction", "tokenization", "--passes", "1", "--repeats", "1")
    measured, tokenization = entries()["prediction"], entries()["tokenization"]
    prediction = measured["sides"]
    assert [number > 1 for number in measured["gflops"]] == [True]
    assert len({side["flops"] for side in prediction.values()}) == 1
    assert {side["samples"] for side in prediction.values()} == {430}
    ours, pipeline, trainer = (
        prediction[side]["outcome"] for side in ("Run.predict", "pipeline", "Trainer.predict")
    )
    assert ours == pytest.approx(trainer, abs=1e-5)
    assert ours == pytest.approx(pipeline, abs=1e-5)
    losses = [prediction[f"{side}.evaluate"]["outcome"] for side in ("plainloop", "Trainer")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert {side["samples"] for side in tokenization.values()} == {5 * 1730}


def test_a_profile_has_the_time_of_every_kind_of_operation(bench, entries):
    bench("--parts", "profile", "--steps", "3")
    (measured,) = entries().values()
    for side in (measured["Trainer"], measured[AUTO]):
        assert set(side["kinds"]) == {*KINDS, REST}
        assert all(seconds >= 0 for seconds in side["kinds"].values())
        for kind in ("products of linear maps", "products of attention", "AdamW", REST):
            assert side["kinds"][kind] > 0


@pytest.mark.nightly
def test_a_base_size_architecture_is_trained_padded_and_unpadded(bench, entries):
    bench("--parts", "architectures", "--architectures", "distilbert", "--repeats", "1")
    measured = entries()
    assert [entry["batch_size"] for entry in measured.values()] == [8, 32]
    for entry in measured.values():
        assert entry["parameters"] == 66_955_010  # with two labels, as transformers makes it
        assert [len(entry[side]) for side in ("padded", "auto")] == [1, 1]
        assert entry["auto"] != entry["padded"]


@pytest.mark.nightly
def test_startup_and_growth_are_of_the_real_command(bench, entries):
    bench("--parts", "startup", "growth", "--steps", "3", "--sizes", "50", "--repeats", "1")
    startup, growth = entries()["startup"], entries()["growth"]
    assert [len(startup[kind]) for kind in ("cold", "warm", "imports")] == [1, 1, 1]
    assert all(seconds > 0 for kind in startup.values() for seconds in kind)
    (seen,) = growth.values()
    assert all(value >= 0 for value in seen.values())  # 0: two lines that came at once
    assert min(seen["first step"], seen["samples_per_second"], seen["own_memory"]) > 0
    assert seen["own_memory"] < seen["peak_memory"]
