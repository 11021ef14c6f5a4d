"""The how-to pages keep what they say: their examples are run, and then used as a visitor or a developer would."""

from __future__ import annotations

import datetime as dt

import mongoengine
import pytest
from flask import Flask, session
from flask_login import current_user
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from test_docs import DOCS

from flask_mongo_session import EncryptionUnsupported, MongoSession


@pytest.fixture
def follow(mongo_server, mongo_database):
    """Does what a page says, in an application on a database of its own; returns the names that it defines."""
    uri, stores = mongo_server.uri.replace("/?", f"/{mongo_database.name}?"), []

    def do(page):
        app = Flask(page)
        app.config.update(SECRET_KEY="x" * 32, SESSION_MONGODB_URI=uri, SESSION_CLEANUP_INTERVAL=0)
        document = Sybil(parsers=[PythonCodeBlockParser()], encoding="utf-8").parse(DOCS / "howto" / f"{page}.md")
        given = {"app": app, "sessions": MongoSession(app), "mongodb_uri": uri}
        document.namespace.update(given, __name__="__main__")
        for example in document.examples():
            example.evaluate()

        made = [value for value in document.namespace.values() if isinstance(value, Flask)]
        stores.extend(one.extensions["mongo_session"].store for one in made if "mongo_session" in one.extensions)
        return document.namespace

    yield do
    for store in stores:
        store.stop_cleanup()
    mongoengine.disconnect_all()


def make_older(sessions, field, seconds):
    """Move a date of all sessions into the past."""
    earlier = {"$subtract": [f"${field}", seconds * 1000]}
    sessions.store.collection.update_many({field: {"$exists": True}}, [{"$set": {field: earlier}}])


def test_flask_login_page_logs_in_and_out(follow):
    """A cart survives the log-in, a log-out ends the session, "remember me" makes the cookie outlive the browser."""
    browser = follow("flask-login")["app"].test_client()
    with browser.session_transaction() as prepared:
        prepared["cart"] = ["mug"]
    before = browser.get_cookie("session").value
    browser.post("/login", data={"name": "ada", "remember": "on"})

    assert browser.get_cookie("session").value != before
    assert browser.get_cookie("session").expires is not None
    assert browser.get("/account").text == "Hello ada."
    with browser.session_transaction() as kept:
        assert kept["cart"] == ["mug"]
    browser.post("/logout")
    assert browser.get_cookie("session") is None
    assert browser.get("/account").status_code == 302


def test_flask_login_page_logs_out_everywhere_and_asks_again(follow):
    """The other devices are logged out; a log-in that is too long ago is asked for the password, and then let in."""
    names = follow("flask-login")
    phone, laptop = names["app"].test_client(), names["app"].test_client()
    for browser in (phone, laptop):
        browser.post("/login", data={"name": "ada"})

    assert laptop.post("/logout-everywhere").text == "Logged out on 1 other devices."
    assert phone.get("/account").status_code == 302
    assert laptop.post("/account/delete").text == "Gone."
    make_older(names["sessions"], "authenticated_at", 400)
    assert laptop.post("/account/delete").location == "/password-again"
    laptop.post("/password-again")
    assert laptop.post("/account/delete").text == "Gone."


@pytest.fixture
def ada(follow):
    """The names of the page about Flask-Security, with a user."""
    from flask_security import hash_password

    names = follow("flask-security")
    for app in (names["app"], names["steady"]):
        app.config.update(SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False}, WTF_CSRF_ENABLED=False)
        app.add_url_rule("/cart", "cart", lambda: session.get("cart", []))
        app.add_url_rule("/who", "who", lambda: {"logged in": current_user.is_authenticated})
    with names["app"].app_context():
        names["datastore"].create_user(email="ada@example.com", password=hash_password("correct horse"))
    return names


def log_in_with_cart(app):
    browser = app.test_client()
    with browser.session_transaction() as prepared:
        prepared["cart"] = ["mug"]
    assert browser.post("/login", data={"email": "ada@example.com", "password": "correct horse"}).status_code == 302
    return browser


def change_password(app, user):
    from flask_security.changeable import change_user_password

    def change():
        change_user_password(user, "battery staple", notify=False)
        return "changed"

    app.add_url_rule("/change", "change", change, methods=["POST"])


def test_flask_security_names_sessions_by_the_uniquifier(ada):
    """Its sessions are found by ``fs_uniquifier``; a new password is another user, whose session starts over."""
    user = ada["User"].objects.get()
    change_password(ada["app"], user)
    phone, laptop = log_in_with_cart(ada["app"]), log_in_with_cart(ada["app"])
    assert len(ada["devices_of"](user)) == 2

    assert laptop.post("/change").text == "changed"
    assert laptop.get("/who").json == {"logged in": True}
    assert laptop.get("/cart").json == []
    assert phone.get("/who").json == {"logged in": False}
    assert len(ada["devices_of"](ada["User"].objects.get())) == 1


def test_flask_security_with_a_key_of_ones_own(ada):
    """The cart survives a new password, all other sessions end, and a log-out leaves nothing."""
    change_password(ada["steady"], ada["User"].objects.get())
    phone, laptop = log_in_with_cart(ada["steady"]), log_in_with_cart(ada["steady"])
    user = ada["User"].objects.get()
    assert len(ada["owned"].of_user(user.id)) == 2

    assert laptop.post("/change").text == "changed"
    assert laptop.get("/cart").json == ["mug"]
    assert phone.get("/cart").json == []
    assert len(ada["owned"].of_user(user.id)) == 1
    laptop.post("/logout")
    assert laptop.get("/cart").json == []
    assert ada["owned"].of_user(user.id) == []


def test_oauth_pages_keep_the_state_until_the_user_is_back(follow):
    """Both libraries find in the session what they put there."""
    app = follow("oauth")["app"]
    browser = app.test_client()

    assert browser.get("/login").location.startswith("https://provider.example/authorize?")
    assert browser.get("/oauth/provider").location.startswith("https://provider.example/authorize?")
    with browser.session_transaction() as kept:
        assert {key.partition("_state")[1] for key in kept} == {"_state"}
        assert len(kept) == 2


def test_sockets_follow_the_session(follow):
    """A handler sees what requests store, stores itself, hears of the end, and is nobody's afterwards."""
    names = follow("socketio")
    app, socketio, sessions = names["app"], names["socketio"], names["sessions"]
    browser = app.test_client()
    with browser.session_transaction() as prepared:
        prepared["user_id"] = "ada"

    socket = socketio.test_client(app, flask_test_client=browser)
    socket.emit("message", "hello")
    assert socket.get_received()[0]["args"] == ["ada: hello"]
    with browser.session_transaction() as kept:
        assert kept["messages"] == 1

    sessions.revoke_user("ada")
    assert socket.get_received()[0]["name"] == "ended"
    socket.emit("message", "hello?")
    assert not socket.is_connected()


def test_a_task_leaves_its_result_where_the_page_finds_it(follow):
    """The task is given an id that opens nothing, and its report is there for that visitor alone."""
    names = follow("background")
    names["celery"].conf.task_always_eager = True
    browser, other = names["app"].test_client(), names["app"].test_client()
    with browser.session_transaction() as prepared:
        prepared["user_id"], prepared["cart"] = "ada", ["mug", "teapot"]

    assert browser.get("/report").status_code == 404
    assert browser.post("/report").status_code == 202
    assert browser.get("/report").text == "A report for ada"
    assert other.get("/report").status_code == 404
    assert browser.get("/prices").json == {"total": len("mug") + len("teapot")}


def test_encrypted_values_are_unreadable_and_refuse_arithmetic(follow):
    """The page's application stores sealed values, and says so when the database should compute with them."""
    shop = follow("encryption")["secret_shop"]
    with shop.test_client().session_transaction() as prepared:
        prepared["name"] = "Ada Lovelace"
        with pytest.raises(EncryptionUnsupported):
            prepared.increment("hits")

    stored = shop.extensions["mongo_session"].store.collection.find({}, {"data": True})
    values = [value for document in stored for value in document["data"].values()]
    assert values
    assert all(isinstance(value, bytes) and b"Lovelace" not in value for value in values)


def test_applications_on_one_database_keep_apart(follow):
    """A session of the one is unknown to the other, and each clears up its own."""
    names = follow("several-applications")
    shop, office = (names[name].extensions["mongo_session"] for name in ("shop", "office"))
    tomorrow = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    shop.store.commit("one id", {"cart": ["mug"]}, tomorrow)

    assert office.store.find("one id") is None
    assert shop.store.find("one id").data == {"cart": ["mug"]}
    assert shop.store.collection.name != office.store.collection.name
    shop.store.delete("one id")
