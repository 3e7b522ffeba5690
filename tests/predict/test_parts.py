"""A prediction that is killed resumes by parts, which are used for the same run, rows and flags only."""

import numpy as np
import pytest

from plainloop.errors import UserError
from plainloop.predict import loaded_run
from plainloop.predict.loaded_run import load_run

ROWS = 23  # in chunks of 5
CHUNKS = 5


@pytest.fixture(scope="module")
def folder(tiny_model, tiny_data, tmp_path_factory):
    from tiny import run_tiny

    folder = tmp_path_factory.mktemp("parts") / "run"
    return run_tiny(
        folder, model=str(tiny_model), data_dir=tiny_data, max_steps=2, products="default"
    ).folder


@pytest.fixture
def predict(folder, tmp_path, monkeypatch):
    """Predict a file of pairs, the first `most` chunks; the number of chunks that were computed."""
    monkeypatch.setattr(loaded_run, "ROWS_PER_CHUNK", 5)
    write_rows(tmp_path / "in.csv")

    def predict(output="out.csv", *, most=None, error=KeyboardInterrupt, **flags):
        opened, computed = load_run(flags.pop("run", folder)), []
        logits = opened.predictor.logits

        def counted(texts, batch_size, *, first_row):
            if len(computed) == most:
                raise error("from here on")
            computed.append(first_row)
            return logits(texts, batch_size, first_row=first_row)

        monkeypatch.setattr(opened.predictor, "logits", counted)
        if most is None:
            opened.predict_file([tmp_path / "in.csv"], tmp_path / output, **flags)
        else:
            with pytest.raises(error):
                opened.predict_file([tmp_path / "in.csv"], tmp_path / output, **flags)
        return len(computed)

    return predict


def write_rows(path, first="The cat sees a car"):
    rows = [f"{first if row == 0 else 'a dog'} {'and ' * (row % 4)},the boy" for row in range(ROWS)]
    path.write_text("sentence1,sentence2\n" + "\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_finished_parts_are_not_predicted_again_and_the_file_is_the_same(
    predict, tmp_path, capsys, suffix
):
    assert predict(f"whole.{suffix}") == CHUNKS
    out = tmp_path / f"out.{suffix}"
    assert predict(out.name, most=3) == 3
    assert not out.exists()
    kept = tmp_path / f"{out.name}.parts"
    assert len([*kept.glob("*.npy")]) == 3
    assert capsys.readouterr().err == ""
    assert predict(out.name) == CHUNKS - 3
    assert capsys.readouterr().err == f"Parts          3 of {kept} are kept\n"
    assert out.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert not kept.exists()


def test_parts_of_other_rows_flags_or_another_run_are_made_again(
    predict, tmp_path, capsys, folder, run
):
    predict(most=4)
    for flags in ({"batch_size": 3}, {"on_null": "empty"}, {"run": run(max_steps=1).folder}):
        capsys.readouterr()
        assert predict(most=4, **flags) == 4, flags
        said = capsys.readouterr().err.splitlines()
        assert (
            f"Parts          4 of {tmp_path / 'out.csv.parts'} are of another run, other files "
            in (said[-1])
        ), said
    predict(most=4)
    before = (tmp_path / "in.csv").stat().st_size
    write_rows(tmp_path / "in.csv", "The cat sees a cat")
    assert (tmp_path / "in.csv").stat().st_size == before
    assert predict() == CHUNKS


def test_a_damaged_part_is_predicted_again(predict, tmp_path):
    predict("whole.csv")
    predict(most=4)
    first, second, third, _ = sorted((tmp_path / "out.csv.parts").glob("*.npy"))
    first.write_bytes(first.read_bytes()[:-3])
    second.write_bytes(b"")
    np.save(third, np.array([{}], dtype=object), allow_pickle=True)
    assert predict() == 4
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_text_that_must_be_changed_leaves_no_parts(predict, tmp_path):
    predict(most=2, error=UserError)
    assert [path.name for path in tmp_path.iterdir() if path.name != "run"] == ["in.csv"]


def test_few_rows_and_a_device_have_no_parts(predict, tmp_path, monkeypatch):
    (tmp_path / "null.csv").symlink_to("/dev/null")
    predict("null.csv", most=2)
    monkeypatch.setattr(loaded_run, "ROWS_PER_CHUNK", ROWS)
    predict(most=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "null.csv"]


def test_a_folder_of_that_name_with_other_files_is_left_alone(predict, tmp_path):
    (tmp_path / "out.csv.parts").mkdir()
    (tmp_path / "out.csv.parts" / "mine.txt").touch()
    predict(most=0, error=UserError)
    assert (tmp_path / "out.csv.parts" / "mine.txt").exists()
