"""Files to predict: which columns are taken."""

import pyarrow as pa
import pytest

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import Task
from plainloop.data.files.tables import CheckedFiles, OpenedFile
from plainloop.errors import UserError
from plainloop.predict.input_files import validate_inputs

TASK = Task(name="reviews", text_columns=("text",), label_names=("a", "b"), metrics=("accuracy",))
CONFIG = TrainConfig(text_column=("review_text",), label_column="label")


def validated(*names, text_column=()):
    batch = pa.record_batch({name: ["a text"] for name in names})
    opened = OpenedFile(batch.schema, lambda: iter([batch]))
    files = CheckedFiles([opened], batch.schema, ["new.csv"], 1000, ())
    return validate_inputs(
        files, "new.csv", TASK, CONFIG, text_column=text_column, on_null="error", form="csv"
    )


@pytest.mark.parametrize("name", ["review_text", "Review Text", "REVIEW-TEXT"])
def test_the_column_of_training_is_taken_whatever_its_case_and_spaces(name):
    assert validated("id", name).text == (name,)


def test_two_columns_that_differ_by_case_are_refused():
    with pytest.raises(UserError, match="no column 'review_text'"):
        validated("Review Text", "review text")
    assert validated("Review Text", "review text", text_column=("review text",)).text == (
        "review text",
    )
