"""One run, every reader: plainloop, a pipeline, a CrossEncoder and onnxruntime predict the same."""

import csv

import numpy as np
import pytest
from tiny import run_tiny
from transformers import pipeline

from plainloop.data.glue import SAMPLES_DIR
from plainloop.predict.export.export_run import export_run
from plainloop.predict.export.exported_folder import load_exported
from plainloop.predict.loaded_run import load_run

CLEAR = 1e-5  # the two largest logits are further apart
CLOSE = 1e-4  # of a float32 logit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the embedded model and rows, and all validation rows."""
    folder = tmp_path_factory.mktemp("readers")
    run_tiny(folder / "run", model="demo", max_steps=40, logging_steps=10, save_strategy="no")
    export_run(load_run(folder / "run"), folder / "onnx", int8=False)
    with (SAMPLES_DIR / "validation.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return folder, [(row["sentence1"], row["sentence2"]) for row in rows]


def of_onnxruntime(folder, pairs):
    return load_exported(folder / "onnx").predictor.logits(list(zip(*pairs, strict=True)), 32)


def of_pipeline(folder, pairs):
    classify = pipeline("text-classification", model=str(folder / "run"), device="cpu")
    texts = [{"text": first, "text_pair": second} for first, second in pairs]
    rows = classify(texts, top_k=None, function_to_apply="none", batch_size=32)
    labels = [classify.model.config.id2label[label] for label in (0, 1)]
    scores = [{of_label["label"]: of_label["score"] for of_label in row} for row in rows]
    return np.array([[row[label] for label in labels] for row in scores])


def of_cross_encoder(folder, pairs):
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        pytest.skip("sentence-transformers is not here")
    return CrossEncoder(str(folder / "run"), device="cpu").predict(pairs)


@pytest.mark.nightly
@pytest.mark.parametrize("read", [of_onnxruntime, of_pipeline, of_cross_encoder])
def test_a_reader_predicts_what_plainloop_does(trained, read):
    folder, pairs = trained
    ours = load_run(folder / "run").classifier.logits(list(zip(*pairs, strict=True)), 32)
    theirs = read(folder, pairs)
    assert theirs.shape == ours.shape == (430, 2)
    assert len(set(ours.argmax(axis=1))) == 2
    clear = np.abs(ours[:, 0] - ours[:, 1]) > CLEAR
    differ = np.flatnonzero(clear & (ours.argmax(axis=1) != theirs.argmax(axis=1)))
    largest = np.abs(theirs - ours).max()
    print(
        f"{read.__name__}: {clear.sum()} clear rows, {len(differ)} differ, logits within {largest:.1e}"
    )
    assert clear.sum() > 400
    assert len(differ) == 0
    assert largest < CLOSE
