"""Predict with this folder, without torch: python predict.py TEXT ... (of a pair: FIRST SECOND)."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

FOLDER = Path(__file__).parent
RULE = json.loads((FOLDER / "decision_rule.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))  # truncates and pads
MODEL = onnxruntime.InferenceSession(FOLDER / "model.onnx")  # or model_int8.onnx


def predict(texts: list[str] | list[tuple[str, ...]]) -> list[object]:
    """Texts, or pairs of texts -> labels, lists of labels (multi-label) or values (regression)."""
    encodings = TOKENIZER.encode_batch(texts)
    rows = [[row, *row.overflowing] if RULE["windows"] else [row] for row in encodings]
    parts = [part for row in rows for part in row]
    keys = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    feed = {i.name: np.array([getattr(w, keys[i.name]) for w in parts]) for i in MODEL.get_inputs()}
    starts = np.cumsum([0, *map(len, rows[:-1])])  # a row's logits are the mean of its windows'
    logits = np.add.reduceat(MODEL.run(["logits"], feed)[0], starts)
    logits = logits / np.array([[len(row)] for row in rows]) / RULE["temperature"]
    labels, thresholds = RULE["labels"], RULE["thresholds"] or {}
    if RULE["problem_type"] == "regression":
        return [float(value) for value in logits[:, 0]]
    if RULE["problem_type"] == "multi_label_classification":
        above = 1 / (1 + np.exp(-logits)) > [thresholds.get(name, 0.5) for name in labels]
        return [[labels[label] for label in row.nonzero()[0]] for row in above]
    if thresholds:  # of two labels: the second one's
        above = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])) > thresholds[labels[1]]
        return [labels[int(label)] for label in above]
    return [labels[label] for label in logits.argmax(axis=1)]


if __name__ == "__main__":
    print(*predict(sys.argv[1:] if RULE["texts"] == 1 else [tuple(sys.argv[1:3])]), sep="\n")
