"""Each GLUE file in its official layout: five invented rows, quotes in the text, a missing last field."""

import logging

import pytest

from plainloop.config.tasks import TASKS
from plainloop.data.glue import read_glue_tsv, read_splits
from plainloop.errors import UserError

# The official columns of a labelled file and of an unlabelled one; CoLA's labelled ones have no header.
PAIR_OF_IDS = ("index", "sentence1", "sentence2")
NLI = (
    *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
)
STSB = (
    *("index", "genre", "filename", "year", "old_index", "source1", "source2"),
    *("sentence1", "sentence2"),
)
MRPC = ("#1 ID", "#2 ID", "#1 String", "#2 String")
LABELLED = {
    "cola": ("source", "label", "original_label", "sentence"),
    "sst2": ("sentence", "label"),
    "mrpc": ("Quality", *MRPC),
    "qqp": ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
    "stsb": (*STSB, "score"),
    "mnli": (*NLI, "label1", "gold_label"),
    "qnli": ("index", "question", "sentence", "label"),
    "rte": (*PAIR_OF_IDS, "label"),
    "wnli": (*PAIR_OF_IDS, "label"),
}
MNLI_DEV = (*NLI, "label1", "label2", "label3", "label4", "label5", "gold_label")
UNLABELLED = {
    "cola": ("index", "sentence"),
    "sst2": ("index", "sentence"),
    "mrpc": ("index", *MRPC),
    "qqp": ("id", "question1", "question2"),
    "stsb": STSB,
    "mnli": NLI,
    "qnli": ("index", "question", "sentence"),
    "rte": PAIR_OF_IDS,
    "wnli": PAIR_OF_IDS,
    "ax": PAIR_OF_IDS,
}
TEXTS = (
    'She said "no" and left .',
    '"Quoted from the start',
    "NA",
    "an inner \" quote, and ; and '",
    'ends with a quote"',
)
SCORES = ("5.000", "0", "2.5", "3.75", "1.0")


def labels_of(task):
    """Five labels as the file writes them."""
    if task.name == "stsb":
        return SCORES
    known = task.label_names if task.layout.labels_are_names else range(task.num_labels)
    return tuple(str(known[row % len(known)]) for row in range(5))


def write(path, task, columns, labels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    theirs = {theirs: ours for ours, theirs in task.layout.columns.items()}
    rows = [] if task.layout.header and labels else ["\t".join(columns)]
    for row in range(5):
        values = {name: TEXTS[(row + n) % 5] for n, name in enumerate(task.text_columns)}
        values["label"] = labels[row] if labels else ""
        rows.append("\t".join(values.get(theirs.get(name, ""), f"x{row}") for name in columns))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(params=LABELLED)
def task(request):
    return TASKS[request.param]


def test_every_row_is_read_as_it_is_written(task, tmp_path):
    labels = labels_of(task)
    table = read_glue_tsv(write(tmp_path / "f.tsv", task, LABELLED[task.name], labels), task)
    for number, name in enumerate(task.text_columns):
        assert table[name].to_pylist() == [TEXTS[(row + number) % 5] for row in range(5)]
    read = table["label"].to_pylist()
    if task.name == "stsb":
        assert read == [float(score) for score in SCORES]
    elif task.layout.labels_are_names:
        assert [task.label_names[label] for label in read] == list(labels)
    else:
        assert [str(label) for label in read] == list(labels)
    assert table["idx"].to_pylist() == list(range(5))


@pytest.mark.parametrize("name", UNLABELLED)
def test_an_unlabelled_test_file_is_read_without_labels_and_refused_as_a_labelled_one(
    name, tmp_path
):
    task = TASKS[name]
    path = write(tmp_path / "test.tsv", task, UNLABELLED[name])
    table = read_glue_tsv(path, task, labelled=False)
    assert table.column_names == [*task.text_columns, "idx"]
    assert table.num_rows == 5
    with pytest.raises(UserError, match=r"unlabelled|fields|rows below|must be one of"):
        read_glue_tsv(path, task)


def test_a_missing_last_field_is_named_with_its_line_or_left_out_where_the_official_file_has_some(
    task, tmp_path, caplog
):
    path = write(tmp_path / "f.tsv", task, LABELLED[task.name], labels_of(task))
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].rpartition("\t")[0]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if task.name == "qqp":
        with caplog.at_level(logging.WARNING):
            assert read_glue_tsv(path, task).num_rows == 4
        assert "1 rows lack fields and are left out" in caplog.text
    else:
        with pytest.raises(UserError, match=r"line 4 has \d+ fields?; expected \d+"):
            read_glue_tsv(path, task)


def test_the_folders_are_glues_own_and_fewer_rows_than_official_are_a_warning(
    task, tmp_path, caplog
):
    for split, file in task.layout.files.items():
        dev_of_mnli = task.name == "mnli" and split != "train"
        columns = MNLI_DEV if dev_of_mnli else LABELLED[task.name]
        write(tmp_path / file, task, columns, labels_of(task))
    with caplog.at_level(logging.WARNING):
        raw = read_splits(task, tmp_path)
    assert set(raw) == set(task.layout.files)
    for split in raw:
        official = task.layout.num_rows[split]
        assert f"{task.name} {split}: 5 rows, the official file has {official}" in caplog.text


def test_ax_is_for_prediction_alone(tmp_path):
    with pytest.raises(UserError, match="--task ax: has no labelled rows"):
        read_splits(TASKS["ax"], tmp_path)
