"""The table of tasks, and looking a task up in it."""

import pytest

from plainloop.config.tasks import TASKS, get_task
from plainloop.errors import UserError
from plainloop.metrics.formulas import LABEL_METRICS, VALUE_METRICS


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_found_by_its_name(name):
    assert get_task(name).name == name


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_is_whole(task):
    layout = task.layout
    assert set(layout.columns) == {*task.text_columns, "label"}
    assert {"train", "validation"} <= set(layout.files) or task.name == "ax"
    assert set(task.metrics) <= {*LABEL_METRICS, *VALUE_METRICS}
    assert (
        len(set(task.label_names))
        == len(task.label_names)
        == (task.name != "stsb") * task.num_labels
    )
    assert 1 <= len(task.text_columns) <= 2
    assert set(layout.submissions) == set(layout.test_files)
    if task.name != "demo":
        assert set(layout.num_rows) == {*layout.files, *layout.test_files}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            None,
            "--task: no task named; choose one of: demo, cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, ax",
        ),
        ("mprc", "--task: unknown task 'mprc'; did you mean mrpc?"),
        (
            "xyz",
            "--task: unknown task 'xyz'; known: ax, cola, demo, mnli, mrpc, qnli, qqp, rte, sst2, stsb, wnli",
        ),
    ],
)
def test_a_task_that_is_not_there_is_an_error_that_names_those_that_are(name, message):
    with pytest.raises(UserError) as caught:
        get_task(name)
    assert str(caught.value) == message
