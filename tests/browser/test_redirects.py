"""Where a browser really goes with the targets that strangers put into ``next``, and what docs/people.md does then."""

from __future__ import annotations

import typing as t
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest
from flask import Flask
from selenium.webdriver.support.wait import WebDriverWait

from flask_mongo_session import MongoSession

if t.TYPE_CHECKING:
    from conftest import Visitor

pytestmark = pytest.mark.browser

DOCS = Path(__file__).parents[2] / "docs"
SUBMIT = """
const form = document.createElement("form");
form.method = "POST";
form.action = arguments[0];
document.body.append(form);
form.submit();
"""
#: ``EVIL`` is another host; each of these takes a browser there, or looks like it.
HOSTILE = [
    *("//EVIL/", "///EVIL/", "////EVIL/", "/\t/EVIL/", "/\t\\EVIL/", "/\n/EVIL/", "/\r\n/EVIL/", "\t//EVIL/"),
    *("\\\\EVIL/", "/\\EVIL/", "\\/EVIL/", "/\\\\EVIL/", " //EVIL/", "\x01//EVIL/", "\x1f\t//EVIL/", "\x00//EVIL/"),
    *("http://EVIL/", "http:EVIL/", "http:\\\\EVIL/", "ht\ntp://EVIL/", "HTTP:///EVIL/", "//x@EVIL/", "/\u3000/EVIL/"),
    *("//EVIL\\@x", "/\x0b/EVIL/", "javascript:location='http://EVIL/'", "data:text/html,evil", "", ".", "evil"),
]
#: Those that a browser takes for another host's without any doubt.
REAL = HOSTILE[:17]
#: Pages of the application.
OURS = ["/who", "/who?next=//EVIL/", "/who/%09/EVIL/", "/%09/EVIL/", "/who#//EVIL/"]


def page_of(text: str) -> str:
    """The block of the documentation with the check and the view that uses it."""
    start = text.index("from flask import redirect, request\n")
    return text[start : text.index("```", start)]


@pytest.fixture
def shop_app(mongo_server) -> t.Iterator[Flask]:
    """The documented view, in place of the example's application."""
    app = Flask("redirects")
    database = f"redirects_{uuid.uuid4().hex[:12]}"
    app.config.update(
        SECRET_KEY="a secret for tests", SESSION_MONGODB_URI=mongo_server.uri, SESSION_MONGODB_DB=database
    )
    sessions = MongoSession(app)
    [page] = [path for path in DOCS.rglob("*.md") if "def is_ours" in path.read_text(encoding="utf-8")]
    exec(page_of(page.read_text(encoding="utf-8")), {"app": app, "session": __import__("flask").session})  # noqa: S102 - our page

    @app.get("/", defaults={"rest": ""})
    @app.get("/<path:rest>")
    def anywhere(rest):
        return f"here: {rest}"

    yield app
    sessions.store.stop_cleanup()
    sessions.store.collection.database.client.drop_database(database)


def lands(visitor: Visitor, target: str) -> str:
    """Where the browser is after the form was sent, as its address says."""
    visitor.open("/start")
    left = visitor.one("html")
    visitor.driver.execute_script(SUBMIT, f"/confirm?next={quote(target, safe='')}")
    WebDriverWait(visitor.driver, 15).until(lambda driver: driver.find_element("tag name", "html") != left)
    return visitor.driver.current_url


def test_the_documented_check_keeps_browsers_here(visitor: Visitor) -> None:
    """Whatever is in ``next``, nobody ends up on another host; what is ours is followed."""
    evil = visitor.url.replace("127.0.0.1", "localhost").removeprefix("http://")
    gone = {target: lands(visitor, target.replace("EVIL", evil)) for target in HOSTILE}
    assert gone == dict.fromkeys(HOSTILE, f"{visitor.url}/")

    for target in OURS:
        assert lands(visitor, target.replace("EVIL", evil)) == visitor.url + target.replace("EVIL", evil)


def test_a_browser_follows_such_targets(visitor: Visitor) -> None:
    """Without the check it leaves: those above are no inventions."""
    visitor.open("/start")
    hosts = {
        target: visitor.driver.execute_script("return new URL(arguments[0], location.href).host", target)
        for target in REAL
    }

    assert hosts == dict.fromkeys(REAL, "EVIL".lower())
