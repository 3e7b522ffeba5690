"""What a resumed run is compared by: the tokens and labels that the loaders give, not their files."""

import pytest
import torch
from datasets import Dataset, DatasetDict

from plainloop.config.settings import TrainConfig
from plainloop.data.batches.tokenize import keep_model_inputs, tokenize_splits
from plainloop.errors import CheckpointError
from plainloop.model.tokenizer import load_tokenizer
from plainloop.run.fingerprint import check_fingerprint, run_fingerprint


@pytest.fixture
def fingerprint(tiny_model, tmp_path):
    tokenizer = load_tokenizer(str(tiny_model))

    def fingerprint(text="the cat sees the car", label=0, seed=1, precision="no"):
        rows = Dataset.from_dict({"text": [text, "a dog"], "label": [label, 1], "idx": [0, 1]})
        tokenized = tokenize_splits(DatasetDict(train=rows, validation=rows), tokenizer, ["text"])
        config = TrainConfig(task="demo", seed=seed)
        inputs = keep_model_inputs(tokenized, tokenizer)
        return run_fingerprint(
            config, inputs, torch.device("cpu"), 1, "default", mixed_precision=precision
        )

    return fingerprint


def test_other_texts_with_the_same_tokens_are_the_same_run(fingerprint, tmp_path):
    same = fingerprint("The  CAT sees the car")
    assert check_fingerprint(fingerprint(), same, tmp_path, force=False) == []


@pytest.mark.parametrize("change", [{"text": "the cat sees a car"}, {"label": 1}])
def test_other_tokens_or_labels_are_another_run(fingerprint, tmp_path, change):
    with pytest.raises(CheckpointError, match=r"train was .*; validation was "):
        check_fingerprint(fingerprint(), fingerprint(**change), tmp_path, force=False)


def test_another_precision_of_the_launcher_is_another_run(fingerprint, tmp_path):
    with pytest.raises(CheckpointError, match="mixed_precision was 'no', is 'bf16'"):
        check_fingerprint(fingerprint(), fingerprint(precision="bf16"), tmp_path, force=False)


def test_a_checkpoint_from_before_a_setting_had_its_default(fingerprint, tmp_path):
    old = fingerprint()
    del old["settings"]["optim"], old["machine"]["mixed_precision"]
    assert check_fingerprint(old, fingerprint(), tmp_path, force=False) == []


def test_a_checkpoint_of_version_0_1_0_names_that_version(fingerprint, tmp_path):
    old = fingerprint()
    old["rows"] = dict.fromkeys(old.pop("inputs"), "a hash of texts")
    with pytest.raises(CheckpointError, match=r"it was saved by plainloop 0\.1\.0") as caught:
        check_fingerprint(old, fingerprint(seed=2), tmp_path, force=False)
    assert "seed was 1, is 2" in str(caught.value)
    assert "None" not in str(caught.value)
    [line] = check_fingerprint(old, fingerprint(), tmp_path, force=True)
    assert line.startswith("it was saved by plainloop 0.1.0")


@pytest.mark.parametrize(
    "saved",
    [
        ["../models/tiny", "/a/models/tiny"],
        ["../models/tiny", "/before/models/tiny"],  # the run was moved with its model
        ["../../models/tiny", "/a/models/tiny"],  # the run alone was moved
        "/a/models/tiny",  # of plainloop 0.1.0
    ],
)
def test_a_model_is_the_same_by_its_place_from_the_run_or_from_the_root(
    fingerprint, tmp_path, saved
):
    now, old = fingerprint(), fingerprint()
    now["settings"]["model"], old["settings"]["model"] = ["../models/tiny", "/a/models/tiny"], saved
    assert check_fingerprint(old, now, tmp_path, force=False) == []


def test_another_model_is_refused(fingerprint, tmp_path):
    now, old = fingerprint(), fingerprint()
    now["settings"]["model"], old["settings"]["model"] = ["../b", "/a/b"], ["../c", "/a/c"]
    with pytest.raises(CheckpointError, match="model was"):
        check_fingerprint(old, now, tmp_path, force=False)
