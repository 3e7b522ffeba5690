"""A finished run predicts texts and files, and scores them as its training did."""

import csv
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plainloop.config.read_options import ReadOptions
from plainloop.config.settings import TrainConfig
from plainloop.data.files.tables import read_files
from plainloop.errors import DivergedError, UserError
from plainloop.metrics.task_metric import TaskMetric
from plainloop.predict.evaluate_run import describe_labels, evaluate_run
from plainloop.predict.loaded_run import Run, load_run, to_config
from plainloop.training.fine_tune import fine_tune

SUBJECTS = ["cat", "dog", "girl"]
VERBS = ["sees", "likes", "hears", "paints", "follows", "calls"]
OBJECTS = ["car", "tree", "house", "river", "song", "letter", "cake", "boat"]
CLASSES = ["no", "perhaps", "yes, surely"]


def make_rows(num_rows, seed):
    """Texts of uneven length, none twice, and a label of each kind."""
    draw = random.Random(seed)
    # Equal texts have logits some 1e-7 apart, by the rows beside them, and so any order of ranks.
    rows, texts = [], set()
    for row in range(num_rows):
        label = row % len(CLASSES)
        text = ""
        while not text or text in texts:
            tail = [
                f"and {draw.choice(VERBS)} a {draw.choice(OBJECTS)}" for _ in range(1 + row % 9)
            ]
            text = f"The {SUBJECTS[label]} {draw.choice(VERBS)} the car {' '.join(tail)}"
        texts.add(text)
        rows.append(
            {
                "n": row,
                "text": text,
                "class": CLASSES[label],
                "tags": CLASSES[: row % 4],
                "value": draw.uniform(-1, 1) + label,
            }
        )
    return rows


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class Own:
    """A run on own files, and a labelled file beside it."""

    run: Run
    metrics: dict[str, Any]
    label: str
    labelled: Path


KINDS: dict[str, dict[str, Any]] = {
    "one label": {"label_column": "class"},
    "several labels": {"label_column": "tags"},
    "a value": {"label_column": "value", "problem_type": "regression"},
    "row by row": {"label_column": "class", "per_device_eval_batch_size": 1},
    "windows": {"label_column": "class", "max_length": 12, "stride": 2},
}


@pytest.fixture(scope="module")
def own_runs(tiny_model, tmp_path_factory):
    """A run of each kind, made when it is first asked for."""
    made: dict[str, Own] = {}

    def own(kind: str) -> Own:
        if kind not in made:
            folder = tmp_path_factory.mktemp("own")
            config = TrainConfig(
                train_file=(str(write_jsonl(folder / "train.jsonl", make_rows(60, seed=1))),),
                model=str(tiny_model),
                text_column=("text",),
                output_dir=folder / "run",
                max_steps=30,
                learning_rate=2e-3,
                validation_fraction=0.3,
                save_strategy="no",
                **KINDS[kind],
            )
            metrics = fine_tune(config)
            labelled = write_jsonl(folder / "labelled.jsonl", make_rows(50, seed=2))
            made[kind] = Own(
                load_run(folder / "run"), metrics, KINDS[kind]["label_column"], labelled
            )
        return made[kind]

    return own


@pytest.fixture(scope="module")
def demo_run(tiny_model, tiny_data, tmp_path_factory):
    """A run of a task, on pairs."""
    folder = tmp_path_factory.mktemp("task") / "run"
    fine_tune(
        TrainConfig(
            task="demo",
            data_dir=tiny_data,
            model=str(tiny_model),
            output_dir=folder,
            max_steps=6,
            save_strategy="no",
        )
    )
    return load_run(folder)


# --- evaluate


def saved_scores(metrics):
    return {
        name: value for name, value in metrics["saved"].items() if name not in ("step", "epoch")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_runs_own_validation_rows_give_the_same_bits_again(own_runs, kind):
    own = own_runs(kind)
    assert evaluate_run(own.run) == {"validation": saved_scores(own.metrics)}


def test_a_tasks_validation_file_gives_the_same_bits_again(demo_run, tiny_data):
    metrics = json.loads((demo_run.path / "metrics.json").read_text(encoding="utf-8"))
    assert evaluate_run(demo_run) == {"validation": saved_scores(metrics)}
    path = tiny_data / "validation.tsv"
    assert evaluate_run(demo_run, [path]) == {"validation.tsv": saved_scores(metrics)}


def test_the_rows_that_were_the_test_file_are_scored_again_too(tiny_model, tiny_data, tmp_path):
    config = TrainConfig(
        task="demo",
        data_dir=tiny_data,
        test_file=(str(tiny_data / "test.tsv"),),
        model=str(tiny_model),
        output_dir=tmp_path / "run",
        max_steps=2,
        save_strategy="no",
    )
    metrics = fine_tune(config)
    scores = evaluate_run(load_run(tmp_path / "run"))
    assert scores == {"validation": saved_scores(metrics), "test": metrics["test"]}


@pytest.mark.parametrize("merge_lora", [False, True])
def test_adapters_give_the_same_scores_up_to_rounding(tiny_model, tiny_data, tmp_path, merge_lora):
    config = TrainConfig(
        task="demo",
        data_dir=tiny_data,
        model=str(tiny_model),
        output_dir=tmp_path / "run",
        max_steps=6,
        learning_rate=1e-2,
        lora_rank=2,
        merge_lora=merge_lora,
        save_strategy="no",
    )
    metrics = fine_tune(config)
    [scores] = evaluate_run(load_run(tmp_path / "run")).values()
    assert scores == pytest.approx(saved_scores(metrics), abs=1e-6)


def test_an_encoding_without_a_file_is_refused(demo_run, tiny_data):
    with pytest.raises(UserError, match="--encoding: has no effect"):
        evaluate_run(demo_run, options=ReadOptions(encoding="cp949"))
    with pytest.raises(UserError, match="--encoding: has no effect with a run of --task demo"):
        evaluate_run(demo_run, [tiny_data / "validation.tsv"], ReadOptions(encoding="cp949"))


def test_a_file_of_one_class_is_scored(own_runs, tmp_path):
    own = own_runs("one label")
    rows = [row for row in make_rows(12, seed=3) if row["class"] == "no"]
    [scores] = evaluate_run(own.run, [write_jsonl(tmp_path / "one.jsonl", rows)]).values()
    assert scores["support/no"] == len(rows)
    assert scores["support/perhaps"] == 0


def test_labels_may_be_numbers_where_names_are_known(own_runs, tmp_path):
    own = own_runs("one label")
    named = make_rows(12, seed=3)
    numbered = [{**row, "class": CLASSES.index(row["class"])} for row in named]
    by_name, by_number = (
        list(evaluate_run(own.run, [write_jsonl(tmp_path / f"{name}.jsonl", rows)]).values())
        for name, rows in (("names", named), ("numbers", numbered))
    )
    assert by_name == by_number


def test_a_label_that_the_run_does_not_know_is_named_with_its_row(own_runs, tmp_path):
    own = own_runs("one label")
    rows = [*make_rows(3, seed=3), {"text": "a cat", "class": "yes"}]
    with pytest.raises(UserError, match=r"odd.jsonl: label 'yes' \(line 4\) is not among"):
        evaluate_run(own.run, [write_jsonl(tmp_path / "odd.jsonl", rows)])


def test_scores_of_labels_are_a_table():
    scores = {"loss": 0.5, "precision/a": 0.5, "precision/long\x1b": 1.0}
    scores |= {"support/a": 2.0, "support/long\x1b": 13.0}
    assert describe_labels(scores) == [
        "          precision    support",
        "a            0.5000          2",
        r"long\x1b     1.0000         13",
    ]
    assert describe_labels({"loss": 0.5}) == []


# --- predict


def scores_of_predictions(own, predicted):
    """Metrics computed from a prediction's file alone."""
    task = own.run.task
    metric = TaskMetric(task.metrics, task.problem_type, task.label_names)
    wanted = [row[own.label] for row in predicted]
    if task.problem_type == "regression":
        metric.add_batch(
            predictions=np.array([[row["prediction"]] for row in predicted], np.float32),
            references=np.array(wanted, np.float32),
        )
        return metric.compute()
    names = task.label_names
    probabilities = np.array([[row[f"probability_{name}"] for name in names] for row in predicted])
    logits = np.log(probabilities)
    if task.problem_type == "multi_label_classification":
        logits -= np.log1p(-probabilities)
        references = np.array([[float(name in labels) for name in names] for labels in wanted])
    else:
        references = np.array([names.index(label) for label in wanted])
    metric.add_batch(predictions=logits, references=references)
    return metric.compute()


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_of_the_predictions_equal_those_of_the_evaluation(own_runs, tmp_path, kind):
    own = own_runs(kind)
    own.run.predict_file([own.labelled], tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    predicted = [json.loads(line) for line in lines]
    [evaluated] = evaluate_run(own.run, [own.labelled]).values()
    computed = scores_of_predictions(own, predicted)
    assert computed == pytest.approx(
        {name: score for name, score in evaluated.items() if name != "loss"}, abs=1e-6
    )
    counted = [name for name in computed if name.startswith(("accuracy", "f1", "prec", "recall"))]
    assert {name: computed[name] for name in counted} == {name: evaluated[name] for name in counted}


def test_the_predicted_label_is_the_most_probable(own_runs, tmp_path):
    own = own_runs("one label")
    own.run.predict_file([own.labelled], tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len({row["label"] for row in rows}) > 1
    for row in rows:
        scores = {name: row[f"probability_{name}"] for name in CLASSES}
        assert row["label"] == max(scores, key=lambda name: scores[name])
        assert sum(scores.values()) == pytest.approx(1, abs=1e-12)


def test_the_predicted_labels_are_those_above_one_half(own_runs, tmp_path):
    own = own_runs("several labels")
    added = own.run.predict_file([own.labelled], tmp_path / "out.parquet")
    assert added == ["label", *(f"probability_{name}" for name in CLASSES)]
    for row in pq.read_table(tmp_path / "out.parquet").to_pylist():
        assert row["label"] == [name for name in CLASSES if row[f"probability_{name}"] > 0.5]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_all_columns_are_kept_and_the_rows_stay_in_order(own_runs, tmp_path, suffix):
    own = own_runs("one label")
    rows = [
        {"id": f"{row['n']:03}", "text": row["text"], "quote": 'a,"b"\nc\td'}
        for row in make_rows(40, seed=4)
    ]
    with (tmp_path / "in.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / f"out.{suffix}"
    added = own.run.predict_file([tmp_path / "in.csv"], out)
    table = read_files([out]).table
    assert table.column_names == ["id", "text", "quote", *added]
    assert table.select(["id", "text", "quote"]).to_pylist() == rows
    predicted = own.run.predict([row["text"] for row in rows])
    assert table["label"].to_pylist() == [row["label"] for row in predicted]


def test_rows_that_span_chunks_and_files_stay_in_order(own_runs, tmp_path, monkeypatch):
    monkeypatch.setattr("plainloop.predict.loaded_run.ROWS_PER_CHUNK", 7)
    own = own_runs("windows")
    rows = make_rows(40, seed=5)
    parts = [
        write_jsonl(tmp_path / f"{part}.jsonl", rows[start : start + 20])
        for part, start in (("a", 0), ("b", 20))
    ]
    own.run.predict_file([tmp_path / "*.jsonl"], tmp_path / "out.parquet", batch_size=3)
    table = pq.read_table(tmp_path / "out.parquet")
    assert len(parts) == 2
    assert table["n"].to_pylist() == list(range(40))
    scores = [row["scores"] for row in own.run.predict([row["text"] for row in rows])]
    assert [
        {name: row[f"probability_{name}"] for name in CLASSES} for row in table.to_pylist()
    ] == [pytest.approx(score, abs=1e-5) for score in scores]


def test_no_column_is_overwritten(own_runs, tmp_path):
    own = own_runs("one label")
    source = tmp_path / "in.csv"
    source.write_text("text,label\na cat,mine\n", encoding="utf-8")
    assert own.run.predict_file([source], tmp_path / "out.csv")[0] == "prediction"
    table = read_files([tmp_path / "out.csv"]).table
    assert table["label"].to_pylist() == ["mine"]
    assert table["prediction"][0].as_py() in CLASSES
    with pytest.raises(UserError, match=r"out.csv: has a column 'prediction', 'probability_no'"):
        own.run.predict_file([tmp_path / "out.csv"], tmp_path / "again.csv")


def test_a_task_takes_its_files_columns_or_its_own(demo_run, tiny_data, tmp_path):
    demo_run.predict_file([tiny_data / "validation.tsv"], tmp_path / "out.tsv")
    table = read_files([tmp_path / "out.tsv"]).table
    pairs = list(zip(table["sentence1"].to_pylist(), table["sentence2"].to_pylist(), strict=True))
    predicted = [row["label"] for row in demo_run.predict(pairs)]
    assert table["prediction"].to_pylist() == predicted


def test_named_columns_are_predicted(demo_run, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("a,b\nthe cat,a dog\n", encoding="utf-8")
    demo_run.predict_file([source], tmp_path / "out.csv", text_column=("a", "b"))
    [label] = read_files([tmp_path / "out.csv"]).table["label"].to_pylist()
    assert label == demo_run.predict([("the cat", "a dog")])[0]["label"]
    with pytest.raises(UserError, match="--text-column: 1 given, and the run was trained on 2"):
        demo_run.predict_file([source], tmp_path / "out.csv", text_column=("a",))


def test_texts_give_labels_and_scores_in_their_order(own_runs):
    run = own_runs("one label").run
    texts = [row["text"] for row in make_rows(20, seed=6)]
    together = run.predict(texts, batch_size=4)
    for text, row in zip(texts, together, strict=True):
        [alone] = run.predict([text])
        assert row["label"] == alone["label"]
        assert row["scores"] == pytest.approx(alone["scores"], abs=1e-5)
    assert run.predict([]) == []


def test_batches_on_threads_of_their_own_give_what_one_thread_gives(own_runs):
    import torch

    classifier = load_run(own_runs("one label").run.path).classifier
    texts = [[row["text"] for row in make_rows(50, seed=7)]]
    used, threads = set(), torch.get_num_threads()
    collate = classifier.collate

    def noting_collate(rows):
        used.add(threading.get_ident())
        return collate(rows)

    classifier.collate, classifier.threads = noting_collate, 1
    expected = classifier.logits(texts, batch_size=2)
    assert used == {threading.get_ident()}
    used.clear()
    classifier.threads = 3
    # Batches of two rows on each of three threads.
    np.testing.assert_allclose(classifier.logits(texts, batch_size=6), expected, atol=1e-6)
    assert len(used - {threading.get_ident()}) > 1
    torch.set_num_threads(threads)  # was set to the pool's


def test_a_pool_of_batches_leaves_the_number_of_threads():
    import torch

    from plainloop.predict.classifier import batch_threads

    threads = torch.get_num_threads()
    try:
        with batch_threads(2) as pool:
            assert {pool.submit(torch.get_num_threads).result() for _ in range(4)} == {1}
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_value_is_predicted_without_scores(own_runs):
    [row] = own_runs("a value").run.predict(["the cat"])
    assert isinstance(row["label"], float)
    assert row["scores"] == {}


@pytest.mark.parametrize(
    "texts", [[("a", "pair")], ["a", None], 3, {"text": "a"}, pa.table({"text": ["a"]}).to_pandas()]
)
def test_what_is_no_text_is_refused(own_runs, texts):
    with pytest.raises(UserError, match=r"predicts texts, and number \d .* is "):
        own_runs("one label").run.predict(texts)


def test_one_text_is_a_list_of_one(own_runs):
    run = own_runs("one label").run
    [row] = run.predict("the cat")
    assert [row] == run.predict(["the cat"]) == run.predict(pa.array(["the cat"]).to_pandas())
    assert len(run.predict(("the cat", "a dog"))) == 2


def test_one_pair_is_a_list_of_one(demo_run):
    run = demo_run
    pair = ("the cat sees a car", "a dog")
    [row] = run.predict(pair)
    assert [row] == run.predict([pair]) == run.predict(list(pair)) == run.predict([list(pair)])
    with pytest.raises(UserError, match="predicts pairs of texts"):
        run.predict("the cat")


def test_a_null_text_is_named_or_taken_as_empty(own_runs, tmp_path):
    run = own_runs("one label").run
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": None}, {"text": "a"}, {"text": None}])
    out = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match=r"no text in lines 1, 3; --on-null empty"):
        run.predict_file([source], out)
    other = write_jsonl(tmp_path / "other.jsonl", [{"text": "a"}, {"text": None}])
    with pytest.raises(UserError, match=r"in.jsonl, lines 1, 3; other.jsonl, line 2;"):
        run.predict_file([source, other], out)
    assert not out.exists()
    run.predict_file([source], out, on_null="empty")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == [None, "a", None]
    assert rows[0]["label"] == run.predict([""])[0]["label"]


def test_an_error_half_way_leaves_nothing(own_runs, tmp_path):
    """A word that the model has no finite embedding of, in a row of the third chunk."""
    import torch

    run = load_run(own_runs("one label").run.path)
    with torch.no_grad():
        embeddings = run.classifier.model.get_input_embeddings().weight
        embeddings[run.classifier.tokenizer.convert_tokens_to_ids("boat")] = float("nan")
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["the cat"] * 2500 + ["the boat"]}), source)
    with pytest.raises(DivergedError, match="not finite"):
        run.predict_file([source], tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
    pq.write_table(pa.table({"text": ["the cat"] * 2500}), source)
    run.predict_file([source], tmp_path / "out.csv")
    assert read_files([tmp_path / "out.csv"]).table.num_rows == 2500


def test_other_encodings_are_read_and_utf_8_is_written(own_runs, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes("text\n고양이\n".encode("cp949"))
    own_runs("one label").run.predict_file([source], out, options=ReadOptions(encoding="cp949"))
    assert out.read_text(encoding="utf-8").splitlines()[1].startswith("고양이,")


# --- load_run


def test_a_folder_that_is_no_run_is_refused(tmp_path, own_runs):
    with pytest.raises(UserError, match="no such folder"):
        load_run(tmp_path / "absent")
    with pytest.raises(UserError, match="not a run"):
        load_run(tmp_path)
    settings = own_runs("one label").run.path / "run.yaml"
    (tmp_path / "run.yaml").write_bytes(settings.read_bytes())
    with pytest.raises(UserError, match=r"not finished.*--resume"):
        load_run(tmp_path)


def test_the_nearest_run_is_named(own_runs):
    path = own_runs("one label").run.path
    with pytest.raises(UserError, match="did you mean run"):
        load_run(path.with_name("runs"))


def test_the_settings_are_read_as_they_were_written(own_runs):
    run = own_runs("windows").run
    assert run.config.text_column == ("text",)
    assert run.config.output_dir == run.path
    assert run.config.stride == 2
    assert run.task.label_names == tuple(CLASSES)


def test_each_invalid_setting_of_run_yaml_is_named_with_the_file(own_runs, tmp_path):
    with pytest.raises(UserError, match=r"^runs/x/run\.yaml: seed: "):
        to_config({"seed": "many"}, Path("runs/x/run.yaml"))
    run = own_runs("windows").run
    config = replace(run.config, early_stopping_threshold=-1.0)
    with pytest.raises(UserError) as raised:
        evaluate_run(replace(run, config=config))
    lines = raised.value.lines()
    assert len(lines) == 2
    assert all(line.startswith(f"{run.path}/run.yaml: --early-stopping") for line in lines)
