"""An exported folder without a training: the logits are sums of a table's rows, one a token."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from plainloop.atomic_file import write_json
from plainloop.predict.export.exported_folder import EXPORT_FILE, MODEL_FILE
from plainloop.run.atomic import MANIFEST_FILE, describe_file

WORDS = ["[PAD]", *"abcdef"]
LABELS = ["bad", "good"]


def write_folder(folder, table, *, stride=None, max_length=None, rule=None, **settings):
    """Write a folder as `export_run` does.

    Args:
        folder: a new one.
        table: float32 (7, labels), the logits of the padding token and of a to f.
        stride, max_length: of windows or of truncation.
        rule: temperature and thresholds.
        settings: of the run, beside the default ones.
    """
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    if max_length:
        tokenizer.enable_truncation(max_length, stride=stride or 0)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_model(folder / MODEL_FILE, table)
    write_json(folder / "config.json", {"id2label": dict(enumerate(LABELS))})
    rule = {"version": 1, "temperature": 1.0, "thresholds": None, **(rule or {})}
    write_json(folder / "decision_rule.json", rule)
    settings = {
        "task": None,
        "problem_type": "single_label_classification",
        "text_column": ["text"],
        "label_separator": None,
        "header": None,
        "max_length": max_length,
        "stride": stride,
        **settings,
    }
    write_json(folder / EXPORT_FILE, {"settings": settings})
    files = {path.name: describe_file(path) for path in folder.iterdir()}
    write_json(folder / MANIFEST_FILE, {"files": files})
    return folder


def write_model(path, table):
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
        for name in ("input_ids", "attention_mask")
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", table.shape[1]])
    constants = {"table": np.asarray(table, np.float32), "last": np.array([2]), "ones": [1]}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["of_tokens"]),
            helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
            helper.make_node("Mul", ["of_tokens", "column"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "ones"], ["logits"], keepdims=0),
        ],
        "sums",
        [ids, mask],
        [logits],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
