"""The documentation as a site, served as a folder and looked at in a browser: search, narrow windows, both schemes."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from selenium.webdriver.support.wait import WebDriverWait

if t.TYPE_CHECKING:
    from conftest import Visitor

pytestmark = pytest.mark.browser

DOCS = Path(__file__).parents[2] / "docs"
#: Pages with what may be wide: tables, long lines of code, signatures, pictures.
WIDE = {"light": ["tutorial", "reference/configuration"], "dark": ["reference/api", "explanation/request"]}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> t.Iterator[str]:
    """Where the documentation is served, built once: without warnings, and without anything from the network."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-d", str(folder / "doctrees"), str(DOCS)]
    done = subprocess.run([*build, str(folder / "html")], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    handler = functools.partial(Quiet, directory=str(folder / "html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="site")
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(15)


@pytest.fixture
def reader(site: str, visit_site: t.Callable[[str], Visitor]) -> Visitor:
    """Somebody who reads the documentation."""
    return visit_site(site)


@pytest.mark.timeout(180)
def test_search_finds_what_a_reader_types(reader):
    """The index works from a plain file server, and the page about it comes up."""
    reader.open("/search.html?q=revoke_user")
    WebDriverWait(reader.driver, 20).until(lambda _: reader.all("#search-results li a"))

    found = [link.text for link in reader.all("#search-results li a")]
    assert "Find and end a user’s sessions" in found
    reader.open("/search.html?q=SESSION_IDLE_TIMEOUT")
    WebDriverWait(reader.driver, 20).until(lambda _: reader.all("#search-results li a"))
    assert any("Configuration" in link.text for link in reader.all("#search-results li a"))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways(reader, scheme):
    """At 375 pixels what is wide scrolls by itself, in both schemes; nothing is loaded from elsewhere."""
    emulated = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    reader.resize(375)
    for page in WIDE[scheme]:
        reader.open(f"/{page}.html")
        reader.picture(f"docs-{page.replace('/', '-')}-375-{scheme}")
        assert reader.overflow() <= 0, page
        sources = reader.driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert all(source.startswith((reader.url, "data:")) for source in sources), sources
    shade = reader.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", shade)[:3])) < 200) == (scheme == "dark"), shade
