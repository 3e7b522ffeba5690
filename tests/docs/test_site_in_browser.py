"""The site in a real Chromium: its search finds pages, and no request leaves the machine."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not here"),
]


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path / "site"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    handler = functools.partial(Silent, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_search_finds_a_page_and_nothing_is_fetched_from_elsewhere(address):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1400, "height": 900})
        requested, missing = [], []
        page.on("request", lambda request: requested.append(request.url))
        page.on("response", lambda answer: missing.extend([answer.url] * (answer.status >= 400)))
        for start, word, leads in (
            ("index.html", "bootstrap", ""),
            ("ko/tutorial.html", "난수", "/ko/tutorial.html"),
        ):
            page.goto(f"{address}/{start}")
            page.locator("input.md-search__input").click()
            page.locator("input.md-search__input").press_sequentially(word, delay=50)
            found = page.locator(".md-search-result__item a").first
            found.wait_for(state="attached", timeout=30_000)
            assert found.get_attribute("href").startswith(f"{address}{leads}")
        assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
        assert missing == []
        chromium.close()
