"""The signals: each once, after the database confirmed, from the application or the store, without secrets."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest
from flask import session

from flask_mongo_session import MongoSessionStore, Session, new_session_id, signals

HOUR = dt.timedelta(hours=1)
NAMES = [
    "session_created",
    "session_loaded",
    "session_updated",
    "session_regenerated",
    "session_destroyed",
    "session_rejected",
    "sessions_swept",
]


@pytest.fixture
def heard(commands):
    """What was announced: (name, sender, arguments), and how many commands had been sent by then."""
    heard = []
    with contextlib.ExitStack() as stack:
        for name in NAMES:

            def receiver(sender, name=name, **arguments):
                heard.append((name, sender, arguments, len(commands.names)))

            stack.enter_context(getattr(signals, name).connected_to(receiver))
        yield heard


@pytest.fixture
def browser(app):
    """A client of an application with a view for everything that is announced."""

    def end():
        session["other"] = session.pop("a", None)
        session.clear()
        return ""

    app.add_url_rule("/regenerate", "regenerate", lambda: session.regenerate() or "")

    def anew():
        session.clear()
        session["b"] = 1
        return ""

    app.add_url_rule("/leave", "leave", lambda: session.pop("user_id"))
    app.add_url_rule("/confirm", "confirm", lambda: session.confirm() or "")
    app.add_url_rule("/anew", "anew", anew)
    app.add_url_rule("/twice", "twice", lambda: f"{session.get('a')} {session.get('b')}")
    app.add_url_rule("/permanent", "permanent", lambda: setattr(session, "permanent", True) or "")
    app.add_url_rule("/end", "end", end)
    app.add_url_rule("/merge/<token>", "merge", lambda token: session.merge(token) or "")
    return app.test_client()


def sid_of(browser):
    return token_of(browser).partition(".")[0]


def token_of(browser):
    """What ``session.token`` says: id and secret."""
    return browser.get_cookie("session").value.rsplit(".", 2)[0]


def names(heard):
    return [name for name, *_ in heard]


def test_created(app, browser, heard):
    """A session that is stored for the first time: its id and its owner, once it is there."""
    browser.get("/write/a/1")
    browser.get("/untouched")
    assert heard == [("session_created", app, {"sid": sid_of(browser), "user_id": None}, 1)]

    heard.clear()
    other = app.test_client()
    other.get("/login/7")
    assert heard[0][:3] == ("session_created", app, {"sid": sid_of(other), "user_id": "7"})
    assert len(heard) == 1


def test_loaded(app, browser, heard):
    """A live session that is read, once a request however often it is looked at."""
    browser.get("/login/7")
    heard.clear()
    browser.get("/twice")

    assert [entry[:3] for entry in heard] == [("session_loaded", app, {"sid": sid_of(browser), "user_id": "7"})]


def test_updated(app, browser, heard, move_clock):
    """Changed keys, by name; a touch is no change, neither is assigning what is there."""
    browser.get("/write/a/1")
    heard.clear()
    browser.get("/write/b/2")
    assert [entry[:3] for entry in heard] == [("session_updated", app, {"sid": sid_of(browser), "keys": {"b"}})]

    heard.clear()
    browser.get("/permanent")
    assert [entry[2]["keys"] for entry in heard] == [set()]

    heard.clear()
    move_clock(61)
    browser.get("/read/a")
    assert names(heard) == ["session_loaded"]


@pytest.mark.parametrize(
    ("path", "reason", "user"),
    [
        ("/regenerate", "regenerate", None),
        ("/login/7", "login", "7"),
        ("/login/8", "switch", "8"),
        ("/leave", "logout", None),
        ("/confirm", "confirm", "7"),
        ("/anew", "clear", None),
    ],
)
def test_regenerated(app, browser, heard, *, path, reason, user):
    """A rotation: the id, which stays, the user, and why; no other signal of an end or a start."""
    browser.get("/write/a/1")
    if reason in ("switch", "logout", "confirm"):
        browser.get("/login/7")
    sid = sid_of(browser)
    heard.clear()
    browser.get(path)

    assert [name for name in names(heard) if name != "session_loaded"] == ["session_regenerated"]
    assert heard[-1][1:3] == (app, {"sid": sid, "user_id": user, "reason": reason})
    assert sid_of(browser) == sid


@pytest.mark.parametrize("path", ["/logout", "/end"])
def test_destroyed(app, browser, heard, path):
    """A log-out, read or not: which session, and why."""
    browser.get("/write/a/1")
    sid = sid_of(browser)
    heard.clear()
    browser.get(path)
    browser.get(path)

    assert [entry[:3] for entry in heard if entry[0] != "session_loaded"] == [
        ("session_destroyed", app, {"sid": sid, "reason": "logout", "actor": None})
    ]


def test_merged(app, browser, heard):
    """The session that was taken over ends, once its values are kept elsewhere."""
    browser.get("/write/a/1")
    other = app.test_client()
    other.get("/write/b/2")
    heard.clear()
    browser.get(f"/merge/{token_of(other)}")

    assert names(heard) == ["session_loaded", "session_loaded", "session_updated", "session_destroyed"]
    assert heard[-1][2] == {"sid": sid_of(other), "reason": "merged", "actor": None}


@pytest.mark.parametrize("reason", ["forged", "unknown", "expired", "damaged"])
def test_rejected(app, browser, heard, sessions, move_clock, *, reason):
    """A cookie that names no live session: why, and which, where that can be believed."""
    browser.get("/write/a/1")
    sid = sid_of(browser)
    if reason == "forged":
        browser.set_cookie("session", "forged", domain="localhost")
    elif reason == "unknown":
        sessions.delete_many({})
    elif reason == "expired":
        move_clock(app.permanent_session_lifetime.total_seconds() + 1)
    else:
        sessions.update_one({}, {"$set": {"data": 1}})
    heard.clear()
    browser.get("/twice")

    sid = None if reason == "forged" else sid
    assert [entry[:3] for entry in heard] == [("session_rejected", app, {"reason": reason, "sid": sid})]


def test_not_rejected(app, browser, heard):
    """Without a cookie there is nothing to reject, nor where a rotation has just been."""
    app.test_client().get("/read/a")
    browser.get("/write/a/1")
    late = app.test_client()
    late.set_cookie("session", browser.get_cookie("session").value)
    browser.get("/login/7")
    heard.clear()
    late.get("/read/a")

    assert heard == []


@pytest.mark.parametrize("how", ["store", "command"])
def test_swept(app, store, heard, move_clock, how):
    """Expired sessions were removed: how many, and in how many seconds, whoever did it."""
    for _ in range(3):
        store.commit(new_session_id(), {}, store.now() + HOUR)
    move_clock(HOUR.total_seconds() + 1)
    if how == "store":
        store.delete_expired()
    else:
        app.test_cli_runner().invoke(args=["sessions-cleanup"])

    assert names(heard) == ["sessions_swept"]
    _, sender, arguments, _ = heard[0]
    assert sender is app
    assert arguments["count"] == 3
    assert arguments["seconds"] >= 0


def test_sender_without_an_application(database, heard):
    """Where there is no application the store speaks for itself."""
    store = MongoSessionStore(Session, database=database, cleanup_interval=0, auto_index=False)
    sid = new_session_id()
    store.commit(sid, {}, store.now() + HOUR)
    store.find(sid)
    store.delete(sid)
    store.delete(sid)
    store.delete_expired()

    assert names(heard) == ["session_loaded", "session_destroyed", "sessions_swept"]
    assert all(sender is store for _, sender, *_ in heard)


def test_failing_receivers(app, browser, heard, sessions, caplog):
    """A receiver that raises loses nothing: not the session, not the others' turn; it is logged."""

    def broken(sender, **arguments):
        raise LookupError("receiver")

    with contextlib.ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(getattr(signals, name).connected_to(broken))
        browser.get("/write/a/1")
        browser.get("/login/7")
        assert browser.get("/read/a").text == "1"
        assert sessions.count_documents({"expires_at": {"$gt": app.extensions["mongo_session"].store.now()}}) == 1
        browser.get("/logout")

    assert browser.get("/read/a").text == "None"
    assert {"session_created", "session_regenerated", "session_destroyed"} <= set(names(heard))
    assert "'session-created'" in caplog.text
    assert "LookupError" in caplog.text


def test_no_secrets(app, browser, heard):
    """No signal carries a token or a value."""
    for path in ("/write/a/secret-value", "/login/7", "/write/a/secret-other", "/regenerate", "/twice"):
        browser.get(path)
        secret = token_of(browser).partition(".")[2]
        assert secret not in repr(heard)
    browser.get("/logout")

    assert "secret" not in repr(heard)


def test_a_receiver_may_read_the_session(app, browser):
    """Hearing that the session was loaded, a receiver finds it loaded: no second command, and no end of calls."""
    seen = []

    def receiver(sender, **arguments):
        seen.append(session.get("a"))

    browser.get("/write/a/1")
    with signals.session_loaded.connected_to(receiver):
        browser.get("/twice")

    assert seen == ["1"]


def test_every_signal_is_tested_here():
    """The list above is the module's."""
    assert sorted(NAMES) == sorted(name for name in vars(signals) if name.startswith("session"))
