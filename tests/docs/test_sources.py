"""Numbers of speed, score, size and time on the pages are those of the sources that they name."""

import pytest
import sources
from conftest import ROOT

# The reference is made of the code's own defaults and ranges.
PAGES = [
    ROOT / "README.md",
    *(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "reference"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_numbers_of_a_page_are_those_of_their_sources(page):
    text = page.read_text(encoding="utf-8")
    assert sources.renewed(text) == text, "run `make quotes`, or correct the number"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_and_captions_name_the_sources_of_their_numbers(page):
    assert sources.without_source(page.read_text(encoding="utf-8")) == []


def test_many_numbers_have_a_source():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for form, least in ((sources.SOURCED, 15), (sources.NUMBERS, 4), (sources.OUTPUT, 12)):
        assert sum(len(form.findall(text)) for text in texts) >= least


@pytest.mark.parametrize(
    ("page", "right"),
    [
        ("x 0.75<!-- a.json b/1 --> y", "x 0.76<!-- a.json b/1 --> y"),
        ("75.0 %<!-- a.json b/1 -->", "75.8 %<!-- a.json b/1 -->"),
        ("12,345<!-- a.json c --> rows", "54,321<!-- a.json c --> rows"),
        ("1e-03<!-- a.json b/0 -->", "2e-03<!-- a.json b/0 -->"),
        (
            "<!-- numbers: a.json b -->\n| x 9 | y |\n|---|---|\n| 8 | 0.1 `7` +0.2 |\n",
            None,
        ),
        (
            "<!-- numbers: a.json b -->\n| x 9 | y |\n|---|---|\n| 8 | 0.123 to +0.2 |\n",
            "<!-- numbers: a.json b -->\n| x 9 | y |\n|---|---|\n| 8 | 0.002 to +0.8 |\n",
        ),
        (
            "<!-- output: a.json d -->\n```text\nold\n```\n",
            "<!-- output: a.json d -->\n```text\nnew\nlines\n```\n",
        ),
    ],
)
def test_a_changed_number_is_found_and_put_right(page, right, monkeypatch):
    content = {"b": [0.002, 0.758], "c": 54321, "d": "new\nlines\n"}
    monkeypatch.setattr(sources, "load", lambda _: content)
    if right is None:
        with pytest.raises(ValueError, match="numbers"):
            sources.renewed(page)
        return
    assert sources.renewed(page) == right
    assert sources.renewed(right) == right


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("| a | b |\n|---|---|\n| 1 | 0.75 |\n", [" 0.75"]),
        ("| a | b |\n|---|---|\n| 1 | 75 % and `0.5` and 3 epochs |\n", ["75 %"]),
        ("| a | b |\n|---|---|\n| 1 | 0.75<!-- a.json b --> |\n", []),
        ("<!-- no source: limits -->\n| a | b |\n|---|---|\n| 1 | 10 s |\n", []),
        ("*A caption, 12 minutes.*\n", ["12 minutes"]),
        ("Prose of 12 minutes.\n", []),
    ],
)
def test_a_number_without_a_source_is_found_in_tables_and_captions(page, found):
    assert [n.strip() for n in sources.without_source(page)] == [n.strip() for n in found]
