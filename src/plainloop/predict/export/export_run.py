"""export_run(): write a finished run as a folder that predicts without torch, with the proof."""

import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from plainloop.atomic_file import make_folder, write_json
from plainloop.errors import UserError, printable_path
from plainloop.metrics.decision_rule import DECISION_FILE, DecisionRule, threshold_labels
from plainloop.metrics.row_predictions import RowPredictions
from plainloop.predict.export.exported_folder import (
    EXPORT_FILE,
    INT8_FILE,
    MODEL_FILE,
    SETTINGS,
    check_packages,
)
from plainloop.predict.export.proof import (
    Logits,
    Proof,
    Speed,
    compare_models,
    describe_few_rows,
    find_falls,
    predict_rows,
)
from plainloop.predict.loaded_run import Run
from plainloop.run.atomic import finish_folder

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-4
"""Largest error of a float32 logit, as a share of the largest one or of 1."""
SCRIPT = "predict_script.py"


@dataclass(frozen=True)
class Export:
    """Result of `export_run`.

    Attributes:
        rows: number of validation rows.
        run: the run's own speed.
        proofs: float32, and int8 if it was asked for -> its proof.
        notes: the same -> how little few rows prove.
        accepted: the metrics by which int8 is worse.
    """

    rows: int
    run: Speed
    proofs: dict[str, Proof]
    notes: dict[str, str | None]
    accepted: list[str]


def export_run(run: Run, output: Path, *, int8: bool = True, accept: bool = False) -> Export:
    """Write model.onnx, model_int8.onnx and all that predicts with them, with the proof.

    Both models predict the run's validation rows first. The folder appears with its name when it is
    complete; if anything is refused, nothing is left.

    Args:
        run: from `load_run`.
        output: folder to create, with its parents.
        int8: write the int8 model, too.
        accept: write it even if a metric falls.

    Raises:
        UserError: a package is missing, the folder exists, the run has no validation rows, the model
            cannot be exported, its logits differ, or the int8 model is worse.
        DivergedError: a logit is not finite.
    """
    where = f"plainloop export {printable_path(run.path)}"
    if run.seeds:
        run.verify()  # raises: they can only predict
    check_packages(where, PACKAGES)
    if output.exists() or output.is_symlink():
        what, fix = "exists already", "delete it, or choose another name"
        raise UserError(what, where=f"--output {printable_path(output)}", fix=fix)
    if run.config.stride is not None and len(run.task.text_columns) > 1:
        raise UserError(
            "a pair's windows are matched by a rule that tokenizer.json cannot hold",
            where=f"{where}: --stride",
            fix="predict with the run itself, or train it without --stride",
        )
    rows = RowPredictions.load(run.path, "validation")
    # On the disk of the output, so that a rename gives it its name.
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not existing.is_dir():
        what, fix = f"{printable_path(existing)} is not a folder", "choose another name"
        raise UserError(what, where=f"--output {printable_path(output)}", fix=fix)
    with tempfile.TemporaryDirectory(prefix=".plainloop-export-", dir=existing) as parent:
        folder = Path(parent) / "export"
        folder.mkdir()
        ours, speed = predict_rows(run.classifier, rows, run.path.glob("model*.safetensors"))
        proofs = _write_models(run, folder, rows, ours, int8=int8)
        falls = find_falls(proofs["int8"]) if int8 else []
        if falls and not accept:
            changed = proofs["int8"].labels_changed
            labels = "" if changed is None else f"{changed} of {len(rows.idx):,} labels change, "
            raise UserError(
                f"int8 is worse on the validation rows: {labels}{'; '.join(falls)}",
                where=where,
                fix="--no-int8 writes float32 alone, --accept writes both",
            )
        shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / "predict.py")
        notes = {name: describe_few_rows(proof, len(rows.idx)) for name, proof in proofs.items()}
        export = Export(len(rows.idx), speed, proofs, notes, falls)
        _write_json_files(run, folder, export)
        make_folder(output.parent)
        finish_folder(folder, output, named=False)  # so that it may be renamed
    return export


def _write_models(
    run: Run, folder: Path, rows: RowPredictions, ours: Logits, *, int8: bool
) -> dict[str, Proof]:
    from plainloop.predict.export.graph import quantize, write_graph
    from plainloop.predict.export.onnx_classifier import OnnxClassifier

    def predict(path: Path) -> tuple[Logits, Proof]:
        model = OnnxClassifier(path, run.task, windows=run.config.stride is not None)
        logits, speed = predict_rows(model, rows, folder.glob(f"{path.name}*"))
        return logits, compare_models(run, rows, ours, logits, speed)

    write_graph(run, run.classifier.tokenizer, folder / MODEL_FILE)
    logits, proof = predict(folder / MODEL_FILE)
    difference = float(np.abs(logits - ours).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
        raise UserError(
            f"onnxruntime's logits differ by {difference:.1e} from the run's",
            where=printable_path(run.path),
            fix="predict with the run itself",
        )
    if not int8:
        return {"float32": proof}
    quantize(folder / MODEL_FILE, folder / INT8_FILE)
    return {"float32": proof, "int8": predict(folder / INT8_FILE)[1]}


def _write_json_files(run: Run, folder: Path, export: Export) -> None:
    """Write decision_rule.json, which turns logits into labels without plainloop, and export.json."""
    from plainloop.predict.export.graph import OPSET

    rule = (run.decision or DecisionRule()).to_dict(threshold_labels(run.task)) | {
        "problem_type": run.task.problem_type,
        "labels": run.task.label_names,
        "texts": len(run.task.text_columns),
        "windows": run.config.stride is not None,
    }
    write_json(folder / DECISION_FILE, rule)
    packages = ("plainloop", "torch", "transformers", *PACKAGES)
    settings = run.config.to_dict()
    content = {
        "proof": {"split": "validation", **asdict(export)},
        "opset": OPSET,
        "packages": {name: version(name) for name in packages},
        "settings": {name: settings[name] for name in SETTINGS},
    }
    write_json(folder / EXPORT_FILE, content)
