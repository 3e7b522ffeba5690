"""The Spark block of docs/how-to/many-rows.md, on a real local Spark: pip install pyspark, and Java 17."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from blocks import DOCS, blocks_of

from plainloop.config.settings import TrainConfig
from plainloop.predict.loaded_run import load_run
from plainloop.training.fine_tune import fine_tune

NOUNS = ["cat", "dog", "girl", "boy", "nurse"]


@pytest.mark.nightly
@pytest.mark.slow
def test_the_block_predicts_on_spark_as_the_run_does(tiny_model, tmp_path):
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        pytest.skip("pyspark (pip install pyspark) or Java is not here")
    texts = [f"The {NOUNS[row % 5]} sees {'a car and ' * (row % 4)}a house" for row in range(200)]
    lines = [f"{text},{'yes' if row % 2 else 'no'}\n" for row, text in enumerate(texts)]
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(lines), encoding="utf-8")
    (tmp_path / "new.csv").write_text("text\n" + "\n".join(texts) + "\n", encoding="utf-8")
    fine_tune(
        TrainConfig(
            train_file=(str(tmp_path / "train.csv"),),
            model=str(tiny_model),
            max_steps=8,
            learning_rate=1e-2,
            validation_fraction=0.3,
            output_dir=tmp_path / "runs" / "reviews",
        )
    )
    page = DOCS / "how-to" / "many-rows.md"
    [block] = [block for block in blocks_of(page) if block.language == "python"]
    for call in ("getOrCreate()", "repartition(4)", "mapInPandas(predict", "assign(", "max("):
        assert call in block.content
    (tmp_path / "block.py").write_text(block.content, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "block.py"],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
            "SPARK_LOCAL_IP": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    written = [*Path(tmp_path / "predicted").glob("*.parquet")]
    assert len(written) == 4, "a file for each partition"
    found = {row["text"]: row for path in written for row in pq.read_table(path).to_pylist()}
    assert {*found} == {*texts}
    run = load_run(tmp_path / "runs" / "reviews")
    for text, expected in zip(found, run.predict([*found]), strict=True):
        assert found[text]["label"] == expected["label"]
        assert found[text]["score"] == pytest.approx(max(expected["scores"].values()), abs=1e-5)
