"""Pages in other languages, as mkdocs.yml's hook: docs/ko/NAME.md is docs/NAME.md in Korean.

The theme has one language, and one link for each language, for the entire site. Here each page has its
own: the theme's words are in the page's language, and the switch leads to the same page in the other.
"""

import shutil
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify_unicode


def on_config(config: Any) -> None:
    """Keep where each language begins; give headings in Hangul an anchor of their letters."""
    for alternate in config.extra["alternate"]:
        alternate["home"] = alternate["link"]
    config.mdx_configs["toc"]["slugify"] = slugify_unicode


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> None:  # noqa: ARG001 - mkdocs calls it so
    """Set the language of the page that is about to be written, and where its switch leads."""
    folder, _, name = page.file.src_uri.partition("/")
    translated = folder in {alternate["lang"] for alternate in config.extra["alternate"]}
    config.theme["language"] = folder if translated else "en"
    of_english = name if translated else page.file.src_uri
    urls = {file.src_uri: file.url for file in context["pages"]}
    for alternate in config.extra["alternate"]:
        prefix = "" if alternate["lang"] == "en" else f"{alternate['lang']}/"
        alternate["link"] = urls.get(f"{prefix}{of_english}", alternate["home"])


def on_post_build(config: Any) -> None:
    """Put the sitemap next to each language's first page, where the theme's script asks for it."""
    site = Path(config.site_dir)
    for alternate in config.extra["alternate"]:
        beside = (site / alternate["home"]).with_name("sitemap.xml")
        if not beside.exists():
            shutil.copy(site / "sitemap.xml", beside)
