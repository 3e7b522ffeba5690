"""A page in another language has the code, outputs, links and sections of the English page.

Its blocks are not run: equal to blocks that are run, they need no minutes of their own.
"""

import re
from pathlib import Path

import pytest
import quote
from blocks import TRANSLATIONS, blocks_of
from conftest import ROOT

COMMENT = re.compile(r"<!-- .*? -->")
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")
INLINE_CODE = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)

translated = pytest.mark.parametrize(
    ("page", "english"),
    TRANSLATIONS.items(),
    ids=lambda page: str(page.relative_to(ROOT / "docs")),
)


BOTH = {*TRANSLATIONS, *TRANSLATIONS.values()}


def prose_of(page):
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def links_of(page):
    """The files and anchors that a page links to, but for the one page in two languages."""
    found = LINK.findall(prose_of(page))
    linked = {((page.parent / path).resolve(), anchor) for path, anchor in found}
    return {(path, anchor) for path, anchor in linked if path not in BOTH}


def test_the_tutorial_is_there_in_korean():
    assert ROOT / "docs" / "ko" / "tutorial.md" in TRANSLATIONS


@translated
def test_the_blocks_and_outputs_are_those_of_the_english_page_in_its_order(page, english):
    shown, wanted = (
        [(block.language, block.content, block.run_by, block.not_run) for block in blocks_of(of)]
        for of in (page, english)
    )
    for at, (block, same) in enumerate(zip(shown, wanted, strict=False)):
        assert block == same, f"{page.name}, block {at + 1}: copy it from {english}"
    assert len(shown) == len(wanted)


@translated
def test_the_sources_of_numbers_and_outputs_are_those_of_the_english_page(page, english):
    shown, wanted = (COMMENT.findall(of.read_text(encoding="utf-8")) for of in (page, english))
    assert shown == wanted


@translated
def test_a_translated_page_has_the_sections_links_and_names_of_the_english_page(page, english):
    """In the prose a name of code may occur more often, but none is left out."""
    assert HEADING.findall(prose_of(page)) == HEADING.findall(prose_of(english))
    assert links_of(page) == links_of(english)
    named, wanted = ({*INLINE_CODE.findall(prose_of(of))} for of in (page, english))
    assert wanted - named == set()


@translated
def test_both_pages_link_to_each_other_above_the_first_section(page, english):
    for here, other in ((page, english), (english, page)):
        opening = here.read_text(encoding="utf-8").partition("\n## ")[0]
        linked = {(here.parent / path).resolve() for path, _ in LINK.findall(opening)}
        assert other in linked


def test_make_quotes_renews_the_pages_of_both_languages(tmp_path, monkeypatch):
    """The hunks' line numbers of the difference, and an output that was recorded."""
    pages = [Path("docs/tutorial.md"), Path("docs/ko/tutorial.md")]
    (tmp_path / "docs" / "ko").mkdir(parents=True)
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "README.md").write_bytes((ROOT / "README.md").read_bytes())
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        moved = re.sub(
            r"(?<=^@@ -)\d+", lambda line: f"{int(line[0]) + 1}", text, flags=re.MULTILINE
        )
        old = moved.replace("```text\n1377\n```", "```text\n1\n```")
        assert text != moved != old
        (tmp_path / page).write_text(old, encoding="utf-8")
    monkeypatch.setattr(quote, "ROOT", tmp_path)
    quote.renew()
    for page in pages:
        assert (tmp_path / page).read_bytes() == (ROOT / page).read_bytes()
