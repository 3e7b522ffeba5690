"""The demo: a real model learns from the embedded data what a bag of words cannot."""

import json
import statistics

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from plainloop.data.read import SAMPLES_DIR, read_glue_tsv
from plainloop.tasks import get_task

GAIN_IN_POINTS = 10


def bag_of_words_accuracy() -> float:
    texts, labels = {}, {}
    for split in ("train", "validation"):
        rows = read_glue_tsv(SAMPLES_DIR / f"{split}.tsv", get_task("demo")).to_pydict()
        pairs = zip(rows["sentence1"], rows["sentence2"], strict=True)
        texts[split], labels[split] = [" ".join(pair) for pair in pairs], rows["label"]
    words = TfidfVectorizer().fit(texts["train"])
    model = LogisticRegression(max_iter=5000).fit(words.transform(texts["train"]), labels["train"])
    return float(model.score(words.transform(texts["validation"]), labels["validation"]))


@pytest.mark.slow
def test_the_demo_beats_a_bag_of_words_by_ten_points_over_three_seeds(run_command, tmp_path):
    accuracies = []
    for seed in (1, 2, 3):
        finished = run_command(
            *("-m", "plainloop", "demo", "--seed", seed, "-o", f"seed-{seed}"), OMP_NUM_THREADS="2"
        )
        assert f"Saved          seed-{seed}" in finished.stdout
        metrics = json.loads((tmp_path / f"seed-{seed}" / "metrics.json").read_text("utf-8"))
        accuracies.append(metrics["saved"]["accuracy"])
    baseline = bag_of_words_accuracy()
    print(f"accuracies {accuracies}, bag of words {baseline:.4f}")
    assert 100 * (statistics.mean(accuracies) - baseline) >= GAIN_IN_POINTS


def test_a_finished_run_answers_with_the_label_names_of_the_demo(run):
    from transformers import pipeline

    answer = pipeline("text-classification", model=str(run(max_steps=1).folder))(
        {"text": "the cat sees", "text_pair": "the dog sees"}
    )
    assert answer["label"] in get_task("demo").label_names
