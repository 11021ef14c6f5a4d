"""The database's clock decides who is logged in; the hosts' clocks may be hours off."""

from __future__ import annotations

import datetime as dt
import time
import types

import flask.sessions
import pytest
from interleaving import live, store_of
from werkzeug.http import parse_date

from flask_mongo_session.web import interface

HOURS = [-2, 2]
SKEW = pytest.mark.parametrize("hours", HOURS)


@pytest.fixture
def wrong_clock(monkeypatch):
    """Sets this host's clock off by so many hours: ``time.time()``, and the dates that cookies are given."""

    def set_off(hours):
        offset, right = dt.timedelta(hours=hours), time.time

        class Wrong(dt.datetime):
            @classmethod
            def now(cls, tz=None):
                return dt.datetime.now(tz) + offset

        monkeypatch.setattr(time, "time", lambda: right() + offset.total_seconds())
        monkeypatch.setattr(flask.sessions, "datetime", Wrong)
        there = types.SimpleNamespace(**{**vars(dt), "datetime": Wrong})
        monkeypatch.setattr(interface, "dt", there)

    return set_off


@pytest.fixture
def make_host(make_web):
    """Makes applications of one database, as on several hosts, whose sessions live for a hundred seconds."""
    return lambda **config: make_web(PERMANENT_SESSION_LIFETIME=100, **config)


@pytest.fixture
def live_through(browse, move_clock, commands):
    """What a browser sees, and what is asked of the database, in the life of a session."""

    def live_through(app):
        browser, seen = browse(app), []
        for seconds, path in [(0, "/write/a/1"), (5, "/read/a"), (8, "/untouched"), (80, "/read/a"), (101, "/read/a")]:
            move_clock(seconds)
            commands.clear()
            seen.append((path, browser.get(path).text, tuple(commands.names), len(browser.brought)))
        return seen

    return live_through


@SKEW
def test_the_same_decisions_on_a_host_whose_clock_is_off(make_host, live_through, wrong_clock, hours):
    """What is alive, what is touched and when a cookie goes out: as on a host with a right clock."""
    right = live_through(make_host())

    wrong_clock(hours)

    assert live_through(make_host()) == right
    assert [text for _, text, _, _ in right] == ["None", "1", "nothing", "1", "None"]


@SKEW
def test_hosts_agree_about_a_session_of_either(make_host, browse, move_clock, wrong_clock, hours):
    """A session made on the host with the wrong clock lives as long on the right one, and the other way round."""
    right, wrong = make_host(), make_host()
    first, second = browse(right), browse(wrong)
    first.get("/write/a/1")
    wrong_clock(hours)
    second.get("/write/a/1")

    move_clock(95)
    for app in (right, wrong):
        for browser in (first, second):
            assert browse(app).get("/all", cookie=browser.cookie).json == {"a": "1"}
    store_of(right).collection.update_many({}, {"$set": {"expires_at": store_of(right).now()}})
    for app in (right, wrong):
        for browser in (first, second):
            assert browse(app).get("/all", cookie=browser.cookie).json == {}


@SKEW
def test_the_stored_dates_are_the_databases(make_host, browse, database, wrong_clock, hours):
    """Nothing of the host's clock gets into the record."""
    wrong_clock(hours)
    app = make_host()
    browse(app).get("/write/a/1")

    (document,) = live(app)
    now = database.client.admin.command("hello")["localTime"].replace(tzinfo=dt.timezone.utc)
    for name, right in [("created_at", now), ("touched_at", now), ("expires_at", now + dt.timedelta(seconds=100))]:
        assert abs(document[name] - right) < dt.timedelta(seconds=10), name


@SKEW
def test_a_sweep_from_a_host_whose_clock_is_off_takes_the_expired_alone(make_host, browse, wrong_clock, hours):
    """Not a session goes early, or stays."""
    wrong_clock(hours)
    app = make_host()
    browse(app).get("/write/a/1")
    browse(app).get("/write/b/1")
    store = store_of(app)
    store.collection.update_one({"data.b": "1"}, {"$set": {"expires_at": store.now() - dt.timedelta(seconds=1)}})

    assert store.delete_expired() == 1
    assert [document["data"] for document in live(app)] == [{"a": "1"}]


@SKEW
def test_a_permanent_cookie_says_how_long_beside_until_when(make_host, wrong_clock, hours):
    """``Max-Age`` is right whatever the host's clock says, and browsers prefer it to ``Expires``."""
    wrong_clock(hours)
    app = make_host(SESSION_PERMANENT=True)

    (line,) = app.test_client().get("/write/a/1").headers.getlist("Set-Cookie")

    attributes = dict(part.strip().partition("=")[::2] for part in line.split(";"))
    assert int(attributes["Max-Age"]) in (99, 100)
    off = parse_date(attributes["Expires"]) - dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=100)
    assert abs(off - dt.timedelta(hours=hours)) < dt.timedelta(seconds=10)


def test_two_seconds_are_two_seconds(make_web, browse):
    """A session with a lifetime of two seconds is there before and gone after, swept or not, in real time."""
    app = make_web(PERMANENT_SESSION_LIFETIME=2, SESSION_REFRESH_EACH_REQUEST=False)
    browse(app).get("/write/warm/up")
    browser, tolerance = browse(app), 0.1
    began = time.monotonic()
    browser.get("/write/a/1")
    stored = time.monotonic()

    alive = True
    while alive:
        asked = time.monotonic()
        alive = browser.get("/read/a").text == "1"
        assert not alive or asked < stored + 2 + tolerance, "honoured too long"

    assert time.monotonic() > began + 2 - tolerance, "gone too early"
    assert store_of(app).collection.count_documents({"data.a": "1"}) == 1, "nobody swept"
    assert browser.get("/change/b/1").status_code == 200
    assert "a" not in browser.get("/all").json
