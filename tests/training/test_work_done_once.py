"""What a command computes or reads once, however many parts of it need the result."""

from collections import Counter

import pytest
import transformers
from sklearn.feature_extraction.text import TfidfVectorizer

from plainloop.cli.app import train
from plainloop.config.settings import TrainConfig
from plainloop.data import row_hash
from plainloop.data.quality import findings

ROWS = 24


@pytest.fixture
def config(tiny_model, tmp_path):
    path = tmp_path / "x.csv"
    words = ("cat", "baker")
    lines = [f"the {words[row % 2]} sees the car {row},{words[row % 2]}" for row in range(ROWS)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return TrainConfig(
        train_file=(str(path),), model=str(tiny_model), max_steps=1, output_dir=tmp_path / "run"
    )


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of what should happen once."""
    counts = Counter()

    def count(owner, name):
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            counts[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(findings, "find_in_texts")
    count(TfidfVectorizer, "fit_transform")
    count(row_hash, "_Digest")
    count(transformers.AutoConfig, "from_pretrained")
    return counts


def test_a_run_checks_and_hashes_its_rows_once(config, calls):
    train(config)
    assert calls["find_in_texts"] == 1
    assert calls["fit_transform"] == 1
    assert calls["_Digest"] == 4, "the rows and the tokens of train and validation"
    assert calls["from_pretrained"] == 2, "of the tokenizer and of the model"


@pytest.mark.slow
def test_the_seeds_of_a_run_check_and_hash_their_rows_once(config, calls):
    train(config, seeds=(2,))
    assert calls["find_in_texts"] == 1
    assert calls["fit_transform"] == 1
    assert calls["_Digest"] == 6, "the rows once, the tokens of each of two seeds"


def test_no_baseline_is_fitted_for_a_fold(config, calls):
    train(config, cv=2)
    assert calls["fit_transform"] == 1
    assert calls["find_in_texts"] == 3, "of the run and of each fold"
