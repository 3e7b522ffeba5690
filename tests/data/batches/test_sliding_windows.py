"""Windows of long texts: which tokens they hold, and how their logits become a row's."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import Dataset
from hypothesis import given, strategies as st
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
)

from plainloop.data.batches.sliding_windows import (
    WindowCollator,
    check_stride,
    pool_windows,
    tokenize_windows,
)
from plainloop.errors import UserError

WORDS = ["cat", "dog", "sees", "likes", "car", "tree", "the", "a", "and", "not"]
LENGTH, STRIDE = 16, 4
SHORT = ["the cat sees a car", "", "the dog likes the tree and the cat", "a car"]
LONG = ["the cat sees a car and the dog not " * 9, "a tree", "the dog likes a tree " * 5]


@pytest.fixture(scope="session")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def make(tiny_model, problem_type="single_label_classification", num_labels=3, **settings):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=num_labels, problem_type=problem_type, **settings
    ).eval()


def batch_of(tokenizer, texts, labels=None, text_columns=("text",)):
    columns = texts if isinstance(texts, dict) else {"text": texts}
    windows = tokenize_windows(columns, tokenizer, text_columns, LENGTH, STRIDE)
    rows = [dict(zip(windows, row, strict=True)) for row in zip(*windows.values(), strict=True)]
    if labels is not None:
        rows = [{**row, "labels": label} for row, label in zip(rows, labels, strict=True)]
    return WindowCollator(tokenizer)(rows)


def text_of(num_words, seed=0):
    return " ".join(np.random.default_rng(seed).choice(WORDS, num_words))


def shared_with_the_next(windows, special):
    """The tokens that each window's end and the next one's beginning have in common."""
    texts = [[token for token in window if token not in special] for window in windows]
    return [before[-STRIDE:] == after[:STRIDE] for before, after in pairwise(texts)]


# Tokens.


@given(num_words=st.integers(0, 90), length=st.integers(8, 64), data=st.data())
def test_the_windows_of_a_text_are_the_librarys(tokenizer, num_words, length, data):
    stride = data.draw(st.integers(0, length - 3))
    text = text_of(num_words)
    ours = tokenize_windows({"text": [text]}, tokenizer, ("text",), length, stride)
    theirs = tokenizer(
        [text],
        truncation=True,
        max_length=length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    assert {name: rows[0] for name, rows in ours.items()} == {
        name: theirs[name] for name in tokenizer.model_input_names
    }


@given(first=st.integers(0, 90), second=st.integers(0, 20), swapped=st.booleans())
def test_the_windows_of_a_pair_with_one_long_text_are_the_librarys(
    tokenizer, first, second, swapped
):
    length, stride = 45, 7  # room for 42 tokens: a text of 20 stands whole in every window
    pair = [text_of(first), text_of(second, seed=1)]
    one, two = pair[::-1] if swapped else pair
    ours = tokenize_windows({"a": [one], "b": [two]}, tokenizer, ("a", "b"), length, stride)
    theirs = tokenizer(
        [one],
        [two],
        truncation=True,
        max_length=length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    assert {name: rows[0] for name, rows in ours.items()} == {
        name: theirs[name] for name in tokenizer.model_input_names
    }


@given(first=st.integers(0, 300), second=st.integers(0, 300), length=st.integers(9, 64))
def test_a_pair_of_any_lengths_is_covered_by_few_windows_that_fit(tokenizer, first, second, length):
    stride = min(STRIDE, (length - 3) // 2 - 1)
    # The second text has words of its own, so that its tokens are told from the first's.
    pair = [" ".join(["cat"] * first), " ".join(["dog"] * second)]
    columns = {"a": [pair[0]], "b": [pair[1]]}
    windows = tokenize_windows(columns, tokenizer, ("a", "b"), length, stride)["input_ids"][0]
    assert max(map(len, windows)) <= length
    for number, word in ((first, "cat"), (second, "dog")):
        token = tokenizer.convert_tokens_to_ids(word)
        assert sum(window.count(token) for window in windows) >= number
    step = (length - 3) // 2 - stride
    assert len(windows) <= max(first, second) // step + 1


def test_two_long_texts_of_a_pair_slide_together(tokenizer):
    columns = {
        "a": ["the cat sees a car and the dog not a tree"],
        "b": ["a dog likes the tree and the boy sees the girl"],
    }
    ids = tokenize_windows(columns, tokenizer, ("a", "b"), 13, 2)["input_ids"][0]
    assert [tokenizer.decode(window) for window in ids] == [
        "[CLS] the cat sees a car [SEP] a dog likes the tree [SEP]",
        "[CLS] a car and the dog [SEP] the tree and the boy [SEP]",
        "[CLS] the dog not a tree [SEP] the boy sees the girl [SEP]",
    ]


def test_neighbours_share_stride_tokens_and_every_token_is_in_a_window(tokenizer):
    text = text_of(60)
    windows = tokenize_windows({"text": [text]}, tokenizer, ("text",), LENGTH, STRIDE)["input_ids"][
        0
    ]
    special = set(tokenizer.all_special_ids)
    assert len(windows) == 6
    assert all(shared_with_the_next(windows, special))
    inner = [[token for token in window if token not in special] for window in windows]
    joined = inner[0] + [token for window in inner[1:] for token in window[STRIDE:]]
    assert joined == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_windows_survive_the_tables_of_datasets(tokenizer):
    rows = Dataset.from_dict({"text": LONG, "label": [0, 1, 2], "idx": [7, 8, 9]})
    mapped = rows.map(
        tokenize_windows,
        batched=True,
        fn_kwargs={
            "tokenizer": tokenizer,
            "text_columns": ("text",),
            "max_length": LENGTH,
            "stride": STRIDE,
        },
        remove_columns="text",
    )
    tensors = mapped.rename_column("label", "labels").with_format("torch")
    batch = WindowCollator(tokenizer)([tensors[row] for row in range(3)])
    assert batch.pop("idx").tolist() == [7, 8, 9]
    expected = batch_of(tokenizer, LONG, labels=[0, 1, 2])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert {value.dtype for value in batch.values()} == {torch.int64}


@pytest.mark.parametrize(
    ("max_length", "stride", "num_texts", "message"),
    [
        (
            16,
            14,
            1,
            "14 shared tokens, but a window of 16 has room for 14 of a text; give 0 to 13",
        ),
        (16, 6, 2, "has room for 6 of a text; give 0 to 5"),
        (16, -1, 1, "-1 shared tokens"),
        (4, 0, 2, "give a larger --max-length"),
    ],
)
def test_a_stride_that_leaves_no_room_is_refused(tokenizer, max_length, stride, num_texts, message):
    with pytest.raises(UserError, match=message):
        check_stride(tokenizer, num_texts, max_length, stride)


def test_a_stride_needs_a_length(tokenizer):
    assert check_stride(tokenizer, 1, None, STRIDE) == 64
    unlimited = copy.deepcopy(tokenizer)
    unlimited.model_max_length = 10**30
    with pytest.raises(UserError, match="give --max-length"):
        check_stride(unlimited, 1, None, STRIDE)


# Logits and losses.


@pytest.mark.parametrize("training", [False, True])
def test_rows_of_one_window_have_the_bits_of_a_plain_forward(tiny_model, tokenizer, training):
    labels = [0, 1, 2, 1]
    plain = DataCollatorWithPadding(tokenizer)(
        [{**tokenizer(text), "labels": label} for text, label in zip(SHORT, labels, strict=True)]
    )
    batch = batch_of(tokenizer, SHORT, labels)
    assert batch["windows"].tolist() == [1, 1, 1, 1]
    expected_model, model = make(tiny_model), pool_windows(make(tiny_model))
    with torch.set_grad_enabled(training):
        torch.manual_seed(3)
        expected = expected_model.train(training)(**plain)
        torch.manual_seed(3)
        outputs = model.train(training)(**batch)
    assert torch.equal(outputs.logits, expected.logits)
    assert torch.equal(outputs.loss, expected.loss)
    if training:
        expected.loss.backward()
        outputs.loss.backward()
        for ours, theirs in zip(model.parameters(), expected_model.parameters(), strict=True):
            assert torch.equal(ours.grad, theirs.grad)


def test_a_long_rows_logits_are_the_mean_of_its_windows(tiny_model, tokenizer):
    model = pool_windows(make(tiny_model))
    windows = tokenize_windows({"text": LONG}, tokenizer, ("text",), LENGTH, STRIDE)
    with torch.no_grad():
        pooled = model(**batch_of(tokenizer, LONG)).logits
        for row in range(len(LONG)):
            alone = [
                make(tiny_model)(**{n: torch.tensor([windows[n][row][w]]) for n in windows}).logits
                for w in range(len(windows["input_ids"][row]))
            ]
            torch.testing.assert_close(pooled[row], torch.cat(alone).mean(dim=0))
    assert len(windows["input_ids"][0]) > 1


LOSSES = {
    "single_label_classification": (functional.cross_entropy, [2, 0, 1]),
    "multi_label_classification": (
        functional.binary_cross_entropy_with_logits,
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]],
    ),
    "regression": (functional.mse_loss, [0.5, -1.0, 2.0]),
}


@pytest.mark.parametrize("problem_type", LOSSES)
def test_loss_and_gradient_are_those_of_the_mean_logits(tiny_model, tokenizer, problem_type):
    loss_of, labels = LOSSES[problem_type]
    num_labels = 1 if problem_type == "regression" else 3
    batch = batch_of(tokenizer, LONG, labels)
    model = pool_windows(make(tiny_model, problem_type, num_labels))
    outputs = model(**batch)
    outputs.loss.backward()

    reference = make(tiny_model, problem_type, num_labels)
    inputs = {name: batch[name] for name in tokenizer.model_input_names}
    logits = reference(**inputs).logits
    assert len(batch["windows"]) == 3
    assert logits.shape == (sum(batch["windows"]), num_labels)
    # A matrix with 1/n where a window is of a row, instead of splitting.
    rows = torch.arange(3).repeat_interleave(batch["windows"])
    mean = functional.one_hot(rows).T / batch["windows"][:, None]
    pooled = mean @ logits
    loss = loss_of(pooled.squeeze(1) if num_labels == 1 else pooled, batch["labels"])
    loss.backward()

    torch.testing.assert_close(outputs.logits, pooled)
    torch.testing.assert_close(outputs.loss, loss)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_without_gradients_no_more_windows_than_rows_run_at_once(tiny_model, tokenizer):
    model = pool_windows(make(tiny_model))
    sizes = []
    model.bert.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len((args or list(kwargs.values()))[0])),
        with_kwargs=True,
    )
    batch = batch_of(tokenizer, LONG)
    with torch.no_grad():
        in_pieces = model(**batch).logits
    assert len(sizes) > 1
    assert max(sizes) == 3
    assert sum(sizes) == sum(batch["windows"])
    torch.testing.assert_close(in_pieces, model(**batch).logits)


# The model stays what it was.


def test_a_batch_without_windows_goes_as_before(tiny_model, tokenizer):
    plain = tokenizer(SHORT, padding=True, return_tensors="pt")
    model = make(tiny_model)
    with torch.no_grad():
        expected = model(**plain, output_hidden_states=True)
        outputs = pool_windows(model)(**plain, output_hidden_states=True)
    assert outputs.keys() == expected.keys()
    assert torch.equal(outputs.logits, expected.logits)


def test_a_copy_runs_on_its_own_weights(tiny_model, tokenizer):
    model = pool_windows(make(tiny_model))
    twin = copy.deepcopy(model)
    torch.nn.init.zeros_(twin.classifier.weight)
    batch = batch_of(tokenizer, LONG)
    with torch.no_grad():
        assert torch.equal(twin(**batch).logits, twin.classifier.bias.expand(3, 3))
        assert not torch.equal(model(**batch).logits, twin(**batch).logits)


def test_nothing_of_it_is_saved(tiny_model, tmp_path):
    make(tiny_model).save_pretrained(tmp_path / "plain")
    pool_windows(make(tiny_model)).save_pretrained(tmp_path / "pooled")
    for file in (tmp_path / "plain").iterdir():
        assert file.read_bytes() == (tmp_path / "pooled" / file.name).read_bytes()


def test_gradient_checkpointing_changes_no_gradient(tiny_model, tokenizer):
    batch = batch_of(tokenizer, LONG, [0, 1, 2])
    gradients = []
    for checkpointing in (False, True):
        model = pool_windows(make(tiny_model)).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(1)
        model(**batch).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("architecture", ["roberta", "distilbert", "modernbert"])
def test_other_architectures_pool_as_well(architecture, tokenizer):
    small = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    if architecture == "distilbert":
        small = {"n_layers": 1, "dim": 8, "n_heads": 2}
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=40, pad_token_id=0, intermediate_size=16, num_labels=2, **small
    )
    model = AutoModelForSequenceClassification.from_config(config)
    batch = batch_of(tokenizer, LONG, [0, 1, 0])
    del batch["token_type_ids"]  # these models have no token types
    outputs = pool_windows(model)(**batch)
    assert outputs.logits.shape == (3, 2)
    expected = functional.cross_entropy(outputs.logits, batch["labels"])
    torch.testing.assert_close(outputs.loss, expected)


@pytest.fixture
def fresh_accelerate():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_accelerate_prepares_gathers_and_unwraps_it(
    tiny_model, tokenizer, mixed_precision, fresh_accelerate
):
    windows = tokenize_windows({"text": LONG}, tokenizer, ("text",), LENGTH, STRIDE)
    rows = Dataset.from_dict({**windows, "labels": [0, 1, 2]}).with_format("torch")
    loader = DataLoader(rows, batch_size=2, collate_fn=WindowCollator(tokenizer))
    accelerator = Accelerator(cpu=True, mixed_precision=mixed_precision)
    model, loader = accelerator.prepare(pool_windows(make(tiny_model)), loader)
    labels = []
    for batch in loader:
        with torch.no_grad():
            logits = model(**batch).logits
        assert logits.dtype == torch.float32
        labels += accelerator.gather_for_metrics(batch["labels"]).tolist()
        assert len(logits) == len(batch["labels"])
    assert labels == [0, 1, 2]
    unwrapped = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    batch = batch_of(tokenizer, LONG)
    with torch.no_grad():
        expected = pool_windows(make(tiny_model))(**batch).logits
        assert torch.equal(unwrapped(**batch).logits, expected)
