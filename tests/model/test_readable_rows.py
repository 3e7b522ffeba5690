"""Rows that a model cannot read are named before training and in a prediction; the longest is tried."""

import pytest
from tiny_checkpoints import WORDS, save_classifier, save_decoder, save_tokenizer
from transformers import AutoTokenizer

from plainloop.config.settings import TrainConfig
from plainloop.errors import UserError
from plainloop.predict.loaded_run import load_run
from plainloop.training.fine_tune import fine_tune

GOOD = ["a b", "c d e", "b", "a c", "d", "e f", "g h a", "h", "c c", "a a a", "f", "b h"]


@pytest.fixture
def train(tmp_path):
    """Fine-tune the checkpoint in tmp_path for two steps on texts, in classes by turns."""

    def train(texts=GOOD, header="text,label", **settings):
        files = {"train": texts, "validation": texts[:4]}
        for name, rows in files.items():
            lines = [f"{text},{number % 2}" for number, text in enumerate(rows)]
            (tmp_path / f"{name}.csv").write_text("\n".join([header, *lines]), "utf-8")
        config = TrainConfig(
            train_file=(str(tmp_path / "train.csv"),),
            validation_file=(str(tmp_path / "validation.csv"),),
            model=str(tmp_path),
            max_steps=2,
            output_dir=tmp_path / "run",
            **settings,
        )
        fine_tune(config)
        return load_run(tmp_path / "run")

    return train


@pytest.fixture
def encoder_decoder(tmp_path):
    sizes = {
        "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
        "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3,
    }  # fmt: skip
    save_classifier(tmp_path, "bart", **sizes)
    save_tokenizer(tmp_path, pad_token="<pad>")


def test_a_text_without_tokens_is_named_where_the_model_adds_none(tmp_path, train):
    save_decoder(tmp_path)
    with pytest.raises(UserError, match=r"^train: line 14 without any token of this model"):
        train([*GOOD, "", "a"])
    run = train()
    with pytest.raises(UserError, match=r"^row 2: is without any token of this model"):
        run.predict(["a", ""])
    assert len(run.predict(["a", "b c"])) == 2


def test_an_empty_text_has_the_tokens_that_an_encoder_adds(tmp_path, train):
    save_classifier(tmp_path, "bert")
    save_tokenizer(tmp_path, pad_token="<pad>")
    assert len(train([*GOOD, "", "a"]).predict(["a", ""])) == 2


def test_an_end_of_text_token_in_a_text_is_named_where_the_head_reads_by_it(
    encoder_decoder, tmp_path, train
):
    with pytest.raises(UserError, match=r"^train: line 14 with </s> in the text; remove it"):
        train([*GOOD, "a </s> b", "a"], new_head=True)  # bart's default is three labels
    run = train(new_head=True)
    with pytest.raises(UserError, match=r"^row 3: is with </s> in the text"):
        run.predict(["a", "b c", "d </s>"])
    (tmp_path / "new.csv").write_text("text\n" + "a\n" * 1200 + "b </s>\n", "utf-8")
    with pytest.raises(UserError, match=r"^row 1201: "):
        run.predict_file([tmp_path / "new.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_pairs_have_an_end_of_text_token_more(encoder_decoder, tmp_path, train):
    rows = [f"{text},b c" for text in GOOD]
    run = train(rows, header="one,two,label", text_column=("one", "two"), new_head=True)
    assert len(run.predict([("a", "b"), ("c d e", "")])) == 2


def test_a_decoder_may_have_its_end_of_text_token_in_a_text(tmp_path, train):
    save_decoder(tmp_path)
    assert len(train([*GOOD, "a </s> b", "a"]).predict(["a </s> b"])) == 1


def test_a_row_that_is_too_long_for_the_model_ends_before_the_training(
    tmp_path, train, monkeypatch
):
    save_classifier(tmp_path, "bert", max_position_embeddings=8)
    save_tokenizer(tmp_path, pad_token="<pad>")

    def load_with_a_wrong_limit(pretrained):
        return AutoTokenizer.from_pretrained(pretrained)

    monkeypatch.setattr("plainloop.training.fine_tune.load_tokenizer", load_with_a_wrong_limit)
    with pytest.raises(UserError, match=r"cannot be loaded"):
        train([*GOOD, "a b c d e f g h", "a"])
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings_is_refused(tmp_path, train):
    save_classifier(tmp_path, "bert", vocab_size=11)
    save_tokenizer(tmp_path, pad_token="<pad>")
    with pytest.raises(UserError, match="gives token 11, the model has 11 embeddings"):
        train()  # the one of h, which not every batch has


def test_a_padding_token_beyond_the_embeddings_is_refused(tmp_path, train):
    save_classifier(tmp_path, "bert", vocab_size=len(WORDS))
    save_tokenizer(tmp_path, pad_token="[PAD]")  # added behind the last word
    with pytest.raises(UserError, match="gives token 12, the model has 12 embeddings"):
        train()


def test_rows_of_which_most_tokens_are_unknown_are_refused(tmp_path, train):
    save_classifier(tmp_path, "bert")
    save_tokenizer(tmp_path, pad_token="<pad>")
    with pytest.raises(UserError, match="does not know 75% of the tokens of the training rows"):
        train([f"a x{number} y z" for number in range(12)])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("windows", [{}, {"max_length": 4, "stride": 0}], ids=["whole", "windows"])
def test_a_few_rows_of_which_most_tokens_are_unknown_are_named(tmp_path, train, caplog, windows):
    save_classifier(tmp_path, "bert")
    save_tokenizer(tmp_path, pad_token="<pad>")
    train([*GOOD, "x y a z x y", "x b", "x x x"], **windows)
    [said] = [record.getMessage() for record in caplog.records if "mostly" in record.getMessage()]
    assert said == (
        "train: lines 14, 16 have mostly tokens that the tokenizer does not know (<unk>)"
    )


def test_a_decoder_whose_unknown_token_ends_a_text_knows_every_byte(tmp_path, train):
    save_decoder(tmp_path)
    save_tokenizer(tmp_path, adds_types=False, unk_token="</s>")
    train(["</s> </s> a"] * 12)
    assert (tmp_path / "run" / "model.safetensors").exists()
