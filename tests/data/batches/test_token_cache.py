"""Tokenized rows are kept under all that they depend on, and taken from there."""

import pytest
from datasets import Dataset, DatasetDict

from plainloop.data.batches.token_cache import token_cache_key
from plainloop.data.batches.tokenize import tokenize_splits
from plainloop.errors import MachineError
from plainloop.model.load import load_tokenizer

ROWS = {"text": ["the cat sees the car", "a dog"], "label": [0, 1], "idx": [0, 1]}


def splits(**columns):
    return DatasetDict(train=Dataset.from_dict(ROWS | columns))


@pytest.fixture
def tokenizer(tiny_model):
    return load_tokenizer(str(tiny_model))


def key_of(tokenizer, raw=None, text_columns=("text",), max_length=None, stride=None):
    return token_cache_key(raw or splits(), tokenizer, text_columns, max_length, stride)


def test_rows_that_were_tokenized_before_are_not_tokenized_again(tokenizer, tmp_path, monkeypatch):
    first = tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path)
    in_memory = tokenize_splits(splits(), tokenizer, ["text"])

    called = type(tokenizer).__call__

    def refuse(self, *texts, **settings):
        assert texts == ([""],), "tokenized again"
        return called(self, *texts, **settings)

    monkeypatch.setattr(type(tokenizer), "__call__", refuse)
    again = tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path)
    assert again["train"].to_dict() == first["train"].to_dict() == in_memory["train"].to_dict()
    with pytest.raises(AssertionError, match="tokenized again"):
        tokenize_splits(splits(text=["new", "rows"]), tokenizer, ["text"], cache_dir=tmp_path)


@pytest.mark.parametrize("stride", [None, 2])
def test_the_tokenizer_is_saved_alike_whether_the_cache_has_the_rows(tiny_model, tmp_path, stride):
    saved = []
    for name in ("tokenizes", "finds"):
        tokenizer = load_tokenizer(str(tiny_model))
        tokenize_splits(
            splits(), tokenizer, ["text"], 8, stride=stride, cache_dir=tmp_path / "cache"
        )
        tokenizer.save_pretrained(tmp_path / name)
        saved.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert saved[0] == saved[1]


def test_the_key_is_the_same_in_another_process(tokenizer, tiny_model, run_command):
    script = (
        "from datasets import Dataset, DatasetDict; from plainloop.model.load import load_tokenizer; "
        "from plainloop.data.batches.token_cache import token_cache_key; "
        f"raw = DatasetDict(train=Dataset.from_dict({ROWS!r})); "
        f"print(token_cache_key(raw, load_tokenizer({str(tiny_model)!r}), ('text',), None, None))"
    )
    assert run_command("-c", script, new=True).stdout.strip() == key_of(tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        {"raw": splits(text=["the cat sees the car", "a dog "])},
        {"raw": splits(text=["a dog", "the cat sees the car"])},
        {"raw": splits(label=[1, 1])},
        {"raw": splits(other=["x", "y"])},
        {"raw": DatasetDict(test=Dataset.from_dict(ROWS))},
        {"text_columns": ("text", "text")},
        {"max_length": 8},
        {"stride": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_result_changes_the_key(tokenizer, change):
    assert key_of(tokenizer, **change) != key_of(tokenizer)


def test_another_tokenizer_has_another_key(tokenizer, tiny_model):
    longer, wider = (load_tokenizer(str(tiny_model)) for _ in range(2))
    longer.model_max_length += 1
    wider.add_tokens(["zebra"])
    assert len({key_of(each) for each in (tokenizer, longer, wider)}) == 3


def test_a_cache_that_cannot_be_written_is_told_in_one_line(tokenizer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="HF_DATASETS_CACHE"):
        tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path / "file")


@pytest.mark.parametrize("bytes_left", [0, 100])
def test_a_file_that_is_not_whole_is_told_in_one_line(tokenizer, tmp_path, bytes_left):
    tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path)
    (file,) = tmp_path.rglob("train.arrow")
    file.write_bytes(file.read_bytes()[:bytes_left])
    with pytest.raises(MachineError, match="delete this folder"):
        tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path)
