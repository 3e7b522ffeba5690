"""An exported folder predicts files as a run does, and without torch."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from handmade_folder import WORDS, write_folder

from plainloop.errors import CheckpointError, DivergedError, UserError
from plainloop.predict.export.exported_folder import is_exported, load_exported
from plainloop.predict.submissions import write_submissions

TABLE = np.random.default_rng(3).normal(size=(7, 2)).astype(np.float32)
SEEN = """
import sys
from plainloop.__main__ import main
sys.argv = ["plainloop", *sys.argv[1:]]
try:
    main()
finally:
    assert "onnxruntime" in sys.modules
    assert not {"torch", "transformers", "datasets"} & {*sys.modules}
"""


def texts_of(lengths):
    draw = np.random.default_rng(5)
    return [" ".join(draw.choice(WORDS[1:], length)) for length in lengths]


def logits_of(text):
    return TABLE[[WORDS.index(word) for word in text.split()]].sum(axis=0)


def test_rows_keep_their_order_whatever_their_length_and_the_batch(tmp_path):
    run = load_exported(write_folder(tmp_path / "onnx", TABLE))
    texts = texts_of([3, 1, 40, 2, 7, 7, 1, 30, 5, 5, 5, 12, 9, 1, 2, 33, 8, 8, 21])
    expected = np.array([logits_of(text) for text in texts])
    for batch_size in (1, 5, 32, 1000):
        logits = run.predictor.logits([texts], batch_size)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_a_long_text_is_truncated_or_its_windows_are_averaged(tmp_path):
    text = texts_of([10])[0]
    words = text.split()
    cut = load_exported(write_folder(tmp_path / "cut", TABLE, max_length=4))
    logits = cut.predictor.logits([[text, "a"]], 32)
    np.testing.assert_allclose(logits[0], logits_of(" ".join(words[:4])), rtol=1e-5)
    windows = load_exported(write_folder(tmp_path / "windows", TABLE, max_length=4, stride=1))
    logits = windows.predictor.logits([["b", text, "a"]], 32)
    parts = [logits_of(" ".join(words[at : at + 4])) for at in (0, 3, 6)]
    np.testing.assert_allclose(logits[1], np.mean(parts, axis=0), rtol=1e-5)
    np.testing.assert_allclose(logits[2], logits_of("a"), rtol=1e-5)


def test_temperature_and_threshold_travel(tmp_path):
    rule = {"temperature": 2.0, "thresholds": {"good": 0.9}}
    run = load_exported(write_folder(tmp_path / "onnx", TABLE, rule=rule))
    answers = run.predict(texts_of(range(1, 40)))
    labels = [answer["label"] for answer in answers]
    chances = np.array([answer["scores"]["good"] for answer in answers])
    assert labels == ["good" if chance > 0.9 else "bad" for chance in chances]
    assert {"good", "bad"} == {*labels}
    assert ((chances > 0.5) & (chances < 0.9)).any()  # where 0.9 makes a difference
    logits = np.array([logits_of(text) for text in texts_of(range(1, 40))]) / 2
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), rtol=1e-5)


def test_the_command_predicts_a_file_without_importing_torch(tmp_path):
    folder = write_folder(tmp_path / "onnx", TABLE)
    texts = texts_of([4, 1, 9] * 700)  # more than one chunk
    with (tmp_path / "new.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("n", "text"), *enumerate(texts)])
    subprocess.run(
        [
            *(sys.executable, "-c", SEEN, "predict", folder),
            *(tmp_path / "new.csv", "-o", tmp_path / "out.csv"),
        ],
        check=True,
        capture_output=True,
    )
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts
    expected = [["bad", "good"][logits_of(text).argmax()] for text in texts]
    assert [row["label"] for row in rows] == expected
    assert [*rows[0]] == ["n", "text", "label", "probability_bad", "probability_good"]


def test_a_glue_submission_is_predicted(tmp_path):
    run = load_exported(write_folder(tmp_path / "onnx", TABLE, task="mrpc"))
    first, second = texts_of([1, 5, 2, 3, 3, 8]), texts_of([4, 2, 2, 6, 1, 9])
    rows = [("index", "#1 ID", "#2 ID", "#1 String", "#2 String")]
    rows += [(str(at), "1", "2", *pair) for at, pair in enumerate(zip(first, second, strict=True))]
    (tmp_path / "MRPC").mkdir()
    lines = "".join("\t".join(row) + "\n" for row in rows)
    (tmp_path / "MRPC" / "test.tsv").write_text(lines, encoding="utf-8")
    (path,) = write_submissions(run, tmp_path, tmp_path / "out")
    labels = [logits_of(f"{one} {two}").argmax() for one, two in zip(first, second, strict=True)]
    assert {*labels} == {0, 1}
    wanted = "".join(f"{at}\t{label}\n" for at, label in enumerate(labels))
    assert path.read_text("utf-8") == f"index\tprediction\n{wanted}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bf16",), "error: --bf16: has no effect with an exported folder; leave it out"),
        (("--batch-size", "0"), "error: --batch-size: 0 is out of range; give at least 1"),
    ],
)
def test_a_flag_that_does_not_apply_is_refused_in_one_line(refused, tmp_path, words, said):
    folder = write_folder(tmp_path / "onnx", TABLE)
    assert refused("predict", folder, "--text", "a", *words) == [said]


def test_accept_without_int8_is_refused_in_one_line(refused):
    said = refused("export", "run", "-o", "onnx", "--no-int8", "--accept")
    assert said == ["error: --accept: has no effect with --no-int8; leave it out"]


def test_a_model_file_that_was_not_exported_is_named(tmp_path):
    folder = write_folder(tmp_path / "onnx", TABLE)
    assert is_exported(folder)
    assert is_exported(folder / "model_int8.onnx")
    assert not is_exported(tmp_path)
    with pytest.raises(UserError, match=r"model_int8.onnx: no such file; .* without --no-int8"):
        load_exported(folder / "model_int8.onnx")


def test_a_folder_may_be_renamed_and_a_changed_file_is_refused(tmp_path, caplog):
    folder = write_folder(tmp_path / "onnx", TABLE).rename(tmp_path / "moved")
    load_exported(folder)
    config = folder / "config.json"
    config.write_text(config.read_text("utf-8").replace("bad", "bat"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config.json: SHA-256 differs"):
        load_exported(folder)
    run = load_exported(folder, accept_changed_files=True)
    assert run.task.label_names == ("bat", "good")
    assert "accepted: config.json" in caplog.text


def test_rows_that_cannot_be_predicted_are_named(tmp_path):
    run = load_exported(write_folder(tmp_path / "onnx", TABLE))
    with pytest.raises(UserError, match="row 12: is without any token"):
        run.predictor.logits([["a", "", "b"]], 32, first_row=11)
    infinite = TABLE * [[1], [1], [np.inf], [1], [1], [1], [1]]
    run = load_exported(write_folder(tmp_path / "infinite", infinite))
    with pytest.raises(DivergedError, match="not finite"):
        run.predictor.logits([["a", "b"]], 32)


def test_a_setting_of_a_newer_version_is_named(tmp_path):
    folder = write_folder(tmp_path / "onnx", TABLE, invented=1)
    with pytest.raises(UserError, match="unknown setting 'invented'"):
        load_exported(folder)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    folder = write_folder(tmp_path / "onnx", TABLE)
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    peaks = []
    for num_rows in (10_000, 100_000):
        source.write_text("text\n" + "a b c d e\n" * num_rows, encoding="utf-8")
        words = ["-m", "plainloop", "predict", folder, source, "-o", out]
        process = subprocess.Popen([sys.executable, *words])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
    assert len(out.read_text("utf-8").splitlines()) == 100_001
    assert peaks[1] < 1.15 * peaks[0], peaks
