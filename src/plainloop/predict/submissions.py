"""GLUE submissions: predict a task's unlabelled test files."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainloop.config.tasks import TASKS, Task, get_task
from plainloop.console import progress_bar
from plainloop.data.glue import layout_of, read_glue_tsv
from plainloop.errors import UserError
from plainloop.predict.input_files import ROWS_PER_CHUNK
from plainloop.predict.loaded_run import BATCH_SIZE, Run
from plainloop.predict.output_columns import labels_of
from plainloop.run.output_file import check_output, make_output_folder, open_output

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

FLAG = "--glue-submission"
LOWEST_SCORE, HIGHEST_SCORE = 0.0, 5.0
"""Range of STS-B scores; predictions are clipped to it."""


def write_submissions(
    run: Run,
    data_dir: Path,
    output_dir: Path,
    *,
    task_name: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[Path]:
    """Predict a task's unlabelled test files and write the files that the GLUE server expects.

    Each file is tab-separated with the columns index (row number from 0) and prediction: the label
    name or id, as in the task's files, or for STS-B the score, clipped to 0 to 5, with 3 decimals.

    Args:
        run: run of the task, or of one with the same labels: a run of mnli can predict ax.
        data_dir: GLUE's folder, which holds one folder for each task.
        output_dir: folder for the files, created if needed.
        task_name: task to predict. Default: the run's.
        batch_size: rows per batch.

    Returns:
        Paths of the written files; each is written atomically.

    Raises:
        UserError: the task has no test files or other labels than the run, or a file cannot be read
            or written.
        DivergedError: a logit is not finite.
    """
    task = get_task(task_name or run.config.task)
    _check_task(run, task)
    layout = layout_of(task)
    tables: dict[str, pa.Table] = {}
    problems = []
    for split, name in layout.test_files.items():
        try:
            tables[split] = read_glue_tsv(data_dir / name, task, labelled=False)
            _warn_of_num_rows(tables[split].num_rows, task, split, data_dir / name)
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError.together(problems)
    make_output_folder(output_dir, FLAG)
    paths = [output_dir / layout.submissions[split] for split in tables]
    for path in paths:
        check_output(path, FLAG, [data_dir / name for name in layout.test_files.values()])
    for path, table in zip(paths, tables.values(), strict=True):
        with open_output(path, FLAG) as file:
            file.write(b"index\tprediction\n")
            for number, prediction in enumerate(_predict(run, task, table, batch_size, path.name)):
                file.write(f"{number}\t{prediction}\n".encode())
    return paths


def _check_task(run: Run, task: Task) -> None:
    layout = task.layout
    if layout is None or not layout.submissions:
        having = [other.name for other in TASKS.values() if layout_of(other).submissions]
        raise UserError(
            f"{task.name} has no unlabelled test files",
            where=FLAG,
            fix=f"give the run of one of: {', '.join(having)}",
        )
    same = (task.label_names, task.problem_type, len(task.text_columns))
    if same != (run.task.label_names, run.task.problem_type, len(run.task.text_columns)):
        raise UserError(
            f"the run of {run.task.name} has other labels than {task.name}",
            where=f"--task {task.name}",
            fix="give the run of a task with the same labels, as mnli has for ax",
        )


def _warn_of_num_rows(num_rows: int, task: Task, split: str, path: Path) -> None:
    official = layout_of(task).num_rows[split]
    if num_rows != official:
        logger.warning(
            "%s: %d rows, the official file has %d: the server wants them all",
            path,
            num_rows,
            official,
        )


def _predict(
    run: Run, task: Task, table: "pa.Table", batch_size: int, description: str
) -> list[str]:
    predictor = run.predictor
    predictions: list[str] = []
    with progress_bar(total=table.num_rows, desc=description, unit="row", leave=False) as bar:
        for start in range(0, table.num_rows, ROWS_PER_CHUNK):
            rows = table.slice(start, ROWS_PER_CHUNK)
            logits = predictor.logits(
                [rows[name].to_pylist() for name in task.text_columns], batch_size
            )
            predictions += _as_submitted(labels_of(logits, task, run.decision), task)
            bar.update(rows.num_rows)
    return predictions


def _as_submitted(labels: Sequence[Any], task: Task) -> list[str]:
    if task.problem_type == "regression":
        return [f"{min(max(score, LOWEST_SCORE), HIGHEST_SCORE):.3f}" for score in labels]
    if layout_of(task).labels_are_names:
        return list(labels)
    return [str(task.label_names.index(name)) for name in labels]
