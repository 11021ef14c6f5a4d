"""Cookies as a real browser stores and sends them, among them those that somebody else planted."""

from __future__ import annotations

import typing as t
import uuid

import pytest
from flask import Flask, request, session

from flask_mongo_session import MongoSession

if t.TYPE_CHECKING:
    from conftest import Visitor

pytestmark = pytest.mark.browser

#: No blanks or tabs, and yet white space to Python: alone, as Latin-1, and as UTF-8.
ODD_BLANKS = {"A0": "\xa0", "85": "\x85", "U+2000": "\u2000".encode().decode("latin-1")}


@pytest.fixture
def shop_app(mongo_server) -> t.Iterator[Flask]:
    """An application that plants what a neighbour on a subdomain could plant, in place of the example's."""
    app = Flask("cookies")
    database = f"cookies_{uuid.uuid4().hex[:12]}"
    app.config.update(
        SECRET_KEY="a secret for tests only", SESSION_MONGODB_URI=mongo_server.uri, SESSION_MONGODB_DB=database
    )
    sessions = MongoSession(app)
    app.add_url_rule("/favicon.ico", "icon", lambda: ("", 204))

    @app.get("/login/<user>")
    def login(user):
        session["user_id"] = user
        return user

    @app.get("/plant/<blank>/<value>")
    def plant(blank, value):
        name = f"{ODD_BLANKS[blank]}{app.config['SESSION_COOKIE_NAME']}"
        return "planted", {"Set-Cookie": f"{name}={value}; Path=/who"}

    @app.get("/who")
    def who():
        return str(session.get("user_id"))

    @app.get("/who/sent")
    def sent():
        return ascii(request.environ["HTTP_COOKIE"])

    yield app
    sessions.store.stop_cleanup()
    sessions.store.collection.database.client.drop_database(database)


@pytest.mark.parametrize("blank", ODD_BLANKS)
def test_a_cookie_with_an_odd_blank_before_its_name_is_another_cookie(
    visit: t.Callable[[], Visitor], blank: str
) -> None:
    """Sent before the real one, as that of a longer path is, it is not taken for the session's."""
    mallory, ada = visit(), visit()
    theirs = mallory.open("/login/mallory").driver.get_cookie("session")["value"]
    ada.open("/login/ada").open(f"/plant/{blank}/{theirs}")

    name = ascii(ODD_BLANKS[blank])[1:-1]
    assert ada.open("/who/sent").text.startswith(f"'{name}session={theirs}; session=")
    assert ada.open("/who").text == "ada"


@pytest.fixture
def hardened(shop_app: Flask) -> Flask:
    """The same application with the settings of the security page."""
    shop_app.config.update(SESSION_COOKIE_NAME="__Host-session", SESSION_COOKIE_SECURE=True)

    @shop_app.get("/plant-host/<way>/<value>")
    def plant_host(way, value):
        return "planted", {"Set-Cookie": f"__Host-session={value}; {WAYS[way]}"}

    return shop_app


#: How somebody else may try to set a cookie of that name; browsers refuse each of them.
WAYS = {
    "path": "Path=/who; Secure",
    "domain": "Path=/; Secure; Domain=localhost",
    "plain": "Path=/",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_host_prefix_keeps_planted_cookies_away(hardened: Flask, visit: t.Callable[[], Visitor], way: str) -> None:
    """A session under ``__Host-`` works, and the browser takes no cookie of that name for a path, a domain or http."""
    mallory, ada = visit(), visit()
    for visitor in (mallory, ada):
        visitor.url = visitor.url.replace("127.0.0.1", "localhost")  # where browsers take Secure cookies without TLS
    theirs = mallory.open("/login/mallory").driver.get_cookie("__Host-session")["value"]
    own = ada.open("/login/ada").driver.get_cookie("__Host-session")["value"]
    ada.open(f"/plant-host/{way}/{theirs}")

    assert ada.open("/who/sent").text == f"'__Host-session={own}'"
    assert ada.open("/who").text == "ada"
