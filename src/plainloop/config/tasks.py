"""Task definitions: text columns, label names, metrics and file layout; the table of GLUE tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from plainloop.errors import UserError, nearest

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True)
class Layout:
    """File layout of a GLUE task: UTF-8, tab-separated, with quotes as ordinary characters.

    Attributes:
        files: labelled split -> path relative to the data folder.
        columns: plainloop's column name -> column name in the file, including the label.
        header: column names of labelled files without a header line; empty if there is one.
        labels_are_names: whether the label column holds names rather than numbers.
        skips_short_rows: whether to drop rows with missing fields. The official QQP files have some,
            and the usual GLUE loaders drop them too.
        test_files: unlabelled split -> path relative to the data folder; always with a header line.
        submissions: unlabelled split -> file name that the GLUE server expects.
        num_rows: split -> official number of rows.
    """

    files: Mapping[str, str]
    columns: Mapping[str, str]
    header: tuple[str, ...] = ()
    labels_are_names: bool = False
    skips_short_rows: bool = False
    test_files: Mapping[str, str] = field(default_factory=dict)
    submissions: Mapping[str, str] = field(default_factory=dict)
    num_rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A text classification task.

    Attributes:
        name: value of `--task`; for the user's files, the name of the first training file.
        text_columns: one text column, or two for sentence pairs.
        label_names: label names by label id; empty for regression.
        metrics: names from `plainloop.metrics.formulas`; the first is the headline metric.
        problem_type: `problem_type` of the `transformers` config.
        layout: file layout of a GLUE task; None for the user's files.
        hub: data set and configuration on the Hugging Face Hub; None if it is not there.
    """

    name: str
    text_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    problem_type: ProblemType = "single_label_classification"
    layout: Layout | None = None
    hub: tuple[str, str] | None = None

    @property
    def num_labels(self) -> int:
        """Number of logits per row: one for each label, or 1 for regression."""
        return len(self.label_names) or 1


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")


def _glue(
    *,
    name: str,
    folder: str,
    text_columns: Mapping[str, str],
    label: str,
    label_names: tuple[str, ...],
    metrics: tuple[str, ...],
    num_rows: tuple[int, int, int],
    header: tuple[str, ...] = (),
    problem_type: ProblemType = "single_label_classification",
    labels_are_names: bool = False,
    skips_short_rows: bool = False,
) -> Task:
    """Create a GLUE task with train.tsv, dev.tsv and an unlabelled test.tsv in `folder`."""
    return Task(
        name=name,
        text_columns=tuple(text_columns),
        label_names=label_names,
        metrics=metrics,
        problem_type=problem_type,
        layout=Layout(
            files={"train": f"{folder}/train.tsv", "validation": f"{folder}/dev.tsv"},
            columns={**text_columns, "label": label},
            header=header,
            labels_are_names=labels_are_names,
            skips_short_rows=skips_short_rows,
            test_files={"test": f"{folder}/test.tsv"},
            submissions={"test": f"{folder}.tsv"},
            num_rows=dict(zip(("train", "validation", "test"), num_rows, strict=True)),
        ),
        hub=("nyu-mll/glue", name),
    )


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


TASKS = {
    task.name: task
    for task in (
        Task(
            name="demo",
            text_columns=_PAIR,
            label_names=("different", "paraphrase"),
            metrics=("accuracy", "f1"),
            layout=Layout(
                files={"train": "train.tsv", "validation": "validation.tsv"},
                columns=_same(*_PAIR, "label"),
            ),
        ),
        _glue(
            name="cola",
            folder="CoLA",
            text_columns=_same("sentence"),
            label="label",
            label_names=("unacceptable", "acceptable"),
            metrics=("matthews_correlation",),
            num_rows=(8551, 1043, 1063),
            header=("source", "label", "original_label", "sentence"),
        ),
        _glue(
            name="sst2",
            folder="SST-2",
            text_columns=_same("sentence"),
            label="label",
            label_names=("negative", "positive"),
            metrics=("accuracy",),
            num_rows=(67349, 872, 1821),
        ),
        _glue(
            name="mrpc",
            folder="MRPC",
            text_columns={"sentence1": "#1 String", "sentence2": "#2 String"},
            label="Quality",
            label_names=("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
            num_rows=(3668, 408, 1725),
        ),
        _glue(
            name="qqp",
            folder="QQP",
            text_columns=_same("question1", "question2"),
            label="is_duplicate",
            label_names=("not_duplicate", "duplicate"),
            metrics=("accuracy", "f1"),
            num_rows=(363846, 40430, 390965),
            skips_short_rows=True,
        ),
        _glue(
            name="stsb",
            folder="STS-B",
            text_columns=_same(*_PAIR),
            label="score",
            label_names=(),
            metrics=("pearson", "spearmanr"),
            num_rows=(5749, 1500, 1379),
            problem_type="regression",
        ),
        Task(
            name="mnli",
            text_columns=("premise", "hypothesis"),
            label_names=_NLI,
            metrics=("accuracy",),
            layout=Layout(
                files={
                    "train": "MNLI/train.tsv",
                    "validation": "MNLI/dev_matched.tsv",
                    "validation_mismatched": "MNLI/dev_mismatched.tsv",
                },
                columns={
                    "premise": "sentence1",
                    "hypothesis": "sentence2",
                    "label": "gold_label",
                },
                labels_are_names=True,
                test_files={
                    "test": "MNLI/test_matched.tsv",
                    "test_mismatched": "MNLI/test_mismatched.tsv",
                },
                submissions={"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
                num_rows={
                    "train": 392702,
                    "validation": 9815,
                    "validation_mismatched": 9832,
                    "test": 9796,
                    "test_mismatched": 9847,
                },
            ),
            hub=("nyu-mll/glue", "mnli"),
        ),
        _glue(
            name="qnli",
            folder="QNLI",
            text_columns=_same("question", "sentence"),
            label="label",
            label_names=_ENTAILMENT,
            metrics=("accuracy",),
            num_rows=(104743, 5463, 5463),
            labels_are_names=True,
        ),
        _glue(
            name="rte",
            folder="RTE",
            text_columns=_same(*_PAIR),
            label="label",
            label_names=_ENTAILMENT,
            metrics=("accuracy",),
            num_rows=(2490, 277, 3000),
            labels_are_names=True,
        ),
        _glue(
            name="wnli",
            folder="WNLI",
            text_columns=_same(*_PAIR),
            label="label",
            # In WNLI label 1 is entailment. In QNLI and RTE it is 0, as in the data set on the Hub.
            # In WNLI label 1 is entailment. In QNLI and RTE it is 0, as in the data set on the Hub.
            label_names=_ENTAILMENT[::-1],
            metrics=("accuracy",),
            num_rows=(635, 71, 146),
        ),
        Task(
            name="ax",
            text_columns=("premise", "hypothesis"),
            label_names=_NLI,
            metrics=("matthews_correlation",),
            layout=Layout(
                # GLUE's diagnostic set is predicted only: it has no labelled split.
                files={},
                columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "label"},
                labels_are_names=True,
                test_files={"test": "diagnostic/diagnostic.tsv"},
                submissions={"test": "AX.tsv"},
                num_rows={"test": 1104},
            ),
            hub=("nyu-mll/glue", "ax"),
        ),
    )
}


def get_task(name: str | None) -> Task:
    """Look up a task by name.

    Raises:
        UserError: the name is None or unknown.
    """
    if name is None:
        raise UserError("no task named", where="--task", fix=f"choose one of: {', '.join(TASKS)}")
    if name not in TASKS:
        raise UserError(f"unknown task '{name}'", where="--task", fix=nearest(name, TASKS))
    return TASKS[name]
