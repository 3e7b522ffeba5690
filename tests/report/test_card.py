"""The model card: the Hub's own reader finds the metadata, the numbers are those of metrics.json."""

import pytest
from huggingface_hub import ModelCard

from plainloop.predict.loaded_run import load_run
from plainloop.report.card import is_local, render_card, write_card


@pytest.fixture
def card(run):
    result = run(num_train_epochs=1, max_length=32)
    return result, write_card(load_run(result.folder))


def test_the_hub_reads_its_metadata_and_scores(card):
    result, path = card
    data = ModelCard.load(path).data
    assert data.pipeline_tag == "text-classification"
    assert data.library_name == "transformers"
    assert data.base_model is None
    scores = {found.metric_type: found.metric_value for found in data.eval_results}
    assert scores == {name: result.metrics["saved"][name] for name in ("accuracy", "f1")}


def test_it_says_what_the_model_is_its_scores_and_how_to_use_it(card):
    result, path = card
    text = path.read_text(encoding="utf-8")
    assert "one of the labels: `different`, `paraphrase`" in text
    assert f"| accuracy | {result.metrics['saved']['accuracy']:.4f} |" in text
    assert '"text_pair"' in text
    assert "Of a text it reads 32 tokens." in text
    assert "## Limits" in text


def test_a_run_without_evaluations_says_so(run):
    result = run(max_steps=1, eval_strategy="no")
    assert "It was not evaluated." in render_card(load_run(result.folder))


@pytest.mark.parametrize(
    ("model", "local"),
    [("demo", True), ("./x", True), ("/x/y", True), ("bert-base-uncased", False), ("a/b", False)],
)
def test_only_a_name_on_the_hub_is_a_base_model(model, local):
    assert is_local(model) is local
