"""The report's page without a browser: its policy, what it says, what it needs."""

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from plainloop.cli import report as command
from plainloop.cli.app import app
from plainloop.cli.flags import run_app
from plainloop.errors import UserError
from plainloop.predict.loaded_run import load_run
from plainloop.report import content, page
from plainloop.report.content import (
    VERDICTS,
    caveats,
    compare_with_baselines,
    main_split,
    readable,
    shown_label,
)
from plainloop.report.end_of_training import write_pages
from plainloop.report.terminal import verdict_notes
from plainloop.run.manifest import write_manifest


def test_the_policy_allows_this_style_and_script_and_nothing_else(run):
    html = page.render_report(load_run(run(num_train_epochs=1).folder))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        [text] = re.findall(rf"<{kind}>(.*?)</{kind}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"\sstyle=|\son\w+=", html)
    assert "http://" not in html
    assert "https://" not in html


def test_the_same_run_gives_the_same_page(run):
    opened = load_run(run(num_train_epochs=1).folder)
    assert page.render_report(opened) == page.render_report(opened)


def test_a_test_file_has_the_verdict(run, tiny_data):
    result = run(num_train_epochs=1, test_file=(str(tiny_data / "test.tsv"),))
    assert main_split(result.metrics) == "test"
    html = page.render_report(load_run(result.folder))
    assert "test rows the accuracy is" in re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html))


def test_a_run_that_was_not_evaluated_has_a_page_that_says_so(run):
    result = run(max_steps=1, eval_strategy="no")
    assert "This run was not evaluated." in page.render_report(load_run(result.folder))


@pytest.mark.slow
def test_rows_that_chose_the_epoch_are_said_to_have_chosen_it(run):
    plain = page.render_report(load_run(run(num_train_epochs=1).folder))
    chosen = run(num_train_epochs=2, load_best_model_at_end=True)
    sentence = "The checkpoint was selected on these rows"
    assert sentence not in plain
    assert sentence in page.render_report(load_run(chosen.folder))


def test_a_run_of_an_older_version_is_a_line(run):
    result = run(max_steps=1)
    path = result.folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    del metrics["analysis"]
    path.write_text(json.dumps(metrics), encoding="utf-8")
    (result.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="has no analysis of the predictions"):
        page.render_report(load_run(result.folder))


def test_without_the_extra_a_training_ends_well_and_says_how_to_get_it(run, monkeypatch, capsys):
    result = run(max_steps=1)
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    write_pages(result.folder)
    said = capsys.readouterr().out.splitlines()[-2:]
    assert said[0].startswith("Report         none: pip install matplotlib, then plainloop report ")
    assert not (result.folder / "report.html").exists()
    assert (result.folder / "README.md").exists()
    with pytest.raises(UserError, match="a report needs the extra report"):
        command.report(result.folder)


@pytest.mark.parametrize(
    ("score", "ends", "verdict"),
    [
        (0.9, (0.8, 0.95), "significantly better"),
        (0.75, (0.65, 0.8), "better"),
        (0.7, (0.6, 0.8), "not better"),
        (0.9, None, "untested"),
    ],
)
def test_the_verdict_is_by_the_lower_end_of_the_interval(score, ends, verdict):
    intervals = {"accuracy": list(ends)} if ends else {}
    of = {"scores": {"accuracy": score}, "intervals": {"scores": intervals}}
    baselines = {"constant": {"accuracy": 0.5}, "linear": {"accuracy": 0.7}}
    found = compare_with_baselines(of, baselines, "accuracy")
    assert found == {"name": "linear", "verdict": verdict, "means": VERDICTS[verdict]}


@pytest.mark.parametrize("constant", [False, True])
def test_the_terminal_says_of_a_run_what_the_verdict_of_its_page_says(run, constant):
    result = run(max_steps=2, load_best_model_at_end=True)
    path = result.folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    of = metrics["analysis"]["validation"]
    of["constant"] = 0 if constant else None
    path.write_text(json.dumps(metrics), encoding="utf-8")
    write_manifest(result.folder)
    opened = load_run(result.folder)
    best = compare_with_baselines(of, metrics["data"]["baselines"], "accuracy")
    notes = verdict_notes(opened, of, "validation", best)
    assert len(notes) == 2 + constant
    text = unescape(re.sub(r"<.*?>", "", page.render_report(opened)))
    verdict = " ".join(text.partition("Verdict")[2].partition("Metrics")[0].split())
    assert best["name"] in verdict
    assert best["means"] in verdict
    assert [note for note in notes[1:] if note not in verdict] == []


def test_leakage_and_few_rows_are_named_beside_the_verdict():
    leak = {"kind": "in_train_too", "count": 2, "message": "validation: 2 rows with a text"}
    scores = {"accuracy": 0.9, "support/yes": 21.0, "support/no": 4.0}
    metrics = {
        "analysis": {"validation": {"rows": 25, "scores": scores}},
        "data": {"findings": [leak, {**leak, "message": "test: 9 rows with a text"}]},
    }
    leakage, small, rare = caveats(metrics, "validation")
    assert leakage.startswith("Leakage, so the score is probably optimistic: validation: 2 rows")
    assert small.startswith("25 rows are too few")
    assert rare.endswith("validation rows, whose metrics are not reliable: no (4).")
    scores["support/no"], leak["count"] = 5.0, 0
    metrics["analysis"]["validation"]["rows"] = 30
    assert caveats(metrics, "validation") == []


def test_the_speed_curve_leaves_out_the_last_short_interval(run, monkeypatch):
    opened = load_run(run(max_steps=5, logging_steps=2).folder)
    drawn = {}
    monkeypatch.setattr(
        content, "figure", lambda caption, _plot, lines, _unit: drawn.update({caption: lines})
    )
    content.draw_training(opened, page.read_metrics(opened), page.read_history(opened))
    assert drawn["speed"][""][0] == [2, 4]
    assert drawn["loss"]["training loss"][0] == [2, 4, 5]


def test_a_page_names_lines_of_the_file_and_the_changed_settings_first(run, tiny_data, tmp_path):
    rows = tmp_path / "rows.csv"
    lines = [f'"the cat {row}\nsat",{row % 2}' for row in range(40)]
    rows.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    files = {"train_file": (str(rows),), "validation_file": (str(rows),)}
    result = run(task=None, data_dir=None, max_steps=1, seed=7, **files)
    first = result.metrics["analysis"]["validation"]["worst"][0]
    assert first["place"] == f"line {2 + 2 * first['row']}"
    html = page.render_report(load_run(result.folder))
    assert f'<td data-name="row" class="verbatim"><bdi>{first["place"]}</bdi></td>' in html
    settings = html.partition('<section id="settings">')[2]
    assert settings.index("<td>seed</td>") < settings.index("<td>learning_rate</td>")
    assert re.search(r"Training time: .*about [\d.]+ seconds on device cpu", html)


def test_of_errors_less_is_better():
    of = {"scores": {"rmse": 0.5}, "intervals": {"scores": {"rmse": [0.4, 0.6]}}}
    found = compare_with_baselines(of, {"mean": {"rmse": 1.0}, "linear": {"rmse": 0.7}}, "rmse")
    assert (found["name"], found["verdict"]) == ("linear", "significantly better")


def test_a_text_is_cut_and_its_invisible_characters_are_shown_as_such():
    assert readable("a\x1bb\x00\nc\ud800") == "a\ufffdb\ufffd\nc\ufffd"
    assert readable("\u202ea\u200d\u2066") == "\u202ea\u200d\u2066", "its <bdi> isolates it"
    assert len(readable("x" * 5000)) == 1001


def test_labels_of_a_row_that_may_have_several_are_named():
    assert shown_label([1, 0, 1], ["a", "b", "c"]) == "a, c"
    assert shown_label([0, 0, 0], ["a", "b", "c"]) == "none"


def commands_of(html_page):
    """The commands that a run's page names, as a shell's words."""
    section = html_page.partition('<section id="commands">')[2]
    shown = re.findall(r'<pre class="verbatim">(.*?)</pre>', section, flags=re.DOTALL)
    return [shlex.split(unescape(line)) for block in shown for line in block.splitlines()]


@pytest.mark.slow
def test_the_commands_on_the_page_run_as_they_stand(tiny_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("a run's folder & more")
    flags = ["--task", "demo", "--model", str(tiny_model), "--data-dir", str(tiny_data)]
    run_app(app, ["train", *flags, "--epochs", "1", "--output-dir", str(folder)])
    Path("new.csv").write_text("sentence1,sentence2\nthe cat,a dog\n", encoding="utf-8")
    commands = commands_of((folder / "report.html").read_text(encoding="utf-8"))
    assert [words[:2] for words in commands] == [
        ["plainloop", name] for name in ("train", "train", "evaluate", "predict", "eject", "report")
    ]
    assert "--resume" in commands[1]
    for words in commands:
        run_app(app, words[1:])
    again = Path(f"{folder}-again")
    assert (again / "history.jsonl").exists()
    weights = [path.joinpath("model.safetensors").read_bytes() for path in (folder, again)]
    assert weights[0] == weights[1]
    assert Path("predicted.csv").read_text(encoding="utf-8").count("\n") == 2
    assert "plainloop" not in [
        line.split()[1]
        for line in Path("train_it.py").read_text("utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]


@pytest.mark.slow
def test_eject_is_named_where_the_run_can_be_ejected(run):
    opened = load_run(run(max_steps=1).folder)

    def names_eject(**settings):
        changed = replace(opened, config=replace(opened.config, **settings))
        return any(words[1] == "eject" for words in commands_of(page.render_report(changed)))

    assert names_eject()
    assert not names_eject(gradient_checkpointing=True)
    assert not names_eject(metric_for_best_model="log_loss")
