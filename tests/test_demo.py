"""The demo: a real model learns from the embedded data what a bag of words cannot.

CI runs it once, in a fresh environment: test_packaging.py.
"""

import json
import statistics

import pytest
from bag_of_words import best_accuracy

GAIN_IN_POINTS = 10


@pytest.mark.nightly
def test_the_demo_beats_a_bag_of_words_by_ten_points_over_three_seeds(run_command, tmp_path):
    accuracies = []
    for seed in (1, 2, 3):
        finished = run_command(
            *("-m", "plainloop", "demo", "--seed", seed, "-o", f"seed-{seed}"), OMP_NUM_THREADS="1"
        )
        assert f"Saved          seed-{seed}" in finished.stdout
        metrics = json.loads((tmp_path / f"seed-{seed}" / "metrics.json").read_text("utf-8"))
        accuracies.append(metrics["saved"]["accuracy"])
    baseline = best_accuracy()
    print(f"accuracies {accuracies}, bag of words {baseline:.4f}")
    assert 100 * (statistics.mean(accuracies) - baseline) >= GAIN_IN_POINTS
