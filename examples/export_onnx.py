"""A finished run as ONNX: for onnxruntime, without torch, transformers or plainloop.

    python examples/export_onnx.py runs/reviews -o onnx/reviews

Writes model.onnx (any number of rows and tokens -> logits, float32), tokenizer.json (which truncates
and pads) and config.json (the labels' names). torch.onnx exports; onnxruntime then runs what was
written, and logits that differ from the model's by more than 1e-4 are an error, with nothing left.
"""

import argparse
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

import plainloop as pl
from plainloop.cli.exits import expected_errors_exit

TOLERANCE = 1e-4
WORDS_OF_TEXTS = (1, 7, 60, 600)


def export(run: pl.Run, output: Path) -> float:
    """Write the three files; return the largest difference of a logit.

    Raises:
        UserError: the run averages over windows, the folder exists, or the logits differ.
    """
    if run.config.stride is not None:
        raise pl.UserError(
            "the run averages over windows, and a graph takes one input a row",
            where=f"{run.path}: --stride",
            fix="export a run without it",
        )
    if output.exists():
        raise pl.UserError("exists", where=f"--output {output}", fix="delete it or name another")
    model, _ = pl.load_model(str(run.path), run.task)  # padded, and adapters are merged
    tokenizer = pl.load_tokenizer(str(run.path))
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(run.config.max_length or tokenizer.model_max_length)
    backend.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token,
    )
    texts = [" ".join(["word"] * count) for count in WORDS_OF_TEXTS]
    rows: Any = list(zip(texts, reversed(texts), strict=True))
    if len(run.task.text_columns) == 1:
        rows = texts
    inputs = encode(backend, rows, tokenizer.model_input_names)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as parent:
        folder = Path(parent) / "onnx"
        folder.mkdir()
        export_graph(model, inputs, folder / "model.onnx")
        backend.save(str(folder / "tokenizer.json"))
        model.config.save_pretrained(folder)
        with torch.inference_mode():
            expected = model(**as_tensors(inputs)).logits.numpy()
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        difference = float(np.abs(session.run(["logits"], inputs)[0] - expected).max())
        if not difference <= TOLERANCE:  # so written, NaN is an error, too
            raise pl.UserError(
                f"onnxruntime's logits differ by {difference:.1e}, more than {TOLERANCE:.0e}",
                where=str(run.path),
                fix="serve the run itself, as examples/serve.py does",
            )
        folder.rename(output)
    return difference


def encode(tokenizer: Tokenizer, rows: Any, names: list[str]) -> dict[str, NDArray[np.int64]]:
    """Texts or pairs -> the model's inputs, int64 (rows, tokens of the longest row)."""
    encodings = tokenizer.encode_batch(rows)
    columns = {
        "input_ids": [encoding.ids for encoding in encodings],
        "token_type_ids": [encoding.type_ids for encoding in encodings],
        "attention_mask": [encoding.attention_mask for encoding in encodings],
    }
    return {name: np.array(columns[name], np.int64) for name in columns if name in names}


def as_tensors(inputs: dict[str, NDArray[np.int64]]) -> dict[str, torch.Tensor]:
    """The same inputs for torch."""
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


def export_graph(model: Any, inputs: dict[str, NDArray[np.int64]], path: Path) -> None:
    """Export with torch.onnx's exporter; rows and tokens may be as many as one likes."""
    axes = {0: "rows", 1: "tokens"}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):  # of its own internals
        program = torch.onnx.export(
            model,
            kwargs=as_tensors(inputs),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(inputs, axes),
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # noqa: S101 - with dynamo it is returned
        program.save(path)


def main() -> None:
    """Export one run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder to be made")
    arguments = parser.parse_args()
    with expected_errors_exit():
        difference = export(pl.load_run(arguments.run), arguments.output)
    print(f"Written        {arguments.output}; logits differ by {difference:.1e} at most")


if __name__ == "__main__":
    main()
