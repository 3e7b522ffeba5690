"""Tokenized rows are kept under all that they depend on, and taken from there."""

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from plainloop.data.batches.token_cache import token_cache_key
from plainloop.data.batches.tokenize import tokenize_splits
from plainloop.errors import MachineError
from plainloop.model.tokenizer import load_tokenizer

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


@pytest.mark.slow
def test_the_key_is_the_same_in_another_process(tokenizer, tiny_model, run_command):
    script = (
        "from datasets import Dataset, DatasetDict; from plainloop.model.tokenizer import load_tokenizer; "
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
    longer, wider, from_the_left = (load_tokenizer(str(tiny_model)) for _ in range(3))
    longer.model_max_length += 1
    wider.add_tokens(["zebra"])
    from_the_left.truncation_side = "left"
    assert len({key_of(each) for each in (tokenizer, longer, wider, from_the_left)}) == 4


def test_a_cache_that_cannot_be_written_is_told_in_one_line(tokenizer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="HF_DATASETS_CACHE"):
        tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path / "file")


def flip(table, column):
    """The table with one bit of a column's first row flipped."""
    values = table[column].to_pylist()
    values[0] = [values[0][0] ^ 1, *values[0][1:]] if isinstance(values[0], list) else values[0] ^ 1
    number = table.column_names.index(column)
    return table.set_column(
        number, table.schema.field(column), pa.array(values, table[column].type)
    )


def rewrite(change):
    def changed(train, validation):
        with pa.memory_map(str(train)) as file:
            table = change(pa.ipc.open_stream(file).read_all())
        train.unlink()
        with pa.OSFile(str(train), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)

    return changed


def swap(train, validation):
    content = train.read_bytes()
    train.write_bytes(validation.read_bytes())
    validation.write_bytes(content)


DAMAGES = {
    "ids": rewrite(lambda table: flip(table, "input_ids")),
    "labels": rewrite(lambda table: flip(table, "label")),
    "half of the rows": rewrite(lambda table: table.slice(0, 1)),
    "swapped splits": swap,
    "a zeroed tail": lambda train, _: train.write_bytes(train.read_bytes()[:-500] + bytes(500)),
    "cut": lambda train, _: train.write_bytes(train.read_bytes()[:100]),
    "empty": lambda train, _: train.write_bytes(b""),
    "missing": lambda train, _: train.unlink(),
    "its hashes": lambda train, _: (train.parent / "sha256.json").write_text("{", encoding="utf-8"),
    "deep hashes": lambda train, _: (train.parent / "sha256.json").write_text("[" * 10**5, "utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_were_damaged_are_tokenized_again_with_a_warning(
    tokenizer, tmp_path, capsys, damage
):
    raw = splits()
    raw["validation"] = Dataset.from_dict(ROWS | {"text": ["the car", "the dog sees a cat"]})
    wanted = tokenize_splits(raw, tokenizer, ["text"])
    tokenize_splits(raw, tokenizer, ["text"], cache_dir=tmp_path)
    (train,), (validation,) = tmp_path.rglob("train.arrow"), tmp_path.rglob("validation.arrow")
    DAMAGES[damage](train, validation)
    capsys.readouterr()
    for warnings in (1, 0):
        again = tokenize_splits(raw, tokenizer, ["text"], cache_dir=tmp_path)
        assert {split: again[split].to_dict() for split in again} == {
            split: wanted[split].to_dict() for split in wanted
        }
        assert capsys.readouterr().out.count("Warning        tokenized again") == warnings


def test_rows_without_hashes_are_of_a_process_that_was_killed(tokenizer, tmp_path, capsys):
    wanted = tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path)["train"].to_dict()
    (train,) = tmp_path.rglob("train.arrow")
    train.write_bytes(train.read_bytes()[:100])
    (train.parent / "sha256.json").unlink()
    again = tokenize_splits(splits(), tokenizer, ["text"], cache_dir=tmp_path)["train"].to_dict()
    assert again == wanted
    assert "Warning" not in capsys.readouterr().out
