"""Write a run's model as an ONNX graph, and its int8 version."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainloop.errors import PlainloopError, UserError, is_out_of_memory, printable, printable_path
from plainloop.model.load import load_model
from plainloop.predict.export.onnx_classifier import TOKENIZER_FILE
from plainloop.predict.loaded_run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPSET = 20
"""The first with Gelu as one operator; onnxruntime reads it since 1.17."""


def write_graph(run: Run, tokenizer: "PreTrainedTokenizerBase", path: Path) -> None:
    """Write model.onnx, tokenizer.json and config.json into a folder.

    The graph takes input_ids, attention_mask, ... (int64, rows x tokens, any number of each) and
    gives logits (float32, rows x num_labels). LoRA adapters are merged.

    Args:
        run: its weights, as they were saved.
        tokenizer: from `load_tokenizer`; its truncation and padding are set.
        path: of the graph, in an existing folder.

    Raises:
        UserError: torch.onnx cannot export the model, or its tokenizer is not of the tokenizers
            library.
    """
    model, _ = load_model(str(run.path), run.task)
    model.config.use_cache = False  # a decoder would also return keys and values
    inputs = _write_tokenizer(run, tokenizer, path.with_name(TOKENIZER_FILE))
    import torch

    tensors = {name: torch.tensor(inputs[name]) for name in tokenizer.model_input_names}
    shape = {0: "rows", 1: "tokens"}
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                kwargs=tensors,
                input_names=list(tensors),
                output_names=["logits"],
                opset_version=OPSET,
                dynamic_shapes=dict.fromkeys(tensors, shape),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever the exporter raises about this model
        if is_out_of_memory(error) or isinstance(error, (OSError, PlainloopError)):
            raise
        cause = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"torch.onnx cannot export {type(model).__name__}: {printable(cause, most=200)}",
            where=printable_path(run.path),
            fix="predict with the run itself",
        ) from error
    assert program is not None  # noqa: S101 - with dynamo it is returned
    program.save(path)
    model.config.save_pretrained(path.parent)


def _write_tokenizer(run: Run, tokenizer: "PreTrainedTokenizerBase", path: Path) -> Any:
    """Write tokenizer.json, which truncates and pads; return the inputs of two rows of a pattern."""
    config, num_texts = run.config, len(run.task.text_columns)
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"{type(tokenizer).__name__} has no tokenizer.json: it is not of the tokenizers library",
            where=printable_path(run.path),
            fix="predict with the run itself",
        )
    length = config.max_length or tokenizer.model_max_length
    backend.no_truncation()
    if length < 10**9:  # what transformers writes if there is no limit
        backend.enable_truncation(
            length, stride=config.stride or 0, direction=tokenizer.truncation_side
        )
    backend.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token,
    )
    backend.save(str(path))
    # Two rows of unequal length, so that the exporter fixes neither size.
    rows = [("a " * words,) * num_texts for words in (7, 2)]
    return tokenizer(*map(list, zip(*rows, strict=True)), padding=True, truncation=True)


def quantize(path: Path, output: Path) -> None:
    """Write a graph with int8 weights, whose activations are quantized as they are computed.

    Args:
        path: from `write_graph`.
        output: int8 model file, in the same folder.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            path,
            output,
            per_channel=True,
            # 7 bits of a weight: with 8, sums saturate on a CPU without VNNI, and the proof would
            # hold for CPUs like this one only.
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop the warnings of exporter and quantizer, which are about their own internals."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
