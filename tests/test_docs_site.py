"""The documentation site: all pages are built, links work, a browser reads and searches it."""

import functools
import http.server
import importlib.util
import shutil
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "docs" / "build_site.py"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_site", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(builder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    builder.write_pages(folder)
    return folder


@pytest.fixture(scope="module")
def site(builder, pages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    builder.build(pages, folder)
    return folder


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_every_page_is_built_and_commands_and_functions_are_described(builder, site):
    for _, page, _ in builder.PAGES:
        assert (site / page).with_suffix(".html").is_file(), page
    commands = (site / "command-line.html").read_text()
    assert "genebench evaluate" in commands
    assert "--refit" in commands
    functions = (site / "python.html").read_text()
    assert "genebench.evaluate" in functions
    assert "Lake.leaderboard" in functions
    assert "<code>minilm</code>" in (site / "encoders.html").read_text()
    assert 'href="method.html"' in (site / "index.html").read_text()


def test_a_broken_link_ends_the_build(builder, pages, tmp_path):
    shutil.copytree(pages, tmp_path / "pages")
    with (tmp_path / "pages" / "method.md").open("a") as file:
        file.write("\n[nowhere](nowhere.md)\n")
    with pytest.raises(SystemExit):
        builder.build(tmp_path / "pages", tmp_path / "site")


@pytest.mark.parametrize("size", SIZES)
def test_the_site_is_read_and_searched_in_a_browser_without_the_network(browser, address, size):
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    wrong, asked = [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index", "evaluate", "reference", "command-line", "encoders"):
        page.goto(f"{address}{name}.html")
        assert page.locator("h1").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.goto(f"{address}search.html?q=leaderboard")
    page.wait_for_selector("#mkdocs-search-results article")
    assert page.locator("#mkdocs-search-results a").count() > 3
    assert not wrong
    assert {url for url in asked if not url.startswith((address, "data:"))} == set()
    page.close()
