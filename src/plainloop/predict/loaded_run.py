"""load_run(): open a finished run and predict texts or files with it."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from plainloop.config.read_options import ReadOptions
from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task, get_task
from plainloop.console import print_line, progress_bar
from plainloop.data.custom.dataset import TEXT_COLUMNS
from plainloop.data.files.paths import find_files
from plainloop.data.files.tables import open_files
from plainloop.errors import UserError, nearest, printable, printable_path
from plainloop.metrics.decision_rule import (
    DECISION_FILE,
    DecisionRule,
    fits_decision,
    load_decision,
)
from plainloop.metrics.task_metric import DEFAULT_METRICS
from plainloop.model.foreign_files import check_model_files
from plainloop.model.lora import check_lora_folder
from plainloop.predict.ensemble import Ensemble, seed_folders
from plainloop.predict.hub_run import find_run
from plainloop.predict.input_files import ROWS_PER_CHUNK, OnNull, open_inputs, validate_inputs
from plainloop.predict.output_columns import label_scores, labels_of, make_columns
from plainloop.predict.output_files import (
    STANDARD_STREAM,
    PredictionFormat,
    open_output,
    prediction_format,
    write_tables,
)
from plainloop.predict.parts import Chunks, describe_inputs, find_parts
from plainloop.run.folder import CONFIG_FILE, has_saved_model, is_run, read_run_yaml
from plainloop.run.manifest import describe_files, verify_run
from plainloop.run.output_file import check_output
from plainloop.run.rank_failure import is_rank_zero

if TYPE_CHECKING:
    from plainloop.predict.classifier import Classifier
    from plainloop.predict.export.onnx_classifier import OnnxClassifier

BATCH_SIZE = 32


def load_run(path: str | Path, *, accept_changed_files: bool = False, bf16: bool = False) -> "Run":
    """Open the folder of a finished run.

    This reads the settings and labels only. The model is loaded when it is first used, so that
    errors in the files to predict are reported before.

    Args:
        path: output folder of the run; or that of several seeds, whose mean prediction is then used; or
            USER/NAME on the hub, if `--push-to-hub` uploaded it and there is no such folder. No code
            from it is executed.
        accept_changed_files: use files that differ from the run's manifest, with a warning.
        bf16: predict in bfloat16 on a CPU where that measures faster. Probabilities then differ by
            up to some hundredths.

    Raises:
        UserError: the folder is not a run, or the run is not finished; the seeds have thresholds; or as
            `find_run`.
        CheckpointError: a file of the run was changed or is damaged; for a file above 16 MiB, such
            as the weights, raised when the run is first used.
    """
    folder = find_run(path)
    where = printable_path(folder)
    if not folder.is_dir():
        parent = folder.parent
        beside = (
            [entry.name for entry in parent.iterdir() if is_run(entry)] if parent.is_dir() else []
        )
        hint = nearest(folder.name, map(printable, beside))
        raise UserError("no such folder", where=where, fix=hint or "give the folder of a run")
    if folders := seed_folders(folder):
        seeds = [
            load_run(each, accept_changed_files=accept_changed_files, bf16=bf16) for each in folders
        ]
        return average_runs(folder, seeds)
    verify = verify_run(folder, accept_changed=accept_changed_files)
    settings = read_run_yaml(folder)
    if settings is None:
        raise UserError(
            f"not a run (no {CONFIG_FILE} that plainloop wrote)",
            where=where,
            fix="give the --output-dir of plainloop train",
        )
    if not has_saved_model(folder):
        raise UserError(
            "the run is not finished: it has no model yet",
            where=where,
            fix=f"plainloop train --config {printable_path(folder / CONFIG_FILE)} --resume",
        )
    check_lora_folder(folder)
    check_model_files(folder)
    config = to_config(settings, folder / CONFIG_FILE)
    return Run(folder, config, read_task(folder, config), verify, bf16)


def average_runs(folder: Path, seeds: Sequence["Run"]) -> "Run":
    """A run that predicts the mean of several seeds: probabilities, or the values of a regression.

    Args:
        folder: of the seeds.
        seeds: their runs.

    Raises:
        UserError: the seeds have thresholds or a temperature of their own, or other labels.
    """
    first = seeds[0]
    one = f"give the folder of one seed, such as {printable_path(first.path)}"
    if any(fits_decision(each.config) for each in seeds):
        what = "each seed has its own thresholds or temperature, which have no mean"
        raise UserError(what, where=printable_path(folder), fix=one)
    if any(each.task != first.task for each in seeds):
        raise UserError("the seeds have different labels", where=printable_path(folder), fix=one)

    def refuse() -> None:
        what = "holds several seeds, which can only predict"
        raise UserError(what, where=printable_path(folder), fix=one)

    return replace(first, path=folder, verify=refuse, seeds=tuple(seeds))


def to_config(settings: Mapping[str, Any], path: Path) -> TrainConfig:
    """Convert the settings of run.yaml to a TrainConfig: the inverse of `TrainConfig.to_dict`.

    Raises:
        UserError: a setting is unknown or invalid; `path` is the file that the message names.
    """
    unknown = sorted(settings.keys() - {field.name for field in fields(TrainConfig)})
    if unknown:
        raise UserError(
            f"unknown setting '{printable(unknown[0])}'",
            where=printable_path(path),
            fix="use the version of plainloop that wrote the run, or correct the file",
        )
    try:
        return TrainConfig(**settings)
    except UserError as error:
        raise error.within(path) from None


def read_task(folder: Path, config: TrainConfig) -> Task:
    """The task of a run, by its settings and the labels in its config.json."""
    if config.task:
        return get_task(config.task)
    assert config.problem_type is not None  # noqa: S101 - the resolved settings are written
    names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
    regression = config.problem_type == "regression"
    return Task(
        name=config.data_name,
        text_columns=TEXT_COLUMNS[: len(config.text_column)],
        label_names=() if regression else tuple(names[label] for label in sorted(names, key=int)),
        metrics=DEFAULT_METRICS[config.problem_type],
        problem_type=config.problem_type,
    )


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: output folder.
        config: settings, including those that were detected from the data.
        task: text columns, labels and metrics.
        verify: see `verify_run`.
        bf16: see `load_run`.
        onnx: model file of an exported folder, which predicts; None: the run's own weights.
        seeds: runs whose mean prediction is this run's; none: its own weights.
    """

    path: Path
    config: TrainConfig
    task: Task
    verify: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    bf16: bool = False
    onnx: Path | None = None
    seeds: "tuple[Run, ...]" = ()

    @cached_property
    def classifier(self) -> "Classifier":
        """Model and tokenizer, loaded on first access."""
        from plainloop.predict.classifier import Classifier  # imports torch while files are hashed

        self.verify()
        return Classifier(self.path, self.task, self.config, bf16=self.bf16)

    @cached_property
    def predictor(self) -> "Classifier | OnnxClassifier | Ensemble":
        """What computes logits: the classifier, those of several seeds, or onnxruntime."""
        if self.seeds:
            return Ensemble([run.classifier for run in self.seeds], self.task.problem_type)
        if self.onnx is None:
            return self.classifier
        from plainloop.predict.export.onnx_classifier import OnnxClassifier

        return OnnxClassifier(self.onnx, self.task, windows=self.config.stride is not None)

    @cached_property
    def decision(self) -> DecisionRule | None:
        """Thresholds and temperature of the run; None if it has none.

        Raises:
            UserError: it is missing although the settings ask for it.
            CheckpointError: its file is damaged.
        """
        decision = load_decision(self.path, self.task)
        if decision is None and fits_decision(self.config):
            raise UserError(
                f"the run is not finished: it has no {DECISION_FILE} yet",
                where=printable_path(self.path),
                fix=f"plainloop train --config {printable_path(self.path / CONFIG_FILE)} --resume",
            )
        return decision

    def predict(
        self,
        texts: str | tuple[str, str] | Iterable[str] | Iterable[tuple[str, str]],
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[dict[str, Any]]:
        """Predict texts, or text pairs if the run was trained on pairs.

        Args:
            texts: one text or pair per row, or a single one.
            batch_size: rows per batch.

        Returns:
            One dictionary per row, in order. `label` is the name of the most probable label, or the
            predicted value for regression; a multi-label run has `labels` instead, the names of all
            labels with a probability above 0.5. The run's thresholds replace these rules if it has
            any. `scores` is label name -> probability, empty for regression.

        Raises:
            UserError: a row is not a text or a pair, as the run requires.
            DivergedError: a logit is not finite.
        """
        num_texts = len(self.task.text_columns)
        # Iteration over a frame would give the names of its columns.
        is_one = isinstance(texts, (str, Mapping)) or hasattr(texts, "columns")
        given: list[Any] = [texts] if is_one or not hasattr(texts, "__iter__") else list(texts)
        if num_texts > 1 and len(given) == num_texts and all(isinstance(t, str) for t in given):
            given = [given]  # one pair
        rows = [tuple(row) if isinstance(row, (tuple, list)) else (row,) for row in given]
        for number, row in enumerate(rows):
            if len(row) != num_texts or not all(isinstance(text, str) for text in row):
                wanted = "texts" if num_texts == 1 else "pairs of texts"
                raise UserError(
                    f"{printable_path(self.path)} predicts {wanted}, and number {number} (from 0) "
                    f"is {printable(repr(given[number]))}",
                    where="predict()",
                    fix=f"give a list of {'str' if num_texts == 1 else '(str, str)'}, or one",
                )
        if not rows:
            return []
        decision = self.decision
        logits = self.predictor.logits(list(zip(*rows, strict=True)), batch_size)
        key = "labels" if self.task.problem_type == "multi_label_classification" else "label"
        return [
            {
                key: label,
                "scores": dict(zip(self.task.label_names, map(float, probabilities), strict=False)),
            }
            for label, probabilities in zip(
                labels_of(logits, self.task, decision),
                label_scores(logits, self.task, decision),
                strict=True,
            )
        ]

    def predict_file(
        self,
        paths: Sequence[str | Path],
        output: str | Path,
        *,
        text_column: Sequence[str] = (),
        options: ReadOptions = ReadOptions(),
        on_null: OnNull = "error",
        stream_format: PredictionFormat = "csv",
        spreadsheet_safe: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """Predict every row of files, in order, with memory that does not grow with their size.

        All columns are kept. The column `label` is added (`prediction` if the file has a column
        `label`), and `probability_NAME` for each label; regression adds `prediction` only. A
        multi-label prediction is a list, or one string if the training file had a label separator.
        All rows are validated before the model is loaded.

        With more than 1000 rows the logits are kept in parts next to the output, in OUTPUT.parts, until
        it is written: the same call resumes one that was killed. On several processes, all of which
        call this, each predicts its share of the parts, and the main process writes the output.

        Args:
            paths: input files, as in `read_files`, or - for stdin.
            output: file to write, in the format of its suffix (csv, tsv, jsonl or parquet), or - for
                stdout. The file is written atomically and replaces an existing one.
            text_column: names of the text columns. Default: those of the training.
            options: how to read the files. Default: their own encoding, separator and header.
            on_null: whether rows without text are an error or count as empty texts.
            stream_format: format of stdin and stdout.
            spreadsheet_safe: see `write_tables`.
            batch_size: rows per batch.

        Returns:
            Names of the added columns.

        Raises:
            UserError: every problem of the files, or an invalid output path.
            DivergedError: a logit is not finite.
        """
        header = self.config.header if options.header is None else options.header
        options, output = replace(options, header=header), str(output)
        form = prediction_format(output, stream_format)
        stdin = [Path("/dev/stdin")] if STANDARD_STREAM in map(str, paths) else []
        if output != STANDARD_STREAM:
            check_output(Path(output), inputs=stdin or find_files(paths))
        parts = find_parts(output)
        with open_inputs(paths, stream_format) as files:
            batches = open_files(files, options, rows=ROWS_PER_CHUNK)
            for note in batches.notes if is_rank_zero() else ():
                # to stderr, because stdout may hold the predictions
                print_line(f"Found          {note}", sys.stderr)
            inputs = validate_inputs(
                batches,
                printable(files[0], most=1000),
                self.task,
                self.config,
                text_column=text_column,
                on_null=on_null,
                form=form,
            )
            # Loaded before the progress bar is shown, because loading may log warnings.
            decision, predictor = self.decision, self.predictor
            first = self.seeds[0] if self.seeds else self
            accelerator = None if self.onnx else first.classifier.accelerator
            ranks = accelerator if accelerator and accelerator.num_processes > 1 else None
            is_main = ranks is None or ranks.is_main_process
            if parts and (ranks or inputs.num_rows > ROWS_PER_CHUNK):
                flags = [inputs.text, asdict(options), on_null, batch_size, self.bf16]
                parts.open(partial(self._made_from, find_files(files), flags), ranks)
            else:
                parts = None
            bar = progress_bar(
                total=inputs.num_rows, desc="Predicting", unit="row", leave=False, visible=is_main
            )
            predict = partial(predictor.logits, batch_size=batch_size)
            chunks = Chunks(batches, inputs.text, predict, parts, bar)
            with bar:
                if ranks and parts:
                    chunks.predict_share(ranks)
                if is_main:
                    with open_output(output) as file:
                        tables = self._with_predictions(chunks, inputs.added, decision)
                        write_tables(tables, file, form, spreadsheet_safe=spreadsheet_safe)
                    if parts:
                        parts.delete()
        return inputs.added

    def _with_predictions(
        self, chunks: Chunks, added: Sequence[str], decision: DecisionRule | None
    ) -> Iterator[pa.Table]:
        """Yield each chunk with the added columns."""
        for row, batch in chunks:
            table, logits = pa.Table.from_batches([batch]), chunks.logits(row, batch)
            columns = make_columns(logits, self.task, self.config.label_separator, decision)
            for name, column in zip(added, columns, strict=True):
                table = table.append_column(name, column)
            yield table

    def _made_from(self, files: Sequence[Path], flags: Sequence[Any]) -> dict[str, Any]:
        """All that logits of files depend on, as plain values."""
        inputs = describe_inputs([*files, *([self.onnx] if self.onnx else [])])
        run = [[describe_files(one.path), one.config.to_dict()] for one in self.seeds or [self]]
        return {"run": run, "files": inputs, "flags": flags}
