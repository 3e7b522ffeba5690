"""A script reads as if a person wrote it: formatted, nothing unused, no plainloop."""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from dataclasses import replace
from pathlib import Path

import nbformat
import pyarrow as pa
import pytest
import transformers
from architectures.tiny import save_checkpoint
from conftest import write_pairs
from hypothesis import given, settings, strategies as st
from runs import make_runs
from transformers import AutoModelForSequenceClassification

from plainloop.config.settings import TrainConfig
from plainloop.config.tasks import TASKS, get_task
from plainloop.data.glue import SAMPLES_DIR, layout_of
from plainloop.eject.explanations import MARK, explain_parts, read_explanations
from plainloop.eject.literals import constant, literal
from plainloop.eject.script import make_script
from plainloop.errors import UserError
from plainloop.model.load import dropout_fields, load_model
from plainloop.training.prepare import load_inputs

ALLOWED = {"torch", "transformers", "accelerate", "datasets", "numpy", "pyarrow", "tqdm"}
OF_ADAPTERS = {"peft", "safetensors"}
MOST_LINES_OF_MRPC = 200
RULES = "E,W,F,I,B,C4,N,PERF,PIE,RET,SIM,UP,ARG,ERA"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data):
    return make_runs(tmp_path_factory.mktemp("files"), tiny_data)


@pytest.fixture
def script_of(tiny_model, tmp_path):
    """Make the script of these settings."""

    def script_of(name="train_it.py", **given):
        return make_script(TrainConfig(**{"model": str(tiny_model), **given}), tmp_path / name)

    return script_of


def write_layout(folder, task):
    """Files in a task's own layout, with a few rows."""
    layout = layout_of(task)
    names = layout.header or tuple(layout.columns.values())
    for number, file in enumerate(layout.files.values()):
        pairs = folder / "pairs.tsv"
        write_pairs(pairs, 12, seed=number)
        lines = [] if layout.header else ["\t".join(names)]
        for first, second, label in _rows(pairs):
            texts = iter((first, second))
            known = task.label_names[int(label)] if layout.labels_are_names else label
            of = {layout.columns["label"]: known}
            of |= {layout.columns[name]: next(texts) for name in task.text_columns}
            lines.append("\t".join(of.get(name, "") for name in names))
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def check_style(sources, folder):
    """Ruff's rules and its format; and that every constant is used."""
    for number, source in enumerate(sources):
        (folder / f"script_{number}.py").write_text(source, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    line = ["--isolated", "--line-length", "100"]
    for words in (["check", "--select", RULES], ["format", "--diff"]):
        finished = subprocess.run(
            [*ruff, *words, *line, str(folder)], capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
    for source in sources:
        tree = ast.parse(source)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        assert made <= used | {"_"}
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        assert bool(imported & OF_ADAPTERS) is ("LORA =" in source)
        assert imported <= ALLOWED | OF_ADAPTERS | set(sys.stdlib_module_names)
        words = tokenize.generate_tokens(io.StringIO(source).readline)
        assert not any(word.string == "plainloop" for word in words if word.type == tokenize.NAME)


@pytest.mark.slow
def test_every_script_is_formatted_and_has_nothing_unused(runs, script_of, tmp_path_factory):
    sources = [script_of(**of_run).source for of_run in runs.values()]
    check_style(sources, tmp_path_factory.mktemp("scripts"))


@pytest.mark.slow
def test_every_task_has_a_script_of_at_most_200_lines_below_its_header(script_of, tmp_path_factory):
    data = tmp_path_factory.mktemp("glue")
    tasks = [task for task in TASKS.values() if layout_of(task).files]
    sources = {}
    for task in tasks:
        write_layout(data, task)
        sources[task.name] = script_of(task=task.name, data_dir=data, model="demo").source
    sources["embedded"] = script_of(task="demo", model="demo").source
    check_style(sources.values(), tmp_path_factory.mktemp("scripts"))
    lines = {
        name: len(source.partition("# ///\n")[2].splitlines()) for name, source in sources.items()
    }
    print(lines)
    assert lines["mrpc"] <= MOST_LINES_OF_MRPC
    assert len(lines) == 11


def values_of(characters):
    texts = st.text(characters, max_size=120)
    return (
        texts
        | st.lists(texts, max_size=5)
        | st.dictionaries(texts, texts | st.floats(0, allow_infinity=False), max_size=4)
    )


# Of one column or two each; how wide marks and joined signs are shown is another question.
PLAIN_CHARACTERS = st.characters(codec="utf-8", categories=("Lu", "Ll", "Lo", "Nd", "Po", "Sm"))


@given(values_of(st.characters(codec="utf-8")))
def test_a_literal_is_its_value(value):
    assert ast.literal_eval(literal(value)) == value


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(values_of(PLAIN_CHARACTERS), min_size=1, max_size=20))
def test_constants_are_laid_out_as_ruff_does(values):
    source = "\n".join(constant(f"NAME_{n}", value) for n, value in enumerate(values)) + "\n"
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--isolated",
            "--line-length",
            "100",
            "--diff",
            "-",
        ],
        input=source.encode(),
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout.decode()


def test_a_model_that_depends_on_padding_is_evaluated_row_by_row(tmp_path):
    save_checkpoint("fnet", tmp_path / "fnet")
    script = make_script(TrainConfig(task="demo", model=str(tmp_path / "fnet")), tmp_path / "a.py")
    assert "PER_DEVICE_EVAL_BATCH_SIZE = 1" in "".join(script.parts.values())


def test_a_padding_token_is_set_in_the_config_that_the_text_model_has(tmp_path):
    save_checkpoint("gemma3", tmp_path / "gemma3")
    path = tmp_path / "gemma3" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    padding = config["text_config"]["pad_token_id"]

    def settings_of():
        given = TrainConfig(task="demo", model=str(tmp_path / "gemma3"))
        return "".join(make_script(given, tmp_path / "a.py").parts.values())

    assert "pad_token_id" not in settings_of()
    config["text_config"]["pad_token_id"] = None
    path.write_text(json.dumps(config), encoding="utf-8")
    assert f'MODEL_SETTINGS = {{"text_config": {{"pad_token_id": {padding}}}}}' in settings_of()
    model = AutoModelForSequenceClassification.from_pretrained(
        path.parent, text_config={"pad_token_id": padding}
    )
    assert model.config.text_config.pad_token_id == padding
    assert model.config.text_config.hidden_size == config["text_config"]["hidden_size"]


def test_dropout_is_set_in_the_config_of_the_text_model_too(tmp_path):
    save_checkpoint("gemma3", tmp_path / "gemma3")
    config = TrainConfig(task="demo", model=str(tmp_path / "gemma3"), dropout=0.3)
    source = make_script(config, tmp_path / "a.py").source
    [given] = re.findall(r"^MODEL_SETTINGS = (.*)$", source, re.MULTILINE)
    theirs = AutoModelForSequenceClassification.from_pretrained(
        config.model, **ast.literal_eval(given)
    )
    ours, _ = load_model(config.model, get_task("demo"), dropout=0.3)
    texts = [model.config.get_text_config() for model in (ours, theirs)]
    rates = [{name: getattr(text, name) for name in dropout_fields(text)} for text in texts]
    assert rates[0] == rates[1] == {"attention_dropout": 0.3}


def test_what_stands_beside_it_is_written_with_it(runs, script_of, tmp_path):
    embedded = script_of("train_demo.py", task="demo")
    embedded.write()
    copied = tmp_path / "train_demo-data" / "train.tsv"
    assert copied.read_bytes() == (SAMPLES_DIR / "train.tsv").read_bytes()
    own = script_of("train_own.py", **runs["class weights"])
    own.write()
    rows = (tmp_path / "train_own-validation-rows.txt").read_text(encoding="utf-8").split()
    assert rows == sorted(rows, key=int)
    assert len(rows) == 4
    assert 'Path(__file__).with_name("train_own-validation-rows.txt")' in own.source


def test_nothing_is_written_over(script_of, tmp_path):
    script = script_of("train_demo.py", task="demo")
    script.write()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"train_demo\.py, .* already exists"):
        script_of("train_demo.py", task="demo", seed=43).write()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    script_of("train_demo.py", task="demo", seed=43).write(overwrite=True)
    assert "SEED = 43" in script.path.read_text(encoding="utf-8")


def test_a_runs_folder_is_not_written_over(script_of, tmp_path):
    run = tmp_path / "run"
    assert f'OUTPUT_DIR = "{run}"' in script_of(task="demo", output_dir=run).source
    run.mkdir()
    (run / "run.yaml").write_text("task: demo\nnum_train_epochs: 3\n", encoding="utf-8")
    source = script_of(task="demo", output_dir=run, overwrite=True).source
    assert 'OUTPUT_DIR = "runs/train_it"' in source


def test_what_is_not_ejected_is_refused_by_its_flags_together(script_of):
    with pytest.raises(UserError) as caught:
        script_of(task="demo", calibrate=True, gradient_checkpointing=True, resume=True)
    lines = str(caught.value).splitlines()
    flags = ["--calibrate", "--gradient-checkpointing", "--resume"]
    assert len(lines) == len(flags)
    assert all(any(f"{flag}: is not ejected" in line for line in lines) for flag in flags)


def test_a_metric_that_the_script_does_not_compute_is_refused(runs, script_of):
    with pytest.raises(UserError, match=r"--metric-for-best-model: .*roc_auc; choose one of loss"):
        script_of(**{**runs["early stopping"], "metric_for_best_model": "roc_auc"})


def copies(script):
    """The files beside a script that hold a copy of rows."""
    return [name for name, content in script.data_files.items() if isinstance(content, bytes)]


def test_rows_are_copied_where_a_script_would_read_others_than_the_run(runs, script_of):
    copied = {name for name, of_run in runs.items() if copies(script_of(**of_run))}
    assert copied == {
        *("cosine with warm-up", "Arrow file", "files of two formats"),
        "saved data set of several labels",
    }


AB = [f"The cat sees a car {n},{'ab'[n % 2]}" for n in range(20)]
NUMBERS = [f"The cat sees a car {n};{n % 7},5" for n in range(20)]
HOT = [f"The cat {n},{n % 2},{n % 3 % 2}" for n in range(20)]
NESTED = [{"it": {"text": f"The cat {n}"}, "label": ["a"] if n % 2 else ["b"]} for n in range(20)]


@pytest.mark.parametrize(
    ("name", "lines", "given"),
    [
        ("plain.csv", ["text,label", *AB], {}),
        ("marked.csv", ["text,label", *AB, "The boy,nan"], {"on_null": "drop"}),
        ("no_label.csv", ["text,label", *AB, "The boy,"], {"on_null": "drop"}),
        ("empty_end.csv", ["text,label", *AB, ","], {}),
        ("no_text.csv", ["text,label", *AB, r"\N,a"], {"on_null": "empty"}),
        ("commas.csv", ["text;label", *NUMBERS], {"problem_type": "regression"}),
        ("hot.csv", ["text,red,green", *HOT], {"label_column": ("red", "green")}),
        ("array.json", [json.dumps(NESTED)], {"text_column": ("it.text",)}),
        ("lists.jsonl", [json.dumps(row) for row in NESTED], {"text_column": ("it.text",)}),
        (
            "latin.jsonl",
            [f'{{"text": "caf\xe9 {n}", "label": "{n % 2}"}}' for n in range(20)],
            {"encoding": "latin-1"},
        ),
        ("bools.jsonl", [json.dumps({"text": t, "label": t[-1] == "a"}) for t in AB], {}),
        ("floats.jsonl", [json.dumps({"text": t, "label": float(t[-1] == "a")}) for t in AB], {}),
    ],
)
def test_a_script_has_the_rows_of_the_run(name, lines, given, tiny_model, tmp_path):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding=given.get("encoding", "utf-8"))
    config = TrainConfig(model=str(tiny_model), train_file=(str(path),), **given)
    script = make_script(config, tmp_path / "train_it.py")
    script.write()
    scope = {"__file__": str(script.path)}
    for part in ("imports", "settings", "data"):
        exec(script.parts[part], scope)
    wanted = load_inputs(replace(config, dry_run=True)).raw
    for split, rows in wanted.items():
        read = scope["raw"][split]
        assert [*read["text"]] == [*rows["text"]]
        assert [*read["labels"]] == [*rows["label"]]


def test_without_its_marked_lines_the_explanation_is_the_script(runs, script_of):
    for name in ("pair", "all at once", "early stopping"):
        script = script_of(**runs[name])
        explained = explain_parts(script)
        lines = explained.splitlines(keepends=True)
        assert "".join(line for line in lines if not line.startswith(MARK)) == script.source
        assert sum(line.startswith(f"{MARK}Trainer:") for line in lines) >= len(script.parts) - 1
        assert ("EarlyStoppingCallback" in explained) is (name == "early stopping")
        assert ("Trainer.get_batch_samples" in explained) is (name == "all at once")
        assert max(map(len, lines)) <= 101


def test_what_an_explanation_names_is_in_transformers(script_of, runs):
    said = " ".join(text for of_part in read_explanations().values() for text in of_part.values())
    words = {word.strip(".,:;") for word in said.split()}
    methods = {word.partition(".")[2] for word in words if word.startswith("Trainer.")}
    assert len(methods) > 15
    assert [name for name in methods if not hasattr(transformers.Trainer, name)] == []
    fields = {
        word
        for word in words
        if "_" in word and word in transformers.TrainingArguments.__dataclass_fields__
    }
    assert {"weight_decay", "max_grad_norm", "label_smoothing_factor"} <= fields
    script = script_of(**runs["all at once"])
    assert read_explanations().keys() <= {*script.parts}


def test_a_notebook_holds_the_scripts_code(runs, script_of, tmp_path):
    script = script_of(**runs["class weights"])
    notebook = script_of("train_it.ipynb", **runs["class weights"])
    notebook.write()
    content = nbformat.read(notebook.path, as_version=4)
    nbformat.validate(content)
    code = [cell.source for cell in content.cells if cell.cell_type == "code"]
    assert len(code) == len(script.parts)
    ours, theirs = (
        [line for line in text.splitlines() if line and not line.startswith("#")]
        for text in (script.source.partition('"""\n\n')[2], "\n".join(code))
    )
    differ = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    assert all("__file__" in mine for mine, _ in differ)
    assert json.loads(notebook.path.read_text(encoding="utf-8"))["nbformat"] == 4


@pytest.mark.parametrize(
    ("content", "given"),
    [
        ('sep=;\n"te\nxt";label\n{}', {}),
        ("text;label\n{}", {}),
        ("{}", {"header": False, "separator": ";"}),
        ("text;label\n{}", {"encoding": "utf-16"}),
        ("text,label\n{}", {"train_file": ("rows.csv.gz",)}),
    ],
    ids=["Excel's line above", "semicolons", "no header", "UTF-16", "compressed"],
)
def test_a_script_reads_the_rows_however_their_file_is_written(script_of, tmp_path, content, given):
    separator = "," if "," in content else ";"
    rows = "".join(f"the cat sees it {n}{separator}{'ab'[n % 2]}\n" for n in range(20))
    path = tmp_path / given.pop("train_file", ("rows.csv",))[0]
    with pa.output_stream(path, compression="detect") as file:
        file.write(content.format(rows).encode(given.pop("encoding", "utf-8")))
    names = (
        ("2", "1") if "header" in given else ("label", "text" if "text" in content else "te\nxt")
    )
    script = script_of(
        train_file=(str(path),), label_column=names[0], text_column=(names[1],), **given
    )
    tree = ast.parse(script.source)
    wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign)
    body = [node for node in tree.body if isinstance(node, wanted)]
    end = next(n for n, node in enumerate(body) if getattr(node, "name", "") == "read_rows")
    scope = {"__file__": str(tmp_path / "train_it.py")}
    exec(compile(ast.Module(body[: end + 1], []), "script", "exec"), scope)
    read = scope["read_rows"](str(path))
    assert [*read["text"]] == [f"the cat sees it {n}" for n in range(20)]
    assert [scope["LABEL_NAMES"][n] for n in read["labels"]] == ["a", "b"] * 10


def test_a_notebook_names_relative_paths_from_its_own_folder(
    runs, script_of, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "own.csv").write_bytes(Path(*runs["class weights"]["train_file"]).read_bytes())
    (tmp_path / "more.csv").write_bytes((tmp_path / "own.csv").read_bytes())
    (tmp_path / "glue").symlink_to(runs["pair"]["data_dir"])
    of_files = {"train_file": ("own.csv",), "output_dir": Path("runs/own")}
    written = {
        name: [
            line
            for part in script_of(f"inner/t{suffix}", **given).parts.values()
            for line in part.splitlines()
            if line.startswith(("DATA_DIR =", "FILES =", "OUTPUT_DIR =", "VALIDATION_ROWS ="))
        ]
        for name, suffix, given in (
            ("script", ".py", of_files),
            ("notebook", ".ipynb", of_files),
            ("of several files", ".ipynb", {**of_files, "validation_file": ("*.csv",)}),
            ("of a task", ".ipynb", {"task": "demo", "data_dir": Path("glue")}),
        )
    }
    assert written == {
        "script": [
            'FILES = {"train": "own.csv"}',
            'VALIDATION_ROWS = Path(__file__).with_name("t-validation-rows.txt")',
            'OUTPUT_DIR = "runs/own"',
        ],
        "notebook": [
            'FILES = {"train": "../own.csv"}',
            'VALIDATION_ROWS = "t-validation-rows.txt"',
            'OUTPUT_DIR = "../runs/own"',
        ],
        "of several files": [
            'FILES = {"train": ["../own.csv"], "validation": ["../more.csv", "../own.csv"]}',
            'OUTPUT_DIR = "../runs/own"',
        ],
        "of a task": [
            'DATA_DIR = "../glue"',
            'FILES = {"train": f"{DATA_DIR}/train.tsv", "validation": f"{DATA_DIR}/validation.tsv"}',
            'OUTPUT_DIR = "runs/t"',
        ],
    }
