"""The site: built without a warning, no dead link, nothing fetched from elsewhere, a current reference.

Links to other sites are not followed: the tests have no network.
"""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT

FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "object": "data"}


class Page(HTMLParser):
    """What a page links to, what it fetches, and where links to it may lead."""

    def __init__(self, path):
        super().__init__()
        self.links, self.fetched, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given.get("id"), given.get("name")} - {None}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if FETCHED.get(tag) in given and given.get("rel") != "canonical":
            self.fetched.append(given[FETCHED[tag]])


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The built pages by their paths."""
    site = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING -" not in built.stderr
    return {path: Page(path) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_page_of_the_docs_is_built(pages):
    assert len(pages) == len([*(ROOT / "docs").rglob("*.md")]) + 1  # the one for what is not found


@pytest.mark.slow
def test_links_and_anchors_within_the_site_lead_somewhere(pages):
    dead, followed = [], 0
    for path, page in pages.items():
        if path.name == "404.html":  # its links are those of the server's root
            continue
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchored = pages[target].anchors if target in pages else set()
            # An empty anchor, and the theme's own, are the top of a page.
            wanted = unquote(parts.fragment)
            if not target.exists() or (wanted and wanted not in anchored):
                dead.append(f"{path.name}: {link}")
    assert followed > 100
    assert dead == []


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(pages):
    assert all(page.fetched for page in pages.values())
    elsewhere = [
        f"{path.name}: {link}"
        for path, page in pages.items()
        for link in page.fetched
        if urlsplit(link).netloc
    ]
    assert elsewhere == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "language", "switch"),
    [
        ("tutorial.html", "en", ["tutorial.html", "ko/tutorial.html"]),
        ("ko/tutorial.html", "ko", ["../tutorial.html", "tutorial.html"]),
        ("how-to/lora.html", "en", ["lora.html", "../ko/tutorial.html"]),  # not translated
    ],
)
def test_a_page_names_its_language_and_its_switch_leads_to_the_same_page(
    pages, page, language, switch
):
    named = [path for path in pages if path.as_posix().endswith(f"/{page}")]
    text = min(named, key=lambda path: len(path.parts)).read_text(encoding="utf-8")
    assert f'<html lang="{language}"' in text
    assert re.findall(r'<a href="([^"]*)" hreflang=', text) == switch


@pytest.mark.slow
def test_each_section_of_a_translated_page_has_an_anchor_of_its_words(pages):
    (korean,) = (page for path, page in pages.items() if path.parent.name == "ko")
    assert {"데이터", "훈련-루프", "연습-문제"} <= korean.anchors


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli", "configuration", "api"])
def test_a_page_of_the_reference_is_what_the_code_says_now(reference, name, monkeypatch):
    monkeypatch.setattr("sys.argv", ["plainloop"])  # usage lines are made of it
    page = Path(reference.PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert page == getattr(reference, name)(), "run `make quotes`"


@pytest.mark.slow
def test_every_public_name_has_its_place_in_the_reference(pages):
    import plainloop

    (path,) = (path for path in pages if path.name == "api.html")
    documented = {anchor.rpartition(".")[2] for anchor in pages[path].anchors}
    assert [name for name in plainloop.__all__ if name not in documented] == []
