"""Every mistake a person can make at the command line: what is said, how, and how soon."""

import shutil

import pytest

GOOD = {"--task": "demo", "--model": "{tiny_model}", "--data-dir": "{tiny_data}"}
MISTAKES = {
    "unknown task": (
        {"--task": "dmo"},
        ["--task: unknown task 'dmo'", "did you mean demo?"],
    ),
    "no task": (
        {"--task": None},
        [
            "nothing to train on",
            "plainloop train FILE",
            "give --dataset, or --task: one of demo, cola",
        ],
    ),
    "missing data folder": (
        {"--data-dir": "{tmp}/gleu"},
        ["{tmp}/gleu: no such file or folder", "did you mean glue?"],
    ),
    "missing file": (
        {"--data-dir": "{tmp}/glue"},
        ["{tmp}/glue/train.tsv: no such file", "did you mean train.txt"],
    ),
    "missing test file": (
        {"--test-file": "{tiny_data}/tset.tsv"},
        ["{tiny_data}/tset.tsv: no such file", "did you mean test.tsv or"],
    ),
    "too few fields": (
        {"--test-file": "{tmp}/few.tsv"},
        ["{tmp}/few.tsv: line 3 has 2 fields; expected 3", "correct these lines"],
    ),
    "label not 0 or 1": (
        {"--test-file": "{tmp}/label.tsv"},
        ["{tmp}/label.tsv: line 3 has the label '2'", "must be one of 0, 1"],
    ),
    "unlabelled split": (
        {"--test-file": "{tmp}/unlabelled.tsv"},
        ["{tmp}/unlabelled.tsv: no column 'label'", "unlabelled", "give a labelled file"],
    ),
    "unknown flag": ({"--lerning-rate": "1"}, ["--lerning-rate", "did you mean --learning-rate?"]),
    "wrong type": ({"--seed": "many"}, ["--seed", '"many"', "int", "--help"]),
    "wrong choice": ({"--eval-strategy": "never"}, ["--eval-strategy", '"never"', '"epoch"']),
    "out of range": (
        {"--lr": "-1"},
        ["--learning-rate: -1.0 is out of range", "give more than 0"],
    ),
    "not a number": ({"--dropout": "nan"}, ["--dropout: nan is out of range", "at least 0"]),
    "output folder holds a run": (
        {"--output-dir": "{tmp}/old"},
        ["--output-dir {tmp}/old: the folder holds a run already", "--overwrite"],
    ),
    "output folder holds something else": (
        {"--output-dir": "{tmp}/glue"},
        ["--output-dir {tmp}/glue: the folder has files and is not a run", "another folder"],
    ),
    "model folder not there": (
        {"--model": "{tmp}/modle"},
        ["--model: no such folder: {tmp}/modle", "did you mean model or"],
    ),
    "model folder without weights": (
        {"--model": "{tmp}/model"},
        ["--model {tmp}/model: no weights: model.safetensors is missing", "copy it there"],
    ),
    "unknown metric": (
        {"--metric-for-best-model": "acuracy"},
        ["--metric-for-best-model: task demo has no metric 'acuracy'", "did you mean accuracy?"],
    ),
    "wrong number of class weights": (
        {"--class-weights": "1"},
        ["--class-weights: 1 weights for 2 labels", "one for each of different, paraphrase"],
    ),
    "missing settings file": (
        {"--config": "{tmp}/setings.yaml"},
        ["--config {tmp}/setings.yaml: no such file", "did you mean settings.yaml?"],
    ),
    "broken settings file": (
        {"--config": "{tmp}/settings.yaml"},
        ["{tmp}/settings.yaml, line 2: not YAML", "write lines like seed: 42"],
    ),
    "data set on the hub, offline": (
        {"--task": "mrpc", "--data-dir": None},
        [
            "--task mrpc, without --data-dir: data set nyu-mll/glue (mrpc) cannot be loaded",
            "give its",
        ],
    ),
}


@pytest.fixture
def places(tmp_path, tiny_model, tiny_data):
    """What the words in braces stand for; and the files that the mistakes need."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.yaml").write_text(
        "task: demo\nnum_train_epochs: 3\n", encoding="utf-8"
    )
    (tmp_path / "glue").mkdir()
    (tmp_path / "glue" / "train.txt").touch()
    (tmp_path / "model").mkdir()
    shutil.copy(tiny_model / "config.json", tmp_path / "model")
    header = "sentence1\tsentence2\tlabel\n"
    for name, content in {
        "glue/validation.tsv": header + "a\tb\t1\n",
        "few.tsv": header + "a\tb\t1\na\t1\n",
        "label.tsv": header + "a\tb\t1\na\tb\t2\n",
        "unlabelled.tsv": "sentence1\tsentence2\na\tb\n",
        "settings.yaml": "seed: 1\na: b: c\n",
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return {"tmp": tmp_path, "tiny_model": tiny_model, "tiny_data": tiny_data}


def train(**changed):
    flags = {**GOOD, **changed}
    return ["train", *(word for pair in flags.items() if pair[1] is not None for word in pair)]


def filled(words, places):
    return [word.format(**places) for word in words]


def lacking(fragments, line, places):
    return [part for part in fragments if part.format(**places) not in line]


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "fragments"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_says_what_where_and_how_to_fix_it(
    refused, places, changed, fragments
):
    [line] = refused(*filled(train(**changed), places))
    assert lacking(fragments, line, places) == []


def test_an_unknown_command_is_one_line_with_the_nearest(refused):
    [line] = refused("trian", "--task", "demo")
    assert lacking(['"trian"', 'did you mean "train"?'], line, {}) == []


@pytest.mark.slow
def test_a_hub_model_without_a_network_is_one_line_that_says_how_to_fetch_it(refused, places):
    words = filled(train(**{"--model": "nobody/no-such-model"}), places)
    [line] = refused(*words, torch_is_imported=True)
    fragments = ["--model", "nobody/no-such-model cannot be loaded", "hf download", "--model demo"]
    assert lacking(fragments, line, {}) == []


@pytest.mark.slow
def test_several_mistakes_are_a_line_each(refused, places):
    changed = {
        "--lr": "0",
        "--batch-size": "0",
        "--model": "{tmp}/modle",
        "--output-dir": "{tmp}/old",
        "--metric-for-best-model": "acuracy",
        "--data-dir": "{tmp}/gleu",
    }
    lines = refused(*filled(train(**changed), places))
    starts = [
        "--per-device-train-batch-size",
        "--learning-rate",
        "--model",
        "--output-dir {tmp}/old",
        "--metric-for-best-model",
        "{tmp}/gleu",
    ]
    assert len(lines) == len(starts)
    assert [
        start
        for start, line in zip(starts, lines, strict=True)
        if not line.startswith(f"error: {start.format(**places)}: ")
    ] == []
