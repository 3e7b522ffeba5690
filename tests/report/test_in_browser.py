"""Reports in a real Chromium: nothing runs that is not ours, nothing leaves, all can be read."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest

from plainloop.cli.app import train
from plainloop.config.settings import TrainConfig

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ALERT = "window.hacked=1"
PAYLOADS = [
    f"<script>{ALERT}</script>",
    f"</script><script>{ALERT}</script>",
    f"</style><script>{ALERT}</script>",
    f"</title><script>{ALERT}</script>",
    f"</textarea><script>{ALERT}</script>",
    f"<img src=x onerror={ALERT}>",
    f"\"><img src=x onerror={ALERT}>",
    f"'><img src=x onerror='{ALERT}'>",
    f"<svg onload={ALERT}>",
    f"<svg><script>{ALERT}</script></svg>",
    f"<body onload={ALERT}>",
    f"<iframe src=\"javascript:{ALERT}\"></iframe>",
    "<iframe srcdoc=\"<script>parent.hacked=1</script>\"></iframe>",
    f"<a href=\"javascript:{ALERT}\" autofocus>x</a>",
    f"<details open ontoggle={ALERT}>",
    f"<input autofocus onfocus={ALERT}>",
    f"<video><source onerror={ALERT}></video>",
    f"<audio src=x onerror={ALERT}>",
    f"<object data=\"javascript:{ALERT}\"></object>",
    f"<embed src=\"javascript:{ALERT}\">",
    f"<math><mtext></mtext><script>{ALERT}</script></math>",
    f"<template><script>{ALERT}</script></template>",
    f"<!--><script>{ALERT}</script>-->",
    f"<![CDATA[<script>{ALERT}</script>]]>",
    f"&lt;script&gt;{ALERT}&lt;/script&gt;",
    f"\" onmouseover=\"{ALERT}\" x=\"",
    f"' autofocus onfocus='{ALERT}' x='",
    f"{{{{ {ALERT} }}}}{{% raw %}}",
    f"${{{ALERT}}} $x^2$ $\\frac{{",
    "<meta http-equiv=refresh content=\"0;url=https://example.org\">",
    "<base href=\"https://example.org/\">",
    "<link rel=stylesheet href=\"https://example.org/x.css\">",
    "<style>@import 'https://example.org/x.css';</style>",
    "<form action=\"https://example.org\"><input type=submit></form>",
    f"\u2028<script>{ALERT}</script>\u202e\x1b[31m",
    f"<scr<script>ipt>{ALERT}</scr</script>ipt>",
]  # fmt: skip
OF_ALL = "verdict metrics training curves lengths mistakes data settings environment commands"
OF_LABELS = "confusion labels calibration decision uncertain suspects suspected cv cv-suspected"
KINDS = {
    "classes": {"threshold_metric": "f1", "calibrate": True},
    "several": {"threshold_metric": "f1_macro", "calibrate": True},
    "values": {"problem_type": "regression"},
}
"""By the kind of label: the settings that its run has beside those of all."""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def labels_of(kind, row):
    """Labels that are payloads themselves, so that a model learns little and errs a lot."""
    first, second, third = (PAYLOADS[number] for number in (0, 5, 28))
    if kind == "classes":
        return [first, second][row % 2]
    if kind == "several":
        return [[first], [second, third], [third], []][row % 4]
    return row % 7 / 2


def text_of(row):
    """A text with a third of the payloads, so that the few rows that are listed hold all of them."""
    chosen = random.Random(row).sample(PAYLOADS, len(PAYLOADS) // 3)
    return f"the cat {row} {' and '.join(chosen)}"


@pytest.fixture(scope="module", params=KINDS)
def report(request, tiny_model, tmp_path_factory):
    """The report of a run whose texts, labels and path are full of payloads."""
    folder = tmp_path_factory.mktemp("<img src=x onerror=hacked=1>")
    path = folder / "rows.jsonl"
    lines = [
        json.dumps({"text": text_of(row), "label": labels_of(request.param, row)})
        for row in range(3 * len(PAYLOADS))
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run_folder = folder / "<script>hacked=1<"
    config = TrainConfig(
        train_file=(str(path),),
        validation_file=(str(path),),
        model=str(tiny_model),
        num_train_epochs=1,
        logging_steps=1,
        output_dir=run_folder,
        **KINDS[request.param],
    )
    train(config, cv=None if request.param == "values" else 2)
    return request.param, run_folder / "report.html"


@pytest.fixture
def open_page(browser, report):
    """Open the report at some width; what the console, the network and errors say is noted."""
    contexts = []

    def open_page(width=1440, **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith("data:image/svg+xml") or request.url == page.address
                else page.said.append(request.url)
            ),
        )
        page.address = report[1].as_uri()
        page.goto(page.address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_there_are_enough_payloads():
    assert len(set(PAYLOADS)) >= 30


@pytest.mark.parametrize("width", [390, 1440])
def test_every_section_can_be_read_and_nothing_of_the_data_runs(open_page, report, width):
    page = open_page(width)
    kind, path = report
    assert path.stat().st_size < 2_000_000
    ids = page.eval_on_selector_all("section", "all => all.map(one => one.id)")
    wanted = OF_ALL if kind == "values" else f"{OF_ALL} {OF_LABELS}"
    assert sorted(ids) == sorted(wanted.split())
    for section in page.query_selector_all("section"):
        section.scroll_into_view_if_needed()
        box = section.bounding_box()
        assert box["height"] > 40
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert len(section.inner_text()) > 20
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = "img => [...document.images].every(one => one.complete && one.naturalWidth > 100)"
    assert page.evaluate(shown)
    assert page.evaluate("document.images.length") >= 5
    assert page.evaluate("window.hacked") is None
    assert (
        page.evaluate("document.querySelectorAll('script, style, form, iframe, base').length") == 2
    )
    assert page.said == []


def test_every_payload_is_there_to_be_read(open_page):
    shown = open_page().inner_text("main")
    readable = [payload.replace("\x1b", "\ufffd") for payload in PAYLOADS]
    assert [payload for payload in readable if payload.strip() not in shown] == []


def test_every_number_of_the_page_is_the_one_of_metrics_json(open_page, report):
    page = open_page()
    metrics = json.loads((report[1].parent / "metrics.json").read_text(encoding="utf-8"))
    numbers = page.eval_on_selector_all(
        "data",
        "all => all.map(one => [one.dataset.key, one.dataset.form, one.value, one.textContent])",
    )
    assert len(numbers) > 60
    for path, form, value, text in numbers:
        wanted = metrics
        for key in json.loads(path):
            wanted = wanted[key]
        assert float(value) == wanted
        assert text == format(wanted, form)


def test_no_number_stands_outside_of_that(open_page):
    # Texts of the data, settings, versions and commands are quoted, and not numbers of the run.
    left = open_page().evaluate("""() => {
        for (const one of document.querySelectorAll("data, .verbatim, style, script")) one.remove();
        return document.body.textContent;
    }""")
    assert re.findall(r"(?<![\w])[-+]?\d[\d.,]*%?", left) == []


def test_rows_are_filtered_by_what_is_typed(open_page):
    page = open_page()
    rows = "#mistakes tbody tr"
    before = page.locator(rows).count()
    assert before > 3
    text = page.locator(rows).nth(1).locator(".text").inner_text()
    page.fill("#mistakes input", text.upper())
    assert 1 <= page.locator(f"{rows}:visible").count() < before
    assert page.locator(f"{rows}:visible").first.locator(".text").inner_text() == text
    page.fill("#mistakes input", "no row has this")
    assert page.locator(f"{rows}:visible").count() == 0
    page.fill("#mistakes input", "")
    assert page.locator(f"{rows}:visible").count() == before
    assert page.said == []


def test_rows_are_sorted_by_the_head_that_is_clicked(open_page):
    page = open_page()
    kind = "td:nth-child({}) data", "td:nth-child({})"
    for column in (1, 4):
        of_column = f"#mistakes tbody {kind[column == 1]}".format(column)
        head = page.locator(f"#mistakes th:nth-child({column}) button")
        for order in ("ascending", "descending"):
            head.click()
            values = page.eval_on_selector_all(
                of_column,
                "all => all.map(one => Number(one.value ?? one.textContent.trim().split(' ').pop()))",
            )
            assert values == sorted(values, reverse=order == "descending")
            assert page.get_attribute(f"#mistakes th:nth-child({column})", "aria-sort") == order
    head = page.locator("#mistakes th").last.locator("button")
    head.click()
    texts = page.eval_on_selector_all("#mistakes .text", "all => all.map(one => one.textContent)")
    assert texts == page.evaluate(
        "texts => texts.toSorted((a, b) => a.localeCompare(b, undefined, { numeric: true }))", texts
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_values_are_shown_at_the_nearest_point_and_go_with_the_pointer(open_page, report, width):
    page = open_page(width)
    history = (report[1].parent / "history.jsonl").read_text(encoding="utf-8").splitlines()
    losses = {record["step"]: record["loss"] for record in map(json.loads, history)}
    figure = page.locator("#training figure").first
    figure.scroll_into_view_if_needed()
    shown, image = figure.locator("output"), figure.locator("img").bounding_box()
    hover = json.loads(figure.get_attribute("data-hover"))
    training = next(each for each in hover["series"] if each["name"] == "training loss")
    assert len(training["points"]) == len(losses)
    assert shown.is_hidden()
    for (left, top, *_), (step, loss) in zip(training["points"], losses.items(), strict=True):
        page.mouse.move(image["x"] + left * image["width"], image["y"] + top * image["height"] + 1)
        lines = shown.inner_text().split("\n")
        assert lines[:2] == ["training loss", f"optimizer step: {step}"]
        assert lines[2].endswith(f": {loss:.4g}")
        box = shown.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.mouse.move(1, 1)
    assert shown.is_hidden()
    assert page.said == []


def test_dark_mode_is_dark_and_print_leaves_out_what_is_clicked(open_page):
    dark = open_page(color_scheme="dark")
    background = dark.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background))) < 60
    page = open_page()
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("#mistakes input").is_hidden()
    assert page.locator("#mistakes tbody tr").first.is_visible()


def test_the_page_reads_the_same_without_scripts(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#mistakes input").is_hidden()
    assert page.locator("#mistakes tbody tr").first.is_visible()
    assert Path(page.address).name == "report.html"


def test_the_page_of_several_seeds_is_as_safe_and_its_numbers_are_those_of_the_summary(
    browser, tiny_model, tiny_data, tmp_path
):
    folder = tmp_path / PAYLOADS[0].replace("/", "-")
    settings = {"task": "demo", "model": str(tiny_model), "data_dir": tiny_data}
    train(TrainConfig(**settings, num_train_epochs=1, output_dir=folder), seeds=(2,))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for width in (390, 1440):
        page = browser.new_page(viewport={"width": width, "height": 900})
        said = []
        page.on("console", lambda message: said.append(message.text))  # noqa: B023
        page.on("pageerror", lambda error: said.append(str(error)))  # noqa: B023
        page.goto((folder / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert all(section.is_visible() for section in page.query_selector_all("section"))
        assert page.evaluate("[...document.images].every(one => one.naturalWidth > 100)")
        numbers = page.eval_on_selector_all(
            "data", "all => all.map(one => [one.dataset.key, one.value])"
        )
        assert len(numbers) > 12
        for path, value in numbers:
            wanted = summary
            for key in json.loads(path):
                wanted = wanted[key]
            assert float(value) == wanted
        assert said == []
        page.click("#seeds tbody a")
        assert page.url.endswith("/seed-42/report.html")
        page.close()
