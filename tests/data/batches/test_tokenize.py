"""From rows to model inputs: what is cut, what is kept, what is refused."""

import pytest
from datasets import Dataset, DatasetDict

from plainloop.config.tasks import get_task
from plainloop.data.batches.tokenize import keep_model_inputs, tokenize_splits
from plainloop.data.glue import read_splits
from plainloop.errors import UserError
from plainloop.model.tokenizer import load_tokenizer

COLUMNS = get_task("demo").text_columns
SPECIAL_TOKENS_OF_A_PAIR = 3
MODEL_LIMIT = 64


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(str(tiny_model))


@pytest.fixture(scope="module")
def raw(tiny_data):
    return read_splits(get_task("demo"), tiny_data)


def lengths(tokenized):
    return [len(row) for row in tokenized["train"]["input_ids"]]


def test_a_pair_is_tokenized_as_one_input(raw, tokenizer):
    tokenized = tokenize_splits(raw, tokenizer, COLUMNS)
    row = tokenized["train"][0]
    assert tokenizer.decode(row["input_ids"]).count("[SEP]") == 2
    assert row["token_type_ids"] == sorted(row["token_type_ids"])
    assert set(row["token_type_ids"]) == {0, 1}
    assert len(set(lengths(tokenized))) > 1, "nothing is padded yet"


def test_a_single_text_column_is_tokenized_alone(raw, tokenizer):
    row = tokenize_splits(raw, tokenizer, COLUMNS[:1])["train"][0]
    assert tokenizer.decode(row["input_ids"]).count("[SEP]") == 1
    assert set(row["token_type_ids"]) == {0}


@pytest.mark.parametrize("max_length", [SPECIAL_TOKENS_OF_A_PAIR + 1, 10, 15, MODEL_LIMIT])
def test_rows_are_cut_to_max_length_and_shorter_ones_left(raw, tokenizer, max_length):
    whole = lengths(tokenize_splits(raw, tokenizer, COLUMNS))
    cut = lengths(tokenize_splits(raw, tokenizer, COLUMNS, max_length))
    assert cut == [min(length, max_length) for length in whole]


def test_without_max_length_rows_are_cut_to_the_models_limit(tokenizer):
    rows = {"text": ["the cat " * 100]}
    raw = DatasetDict(train=Dataset.from_dict(rows))
    assert lengths(tokenize_splits(raw, tokenizer, ["text"])) == [MODEL_LIMIT]


def test_more_than_the_models_limit_is_refused(raw, tokenizer):
    with pytest.raises(UserError, match=r"^--max-length: 65 tokens .*; give at most 64$"):
        tokenize_splits(raw, tokenizer, COLUMNS, MODEL_LIMIT + 1)


@pytest.mark.parametrize("max_length", range(1, SPECIAL_TOKENS_OF_A_PAIR))
def test_less_than_the_special_tokens_take_is_refused(raw, tokenizer, max_length):
    with pytest.raises(UserError, match="--max-length"):
        tokenize_splits(raw, tokenizer, COLUMNS, max_length)


def test_a_tokenizer_that_cannot_pad_is_refused(raw, tiny_model):
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.pad_token = None
    with pytest.raises(UserError, match="no padding token"):
        tokenize_splits(raw, tokenizer, COLUMNS)


def test_kept_are_exactly_the_labels_the_row_numbers_and_the_models_inputs(raw, tokenizer):
    inputs = keep_model_inputs(tokenize_splits(raw, tokenizer, COLUMNS), tokenizer)
    assert set(inputs) == {"train", "validation"}
    for split in inputs.values():
        row = split[0]
        assert set(row) == {"labels", "idx", "input_ids", "token_type_ids", "attention_mask"}
        # Lists: the tensors are made of a whole batch at once.
        assert {type(row[name]) for name in ("labels", "idx")} == {int}
        assert {type(row[name]) for name in tokenizer.model_input_names} == {list}
    assert inputs["train"]["labels"][:] == list(raw["train"]["label"])


def test_what_one_process_has_written_the_others_map(raw, tokenizer, tmp_path):
    written = tokenize_splits(raw, tokenizer, COLUMNS, cache_dir=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "train.arrow",
        "validation.arrow",
        "sha256.json",
    }
    held = tokenize_splits(raw, tokenizer, COLUMNS)
    assert written["train"].to_list() == held["train"].to_list()
    before = {path: path.stat() for path in folder.iterdir()}
    mapped = tokenize_splits(raw, tokenizer, COLUMNS, cache_dir=tmp_path)
    for path, stat in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert mapped["train"].to_list() == held["train"].to_list()
    assert mapped["train"].cache_files
    assert not held["train"].cache_files
