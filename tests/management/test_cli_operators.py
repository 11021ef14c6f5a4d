"""``flask sessions …`` for the one on call: find, end, watch, and see who ended what."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from bson import DatetimeMS
from flask import session

from flask_mongo_session import new_session_id
from flask_mongo_session.management.pulse import Pulse
from flask_mongo_session.management.statistics import measure

HOUR = dt.timedelta(hours=1)
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1"  # noqa: E501 - a header
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"


@pytest.fixture
def run(app):
    """Runs a command of the application; the result with its output and exit code."""
    return lambda *words, **options: app.test_cli_runner().invoke(args=["sessions", *words], **options)


@pytest.fixture
def put(store):
    """Stores a live session; its id."""

    def put(sid=None, **fields):
        now = store.now()
        base = {"user_id": "ada", "created_at": now, "touched_at": now, "expires_at": now + HOUR, "token": b"x" * 32}
        known = {name: value for name, value in {**base, **fields}.items() if value is not None}
        sid = sid or new_session_id()
        store.collection.insert_one({"_id": sid, "data": {}, **known})
        return sid

    return put


@pytest.fixture
def listed(run):
    """The ids that a list with these options shows."""
    return lambda *words: [one["sid"] for one in json.loads(run("list", "--json", *words).output)]


# -- list -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--ip", "192.0.2.7"], ["phone", "network"]),
        (["--ip", "192.0.2.0/24"], ["phone", "network"]),
        (["--ip", "192.0.0.0/8"], ["phone", "network"]),
        (["--ip", "2001:db8::/32"], ["desktop"]),
        (["--ip", "203.0.113.9"], []),
        (["--device", "safari"], ["phone"]),
        (["--device", "on iphone"], ["phone"]),
        (["--device", "chrome"], ["desktop"]),
        (["--device", "curl"], ["network"]),
        (["--anonymous"], ["network"]),
        (["--user", "ada", "--device", "Chrome"], ["desktop"]),
        (["--since", "30m"], ["phone", "network"]),
        (["--until", "30m"], ["desktop"]),
        (["--since", "2h", "--until", "30m"], ["desktop"]),
        (["--until", "2001-01-01"], []),
        (["--since", "2001-01-01T00:00Z", "--user", "bob"], []),
        (["--expired"], ["old"]),
        (["--expired", "--anonymous"], []),
    ],
    ids=" ".join,
)
def test_list_by_filters(put, listed, store, words, found):
    """By address or network, device as it is shown, last activity, expiry, and nobody being logged in."""
    now = store.now()
    ids = {
        "phone": put(ip="192.0.2.7", user_agent=IPHONE),
        "desktop": put(ip="2001:db8::7", user_agent=CHROME, touched_at=now - HOUR),
        "network": put(ip="192.0.2.0/24", user_agent="curl/8", user_id=None),
        "old": put(ip="nonsense", expires_at=now - HOUR),
    }
    store.delete(put())

    assert sorted(listed(*words)) == sorted(ids[name] for name in found)


def test_list_shows_the_device_by_name(run, put):
    """As the device page does; for programs, too, beside what the browser sent."""
    put(ip="192.0.2.7", user_agent=IPHONE)

    assert "192.0.2.7 Safari on iPhone" in run("list").output
    (found,) = json.loads(run("list", "--json").output)
    assert (found["device"], found["user_agent"]) == ("Safari on iPhone", IPHONE)


def test_an_empty_list_says_so(run, put):
    """Nobody has to wonder whether the command worked; programs get an empty list."""
    assert run("list").output == "There are no live sessions.\n"
    assert run("list", "--expired").output == "There are no expired sessions.\n"
    assert run("audit").output.startswith("Nobody ended a session")
    assert json.loads(run("audit", "--json").output) == []
    put()
    assert run("list", "--user", "bob").output == "There are no live sessions of this kind.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["list", "--ip", "somewhere"], "192.0.2.0/24"),
        (["list", "--since", "yesterday"], "2026-01-31T12:00"),
        (["list", "--user", "ada", "--anonymous"], "exclude each other"),
        (["revoke"], "SESSION_ID"),
        (["revoke-user"], "USER"),
        (["audit", "--action", "x"], "revoke_all"),
    ],
)
def test_an_error_says_what_to_type(run, words, told):
    """The command's form, and what the option takes; exit code 2."""
    result = run(*words)

    assert result.exit_code == 2
    assert "Usage: " in result.output
    assert told in result.output


# -- ids --------------------------------------------------------------------------------------------------------------


def test_the_beginning_of_an_id_will_do(run, put, listed):
    """Where no other session begins so; otherwise the error lists those that do, and nothing is ended."""
    one, two = put("abcd1" + "x" * 17), put("abcd2" + "x" * 17)
    for words in (["show"], ["revoke"], ["revoke-user", "ada", "--keep"], ["revoke-all", "--yes", "--keep"]):
        ambiguous = run(*words, "abcd")
        assert ambiguous.exit_code == 1
        assert f"may be any of {one}, {two}" in ambiguous.output
        assert "Usage: " in ambiguous.output
        assert run(*words, "nope").exit_code == 1
    put("z" * 22)
    assert "too short" in run("revoke", "z").output
    assert len(listed()) == 3

    assert one in run("show", "abcd1").output
    assert run("revoke", "abcd1").output == "Ended 1 session.\n"
    assert run("revoke-user", "ada", "--keep", "abcd2").output == "Ended 1 session.\n"
    assert listed() == [two]


def test_a_whole_id_is_not_ambiguous(run, put, listed):
    """Though another session's id begins with it."""
    put("abcdef"), put("abcdefg")

    assert run("revoke", "abcdef").output == "Ended 1 session.\n"
    assert listed() == ["abcdefg"]


def test_a_beginning_is_no_pattern(run, put):
    """Dots, stars and dollars are characters of an id that nobody has."""
    put()
    for beginning in ("....", "*", "$gt", ".*.*"):
        assert "There is no live session" in run("revoke", beginning).output


# -- everybody --------------------------------------------------------------------------------------------------------


def test_revoke_all_asks(run, put, listed):
    """Unless told not to; one or several sessions may stay, and whatever is no session ends nothing."""
    mine, other = put(), put()
    put()
    assert run("revoke-all", input="n\n").exit_code == 1
    assert run("revoke-all", "--yes", "--keep", "made-up-id").exit_code == 1
    assert len(listed()) == 3

    asked = run("revoke-all", "--keep", mine, "--keep", other, input="y\n")
    assert "End everybody's sessions but 2? [y/N]" in asked.output
    assert asked.output.endswith("Ended 1 session.\n")
    assert sorted(listed()) == sorted([mine, other])


def test_audit_shows_who_ended_what(app, run, put):
    """A line each, newest first, with filters; for programs as objects with dates."""
    keep = put()
    put(user_id="bob")
    run("revoke", put())
    run("revoke-user", "bob", "--keep", keep)
    app.extensions["sessions"].revoke_user("eve", actor="sven")

    shown = run("audit").output.splitlines()
    assert shown[0].split()[:2] == ["WHEN", "(UTC)"]
    assert [line.split()[2] for line in shown[1:2]] == ["sven"]
    assert f"all but {keep}" in shown[2]
    assert "revoke-user" in shown[2]
    actions = [(["--action", name], count) for name, count in (("revoke", 1), ("revoke_user", 2), ("revoke-user", 2))]
    for words, count in ((["--user", "bob"], 1), (["--actor", "sven"], 1), *actions):
        assert len(json.loads(run("audit", "--json", *words).output)) == count
    assert len(json.loads(run("audit", "--json", "--since", "1h").output)) == 3
    assert json.loads(run("audit", "--json", "--until", "1h").output) == []
    (record,) = json.loads(run("audit", "--json", "--session", "x", "--user", "bob").output) or [None]
    assert record is None


# -- figures ----------------------------------------------------------------------------------------------------------


def test_live_is_not_overestimated(store, put, monkeypatch):
    """Where more has expired than is counted, the sample says how much is live."""
    for name, value in (("EXACT", 50), ("SAMPLE", 400), ("_MAX_COUNT", 100)):
        monkeypatch.setattr(f"flask_mongo_session.management.statistics.{name}", value)
    now = store.now()
    base = {"created_at": now, "touched_at": now, "token": b"x"}
    dates = [now + HOUR] * 100 + [now - HOUR] * 300
    store.collection.insert_many([{"_id": new_session_id(), "expires_at": date, **base} for date in dates])

    figures = measure(store)
    assert figures.expired == 100
    assert figures.estimated
    assert 60 <= figures.live <= 140


def test_a_pulse_tells_what_happened(app, store, put, commands):
    """Created, ended and expired since the last look, whoever did it; one query, and a look at a count."""
    pulse = Pulse(store)
    put(expires_at=store.now() + dt.timedelta(seconds=0.4))
    first = pulse.beat()
    assert (first.live, first.created, first.ended, first.expired, first.seconds) == (1, 0, 0, 0, 0)

    browsers = [app.test_client() for _ in range(4)]
    for browser in browsers:
        browser.get("/login/ada")
    browsers[0].get("/logout")
    app.extensions["sessions"].revoke_user("ada")
    for _ in range(2):
        put()
    time.sleep(0.45)
    commands.clear()
    second = pulse.beat()
    assert commands.names == ["count", "aggregate"]
    assert second[1:5] == (2, 6, 5, 0) or second[1:5] == (2, 6, 4, 1)  # the first one may have been revoked in time

    put()
    assert pulse.beat()[1:5] == (3, 1, 0, 0)
    store.delete_expired()
    assert pulse.beat()[1:5] == (3, 0, 0, 0)


def test_a_pulse_tells_how_many_cookies_were_rejected(make_app):
    """Forged, and of sessions that are over: of all processes, once they have looked whether to sweep."""
    workers = [make_app(SESSION_CLEANUP_INTERVAL=3_600) for _ in range(2)]
    pulse = Pulse(workers[0].extensions["mongo_session"].store)
    assert pulse.beat().rejected == 0

    for app in workers:
        app.add_url_rule("/user", view_func=lambda: session.setdefault("user_id", "ada"))
        browser = app.test_client()
        browser.get("/user")
        app.extensions["sessions"].store.collection.delete_many({})
        browser.get("/user")
        browser.set_cookie("session", "forged")
        for path in ("/user", "/nowhere"):
            browser.get(path)
    assert pulse.beat().rejected == 0

    for app in workers:
        app.extensions["mongo_session"].store._sweep(threading.Event())
    assert pulse.beat().rejected * 3_600 == pytest.approx(2 * 2)


def test_a_pulse_after_the_end_of_very_many(app, store, put, monkeypatch):
    """It looks at a bounded number of records, and still tells how many were ended."""
    monkeypatch.setattr("flask_mongo_session.management.pulse._MOST", 10)
    for _ in range(30):
        put()
    pulse = Pulse(store)
    pulse.beat()
    app.extensions["sessions"].revoke_user("ada")

    assert pulse.beat()[1:5] == (0, 0, 30, 0)
    assert pulse.beat()[1:5] == (0, 0, 0, 0)


def test_watch_prints_a_line_a_second(run, put):
    """A head, and as many lines as wanted."""
    put()
    head, line = run("watch", "--lines", "1").output.splitlines()

    assert head.split() == ["UTC", "live", "created/s", "ended/s", "expired/s", "rejected/s"]
    assert line.split()[1:] == ["1", "0", "0", "0", "-"]


def test_watch_ends_with_ctrl_c(mongo_server, database, tmp_path):
    """Without an error, on a collection that does not even exist."""
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            f"""
            from flask import Flask
            from flask_mongo_session import MongoSession
            app = Flask("watched")
            app.config.update(SECRET_KEY="x", SESSION_MONGODB_URI={mongo_server.uri!r}, SESSION_CLEANUP_INTERVAL=0,
                              SESSION_MONGODB_DB={database.name!r}, SESSION_AUTO_INDEX=False)
            MongoSession(app)
            """
        )
    )
    command = [sys.executable, "-m", "flask", "--app", "app", "sessions", "watch"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout.readline().split()[0] == "UTC"
            assert process.stdout.readline().split()[1:] == ["0", "0", "0", "0", "-"]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()

    assert (process.returncode, errors) == (0, "")


def test_expired_ones_are_told_from_tombstones_by_the_sample(store, monkeypatch):
    """Where too many have expired to look at each: the index counts, the sample says which part are tombstones."""
    for name, value in (("EXACT", 50), ("SAMPLE", 1_000), ("_FEW", 100)):
        monkeypatch.setattr(f"flask_mongo_session.management.statistics.{name}", value)
    now = store.now()
    ended = [{"ended_at": now}] * 300 + [{}] * 300
    store.collection.insert_many([{"_id": new_session_id(), "expires_at": now - HOUR, **fields} for fields in ended])
    store.collection.insert_one({"_id": "far", "expires_at": DatetimeMS(2**60)})

    figures = measure(store)
    assert 200 <= figures.expired <= 400
    assert figures.live == 1
