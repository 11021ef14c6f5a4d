"""Claims of the security page that no other test holds."""

from __future__ import annotations

import datetime as dt
import sys

import pytest
from flask import session
from flask_login import LoginManager, UserMixin, current_user, login_user
from mongoengine import EmbeddedDocument, GenericEmbeddedDocumentField, StringField

from flask_mongo_session import SessionDocument

#: The settings of the page, each with the finding of the doctor that is about it.
HARDENED = {
    "SECRET_KEY": ("sixteen characters or more", "secret key"),
    "SESSION_COOKIE_NAME": ("__Host-session", "cookie name"),
    "SESSION_COOKIE_SECURE": (True, "cookie Secure"),
    "SESSION_COOKIE_HTTPONLY": (True, "cookie HttpOnly"),
    "SESSION_COOKIE_SAMESITE": ("Lax", "cookie SameSite"),
    "SESSION_IDLE_TIMEOUT": (1800, "idle timeout"),
    "SESSION_ABSOLUTE_LIFETIME": (43200, "absolute lifetime"),
    "SESSION_MAX_PER_USER": ((5, "oldest"), "sessions per user"),
    "SESSION_TRACK_DEVICE": ("truncated", "device"),
}
#: What each of them may be instead.
SOFT = {"SECRET_KEY": "short", "SESSION_COOKIE_NAME": "session", "SESSION_COOKIE_SECURE": False}
SOFT |= {"SESSION_COOKIE_HTTPONLY": False, "SESSION_TRACK_DEVICE": False}


def verdicts(app):
    return {finding.name: finding.verdict for finding in app.extensions["sessions"].examine()}


def test_the_doctor_finds_each_setting_that_is_missing(make_app):
    """All of them are good; each one that is left out alone is found."""
    settings = {key: value for key, (value, _) in HARDENED.items()}
    good = verdicts(make_app(**settings))
    assert {name: good[name] for _, name in HARDENED.values()} == {name: "ok" for _, name in HARDENED.values()}

    for key, (_, name) in HARDENED.items():
        assert verdicts(make_app(**{**settings, key: SOFT.get(key)}))[name] != "ok", key


def test_the_doctor_sees_remember_me_cookies(make_app):
    """A key of Flask-Login's is a note."""
    assert verdicts(make_app(REMEMBER_COOKIE_DURATION=60))["remember-me cookie"] == "note"
    assert verdicts(make_app())["remember-me cookie"] == "ok"


@pytest.fixture
def planted(app):
    """Somebody's own session, planted in another browser, in which Ada logs in; the cookie that Mallory kept."""
    mallory, ada = app.test_client(), app.test_client()
    mallory.get("/write/planted/1")
    kept = mallory.get_cookie("session").value
    ada.set_cookie("session", kept)
    ada.get("/login/ada")
    return mallory, ada


def test_a_token_planted_before_the_log_in_reads_nothing(planted):
    """From the moment of the log-in on, what Mallory knew opens an empty session."""
    mallory, ada = planted

    assert ada.get("/read/user_id").text == "ada"
    assert mallory.get("/read/user_id").text == "None"
    assert mallory.get("/read/planted").text == "None"


@pytest.mark.parametrize(("seconds", "user"), [(5, "None"), (11, "ada")])
def test_a_planted_token_logs_out_for_ten_seconds_only(planted, move_clock, seconds, user):
    """A log-out of a request that the log-in overtook has to win; afterwards an old token ends nothing."""
    mallory, ada = planted
    move_clock(seconds)
    mallory.get("/logout")

    assert ada.get("/read/user_id").text == user


@pytest.mark.parametrize("leave", [None, "/leave", "/logout"], ids=["switch", "log out", "clear"])
def test_the_next_user_gets_nothing_of_the_last(app, leave):
    """One after the other in one browser, with or without a log-out in between: no key of the first is left."""
    app.add_url_rule("/leave", "leave", lambda: session.pop("user_id", None) or "")
    browser = app.test_client()
    for path in ("/login/ada", "/write/secret/hers", "/count"):
        browser.get(path)
    if leave:
        browser.get(leave)
    browser.get("/login/bob")

    assert browser.get("/read/user_id").text == "bob"
    assert browser.get("/read/secret").text == "None"
    assert browser.get("/read/count").text == "None"


def test_a_confirmation_restarts_the_absolute_lifetime(make_app, move_clock, sessions):
    """Whoever proves anew who they are gets a new token and the whole lifetime."""
    app = make_app(SESSION_ABSOLUTE_LIFETIME=1000)
    app.add_url_rule("/login", "login", lambda: session.update(user_id="7") or "")
    app.add_url_rule("/confirm", "confirm", lambda: session.confirm() or "")
    app.add_url_rule("/who", "who", lambda: str(session.get("user_id")))
    browser = app.test_client()
    browser.get("/login")
    cookie, deadline = browser.get_cookie("session").value, sessions.find_one()["deadline"]
    move_clock(900)
    browser.get("/confirm")

    assert browser.get_cookie("session").value != cookie
    assert sessions.find_one()["deadline"] >= deadline + dt.timedelta(seconds=899)
    move_clock(900)
    assert browser.get("/who").text == "7"
    move_clock(101)
    assert browser.get("/who").text == "None"


def test_an_older_value_of_the_same_key_opens_again(make_app, sessions):
    """What encryption does not prevent is said as it is: a value may be put back where it was."""
    app = make_app(SESSION_ENCRYPTION_KEYS=["11" * 32])
    app.add_url_rule("/set/<value>", "put", lambda value: session.update(role=value) or "")
    app.add_url_rule("/role", "role", lambda: str(session.get("role")))
    browser = app.test_client()
    browser.get("/set/staff")
    before = sessions.find_one()["data"]["role"]
    browser.get("/set/guest")
    assert browser.get("/role").text == "guest"
    sessions.update_one({}, {"$set": {"data.role": before}})

    assert browser.get("/role").text == "staff"


class Choice(EmbeddedDocument):
    name = StringField()


class ChoosingSession(SessionDocument):
    choice = GenericEmbeddedDocumentField(choices=(Choice,))
    meta = {"collection": "sessions"}  # noqa: RUF012 - MongoEngine's convention


@pytest.mark.parametrize("name", ["antigravity", "antigravity.webbrowser", "os.system", "builtins.eval", "__main__"])
def test_a_stored_name_imports_nothing(make_app, sessions, name):
    """Whoever writes to the database chooses among what is there: an unknown type is damage, or handed out as it is."""
    app = make_app(ChoosingSession)
    app.add_url_rule("/set", "put", lambda: session.update(free=1, choice=Choice(name="x")) or "")
    app.add_url_rule("/free", "free", lambda: str(session.get("free")))
    app.add_url_rule("/choice", "choice", lambda: type(session.get("choice")).__name__)
    browser = app.test_client()
    browser.get("/set")
    assert browser.get("/choice").text == "Choice"
    sessions.update_one({}, {"$set": {"data.free": {"~t": name, "v": "x"}, "choice._cls": name}})
    before = set(sys.modules)

    assert browser.get("/free").text == "None"
    assert browser.get("/choice").text != "Choice"
    assert set(sys.modules) - before == set()


def test_a_remember_me_cookie_outlives_a_revocation(make_app):
    """Flask-Login's cookie is not kept here: it logs its holder in again, after every session was ended."""
    app = make_app()

    class User(UserMixin):
        id = "7"

    LoginManager(app).user_loader(lambda _user: User())
    app.add_url_rule("/login", "login", lambda: str(login_user(User(), remember=True)))
    app.add_url_rule("/who", "who", lambda: str(current_user.get_id()))
    browser = app.test_client()
    browser.get("/login")
    with app.app_context():
        assert app.extensions["sessions"].revoke_user("7") == 1

    assert browser.get("/who").text == "7"
    browser.delete_cookie("remember_token")
    with app.app_context():
        app.extensions["sessions"].revoke_user("7")
    assert browser.get("/who").text == "None"
