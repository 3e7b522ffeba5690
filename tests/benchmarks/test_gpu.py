"""The benchmark for a GPU runs here, too: every comparison and every cell, with a tiny model."""

import json

import gpu
import pytest


def smoke(path):
    done = gpu.main(["--device", "cpu", "--smoke", "--batch-size", "4", "--output", str(path)])
    return done, json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.nightly
def test_it_compares_and_measures_every_way_and_kind_of_rows(tmp_path, capsys):
    done, found = smoke(tmp_path / "gpu.json")
    printed = capsys.readouterr().out
    assert done == 0, printed
    differences = [one["difference"] for one in found["comparisons"].values()]
    assert differences[:2] == [0, 0], "padded and the Trainer"
    assert all(0 < difference < 1e-3 for difference in differences[2:])
    assert len(found["cells"]) == 12
    assert all(len(cell["samples_per_second"]) == 2 for cell in found["cells"].values())
    assert printed.count("equal, bit for bit") == 2
    assert all(name in printed for name in gpu.WAYS)


def test_what_fails_or_differs_is_named_and_the_rest_is_measured(tmp_path, capsys, monkeypatch):
    def train(_, way, kind, steps, *, log):
        if kind == "long":
            raise RuntimeError("out of memory")
        loss = float("nan") if way is gpu.PADDED else 1.0
        records = [{"loss": 1.0, "grad_norm": 1.0}, {"loss": loss, "grad_norm": 1.0}] * (steps // 2)
        return {"steps": records, "samples_per_second": [2.0], "peak_bytes": 3}

    monkeypatch.setattr(gpu.Bench, "make", lambda *_, **__: None)
    monkeypatch.setattr(gpu.Bench, "train", train)
    monkeypatch.setattr(gpu, "replace", lambda way, settings: way)
    done, found = smoke(tmp_path / "gpu.json")
    shown = capsys.readouterr()
    assert done == 1
    assert shown.out.count("NOT within the tolerance") == 2
    assert shown.out.count(" failed") == len(gpu.WAYS)
    assert "long, Trainer, default failed:\nTraceback" in shown.err
    assert len(found["cells"]) == 12
