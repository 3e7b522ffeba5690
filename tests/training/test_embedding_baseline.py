"""The baseline of frozen embeddings: what it computes, on how many rows, and when there is none."""

import random

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoModel, AutoTokenizer

from plainloop.cli.check import check
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.run.folder import load_metrics
from plainloop.training import embedding_baseline
from plainloop.training.embedding_baseline import score_embeddings
from plainloop.training.fine_tune import fine_tune

NAME = "frozen embeddings + logistic regression"
ONE_TEXT = Task("animals", ("text",), ("cat", "dog"), ("accuracy",))
PAIRS = Task("pairs", ("text", "other"), ("different", "same"), ("accuracy",))
VALUES = Task("values", ("text",), (), ("rmse",), "regression")


def rows_of(task, count, seed):
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words = [draw.choice(["cat", "dog"]) for _ in task.text_columns]
        texts = {
            name: f"The {word} {draw.choice(['ate', 'saw', 'ran'])} {'and ran ' * draw.randrange(3)}"
            for name, word in zip(task.text_columns, words, strict=True)
        }
        label = int(words[0] == "dog") if len(words) == 1 else int(words[0] == words[1])
        rows.append({**texts, "label": float(label) if task is VALUES else label, "idx": number})
    return Dataset.from_list(rows)


@pytest.fixture
def score(tiny_model):
    def score(task, train=60, validation=20, **settings):
        raw = DatasetDict(train=rows_of(task, train, 1), validation=rows_of(task, validation, 2))
        config = TrainConfig(model=str(tiny_model), **settings)
        return score_embeddings(raw, task, str(tiny_model), config)

    return score


@pytest.mark.parametrize("task", [ONE_TEXT, PAIRS], ids=lambda task: task.name)
def test_what_the_words_decide_is_found_from_frozen_embeddings(task, score):
    (name, scores), *others = score(task, train=400, validation=200).items()
    assert name == NAME
    assert not others
    assert scores["accuracy"] > 0.8, "of two labels as frequent as each other"


def test_values_have_ridge(score):
    scores = score(VALUES, train=200)["frozen embeddings + ridge"]
    assert scores["rmse"] < 0.3


def test_the_same_rows_give_the_same_scores_and_move_no_generator(score):
    torch.manual_seed(3)
    first = score(PAIRS)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    assert score(PAIRS) == first


def test_an_embedding_is_the_mean_of_the_texts_own_tokens(tiny_model, monkeypatch, score):
    seen = []

    def predict(features, labels, others, task):
        seen.append((features, others))
        return np.zeros(len(others))

    monkeypatch.setattr(embedding_baseline, "predict_linearly", predict)
    score(ONE_TEXT)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    encoder = AutoModel.from_pretrained(tiny_model).eval()
    with torch.no_grad():
        alone = [
            encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
            for text in rows_of(ONE_TEXT, 60, 1)["text"]
        ]
    ((features, others),) = seen
    order = np.random.default_rng(embedding_baseline.SEED).permutation(60)
    assert features == pytest.approx(np.stack(alone)[order], abs=1e-5)
    assert others.shape == (20, features.shape[1])


def test_a_large_checkpoint_embeds_fewer_rows(monkeypatch, score):
    seen = []

    def predict(features, labels, others, task):
        seen.append((len(features), len(others)))
        return np.zeros(len(others))

    monkeypatch.setattr(embedding_baseline, "predict_linearly", predict)
    score(ONE_TEXT, train=400, validation=300)
    monkeypatch.setattr(embedding_baseline, "MOST_ROWS", 100)
    score(ONE_TEXT, train=400, validation=300)
    monkeypatch.setattr(embedding_baseline, "MOST_FLOPS", 4e7)
    score(ONE_TEXT, train=400, validation=300)
    assert seen[:2] == [(400, 300), (100, 100)]
    assert all(embedding_baseline.FEWEST_ROWS <= count < 100 for count in seen[2])


@pytest.mark.parametrize(
    ("limit", "value"), [("MOST_PARAMETERS", 10), ("MOST_FLOPS", 10), ("FEWEST_ROWS", 61)]
)
def test_beyond_a_limit_there_is_none(limit, value, monkeypatch, score):
    monkeypatch.setattr(embedding_baseline, limit, value)
    assert score(ONE_TEXT) == {}


def test_a_training_and_a_check_that_asks_for_it_have_it_among_the_baselines(
    tiny_model, tmp_path, capsys
):
    for name, count in (("train", 60), ("validation", 20)):
        rows_of(ONE_TEXT, count, len(name)).remove_columns("idx").to_csv(tmp_path / f"{name}.csv")
    config = TrainConfig(
        train_file=(str(tmp_path / "train.csv"),),
        validation_file=(str(tmp_path / "validation.csv"),),
        model=str(tiny_model),
        max_steps=1,
        output_dir=tmp_path / "run",
    )
    check(config, embeddings=True)
    shown = capsys.readouterr().out
    check(config)
    assert f"baseline  {NAME}" in shown
    assert NAME not in capsys.readouterr().out
    fine_tune(config)
    baselines = load_metrics(tmp_path / "run")["data"]["baselines"]
    assert list(baselines)[-1] == NAME
    assert f"accuracy {baselines[NAME]['accuracy']:.4f}" in shown
