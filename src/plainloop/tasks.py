"""What a task is: its text columns, its labels, its metrics, and how its files are laid out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from plainloop.errors import UserError, nearest


@dataclass(frozen=True)
class Task:
    """A text classification task.

    Attributes:
        name: what `--task` calls it.
        text_columns: one column of text, or two for a pair of sentences.
        label_names: the name of label 0, label 1, ...
        metrics: names from `plainloop.metrics`; the first one is the headline.
        files: split -> path of its file below the data folder.
        file_columns: column of ours -> column in the file.
        num_rows: split -> the official number of rows, where there is one.
        hub: data set and configuration on the Hugging Face hub, where it is there.
    """

    name: str
    text_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    files: Mapping[str, str]
    file_columns: Mapping[str, str]
    num_rows: Mapping[str, int] = field(default_factory=dict)
    hub: tuple[str, str] | None = None


TASKS = {
    task.name: task
    for task in (
        Task(
            name="demo",
            text_columns=("sentence1", "sentence2"),
            label_names=("different", "paraphrase"),
            metrics=("accuracy", "f1"),
            files={"train": "train.tsv", "validation": "validation.tsv"},
            file_columns={"sentence1": "sentence1", "sentence2": "sentence2", "label": "label"},
        ),
        Task(
            name="mrpc",
            text_columns=("sentence1", "sentence2"),
            label_names=("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
            files={"train": "MRPC/train.tsv", "validation": "MRPC/dev.tsv"},
            file_columns={"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
            num_rows={"train": 3668, "validation": 408},
            hub=("nyu-mll/glue", "mrpc"),
        ),
    )
}


def get_task(name: str | None) -> Task:
    """The task of that name.

    Raises:
        UserError: no name, or a name that is not in the table.
    """
    if name is None:
        raise UserError("no task named", where="--task", fix=f"choose one of: {', '.join(TASKS)}")
    if name not in TASKS:
        raise UserError(f"unknown task '{name}'", where="--task", fix=nearest(name, TASKS))
    return TASKS[name]
