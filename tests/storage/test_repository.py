"""Commands sent to MongoDB, counted exactly."""

from __future__ import annotations

import datetime as dt
import logging
import socket

import pymongo
import pytest
from flask import session

from flask_mongo_session import SessionTooLarge, new_session_id
from flask_mongo_session.document import filters
from flask_mongo_session.document.changes import WIDE, Changes
from flask_mongo_session.document.standing import Missing, Standing
from flask_mongo_session.mongo import clock
from flask_mongo_session.mongo.connection import Connection
from flask_mongo_session.session.state import token_hash
from flask_mongo_session.storage.repository import tombstone

HOUR = dt.timedelta(hours=1)
OURS, OTHER = token_hash("ours"), token_hash("other")


@pytest.fixture
def repository(store):
    """The commands on one record."""
    return store.repository


@pytest.fixture
def stored(repository):
    """Stores a live record whose token is ours, changed by *fields*; its id."""

    def stored(data=None, **fields):
        now, sid = repository.now(), new_session_id()
        whole = {"token": OURS, "created_at": now, "touched_at": now, "expires_at": now + HOUR, **fields}
        assert repository.insert(repository.mapper.document(sid, {"a": 1} if data is None else data, whole))
        return sid

    return stored


@pytest.fixture
def browser(app, commands):
    """A client that has a stored session, with nothing counted yet."""
    browser = app.test_client()
    browser.get("/write/kept/1")
    commands.clear()
    return browser


def test_untouched_request_sends_nothing(browser, commands):
    """A view that never looks at the session costs no command, whatever cookie came."""
    browser.get("/untouched")

    assert commands.names == []


def test_read_sends_one_find(browser, commands):
    """Reading loads the session once, and saving it sends nothing."""
    assert browser.get("/read/kept").text == "1"
    assert commands.names == ["find"]


def test_write_without_reading_sends_one_update(browser, commands):
    """An assignment alone needs no load."""
    browser.get("/write/kept/2")

    assert commands.names == ["update"]
    assert browser.get("/read/kept").text == "2"


def test_read_and_change_sends_find_and_update(browser, commands):
    """A change after a read is one update of that key."""
    assert [browser.get("/count").text for _ in range(2)] == ["1", "2"]
    assert commands.names == ["find", "update"] * 2
    assert set(commands.sent[-1]["updates"][0]["u"]["$set"]) == {"data.count"}


def test_anonymous_read_sends_nothing(app, commands):
    """Without a cookie there is nothing to look for."""
    response = app.test_client().get("/read/kept")

    assert commands.names == []
    assert "Set-Cookie" not in response.headers


def test_anonymous_write_sends_one_insert(app, commands):
    """A new session is one insert."""
    app.test_client().get("/write/kept/1")

    assert commands.names == ["insert"]


@pytest.mark.parametrize("cookie", ["", "garbage", "a.b.c", "x" * 4000, "t\xf6k.s1.sig", ".s1."])
def test_forged_cookie_sends_nothing(app, commands, cookie):
    """The database is not asked about a cookie that we did not sign."""
    browser = app.test_client()
    browser.set_cookie("session", cookie)

    assert browser.get("/read/kept").text == "None"
    assert commands.names == []


def test_log_in_sends_two(browser, commands):
    """A new token is one update of the record."""
    browser.get("/login/7")

    assert commands.names == ["find", "update"]


def test_log_out_sends_one_update(browser, commands):
    """Ending a session needs no load."""
    browser.get("/logout")

    assert commands.names == ["update"]


def test_no_update_ever_creates(browser, commands):
    """Every update of a request is filtered by id, token and expiry, and is no upsert."""
    for path in ("/write/a/1", "/count", "/login/7", "/logout"):
        browser.get(path)

    for command in commands.sent:
        for update in command.get("updates", ()):
            assert {"_id", "token", "expires_at"} <= set(update["q"])
            assert not update.get("upsert")


# -- by themselves ----------------------------------------------------------------------------------------------------


def test_find_is_one_command_and_says_where_the_token_stands(repository, stored, commands):
    """Live, overtaken or gone, with the record as it is."""
    sid = stored()
    commands.clear()
    found = repository.find(sid, OURS)
    assert (found.standing, found.reason, found.record["data"]) == (Standing.LIVE, None, {"a": 1})
    assert commands.names == ["find"]

    assert repository.find(sid, OTHER).standing is Standing.GONE
    assert repository.find(new_session_id(), OURS)[::2] == (Standing.GONE, None)
    previous = {"token": OTHER, "at": repository.now()}
    assert repository.find(stored(previous=previous), OTHER, clock.boottime()).standing is Standing.SUPERSEDED


def test_find_judges_by_when_the_request_began(repository, stored, move_clock):
    """A reading of the monotonic clock, converted once the database's is known; without one it is now."""
    early = clock.boottime()
    sid = stored()
    repository.end({"_id": sid}, repository.now())
    move_clock(600)

    assert repository.find(sid, OURS, early).standing is Standing.SUPERSEDED
    assert repository.find(sid, OURS, clock.boottime()).standing is Standing.GONE
    assert repository.find(sid, OURS).standing is Standing.GONE


@pytest.mark.parametrize(
    ("fields", "reason", "warned"),
    [
        ({"expires_at": "never"}, Missing.DAMAGED, True),
        ({"deadline": 5}, Missing.DAMAGED, True),
        ({"expires_at": dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)}, Missing.EXPIRED, False),
        ({"token": OTHER}, Missing.UNKNOWN, False),
    ],
)
def test_find_says_why_it_is_gone(repository, stored, caplog, *, fields, reason, warned):
    """A damaged record is warned of by its id, without its contents."""
    sid = stored(**fields)
    with caplog.at_level(logging.WARNING):
        assert repository.find(sid, OURS).reason is reason

    assert (sid in caplog.text) is warned
    assert "never" not in caplog.text


def test_nothing_but_the_current_token_of_a_live_session_is_written(repository, stored, sessions):
    """Update, touch and end find nothing else, and none of them ever creates a record."""
    now = repository.now()
    rotated, expired, unknown = stored(token=OTHER), stored(expires_at=now), new_session_id()
    ended = stored()
    repository.end({"_id": ended}, now)
    before = list(sessions.find(sort=[("_id", 1)]))

    for sid in (rotated, expired, ended, unknown):
        chosen = filters.one_live(sid, OURS, now)
        assert not repository.update(chosen, {"$set": {"data.a": 2}})
        assert not repository.update(chosen, [{"$set": {"data.a": 2}}])
        assert not repository.touch(chosen, {"expires_at": now + 2 * HOUR}, confirmed=True)
        assert not repository.end(chosen, now)
    assert list(sessions.find(sort=[("_id", 1)])) == before


def test_an_id_is_given_once(repository, stored, sessions):
    """An insert over a record that is there, live or ended, says so and changes nothing."""
    sid = stored()
    for _ in range(2):
        before = sessions.find_one()
        assert not repository.insert({"_id": sid, "data": {"other": 1}})
        assert sessions.find_one() == before
        repository.end({"_id": sid}, repository.now())


def test_an_end_leaves_two_dates(repository, stored, store):
    """A tombstone, whose expiry no live query ever sees."""
    sid, now = stored(user_id="ada", ip="192.0.2.1", previous={"token": OTHER}), repository.now()
    assert repository.end({"_id": sid}, now)

    assert store.collection.find_one() == {"_id": sid, **tombstone(now)}
    assert tombstone(now) == {"ended_at": now, "expires_at": now - dt.timedelta(seconds=10)}


@pytest.mark.parametrize("wide", [False, True], ids=["one by one", "wide"])
@pytest.mark.parametrize(
    ("value", "operation"),
    [
        ("secret", ("add", 1)),
        (True, ("add", 1)),
        (2**63 - 1, ("add", 1)),
        (-(2**63), ("add", -1)),
        ("secret", ("append", 1, None)),
        ({"secret": 1}, ("append", 1, 3)),
    ],
)
def test_what_cannot_be_computed_is_a_type_error(repository, stored, sessions, *, value, operation, wide):
    """However many keys are written with it: named as a TypeError, the stored value neither changed nor quoted."""
    sid, changes = stored({"v": value}), Changes()
    name, *arguments = operation
    getattr(changes, name)("v", *arguments)
    for number in range(WIDE if wide else 0):
        changes.assign(f"k{number}", number)
    update = repository.mapper.update(sid, changes, {})
    assert isinstance(update, list) is wide

    with pytest.raises(TypeError, match="cannot be incremented or appended to") as raised:
        repository.update({"_id": sid}, update)
    assert "secret" not in str(raised.value)
    assert sessions.find_one()["data"] == {"v": value}


def test_what_no_document_can_hold_is_too_large(repository, stored):
    """The server's own limit, whatever ours is; nothing changes."""
    repository.max_size = 64 * 1024 * 1024
    sid, big = stored({"v": "x" * 9_000_000}), "y" * 9_000_000
    with pytest.raises(SessionTooLarge):
        repository.update({"_id": sid}, {"$set": {"data.w": big}})
    with pytest.raises(SessionTooLarge):
        repository.insert({"_id": new_session_id(), "data": {"v": big, "w": big}})

    assert set(repository.find(sid, OURS).record["data"]) == {"v"}


def test_a_touch_is_never_an_error(repository, stored, commands):
    """It waits for a majority only where a cookie depends on it."""
    chosen, fields = filters.one_live(stored(), OURS, repository.now()), {"expires_at": repository.now() + HOUR}
    commands.clear()
    assert repository.touch(chosen, fields, confirmed=False)
    assert repository.touch(chosen, fields, confirmed=True)
    assert [command["writeConcern"]["w"] for command in commands.sent] == [1, "majority"]


def test_a_touch_of_a_database_that_is_away(repository, stored, monkeypatch):
    """It did not move, and that is all; nobody has to know why."""
    chosen = filters.one_live(stored(), OURS, repository.now())
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pymongo.MongoClient("127.0.0.1", nobody.getsockname()[1], connect=False) as away:
            monkeypatch.setattr(repository, "connection", Connection(lambda: away["shop"], timeout=0.2))
            assert repository.touch(chosen, {"touched_at": chosen["expires_at"]["$gt"]}, confirmed=True) is False


def server_seconds(database, call):
    """How long the server says that it worked on the updates of a call."""
    database.command("profile", 2)
    call()
    database.command("profile", 0)
    entries = list(database["system.profile"].find({"op": "update"}, {"millis": True}))
    database.drop_collection("system.profile")
    return sum(entry["millis"] for entry in entries) / 1000


@pytest.mark.parametrize("left", [1, 500])
def test_thirty_thousand_removals(app, store, database, left):
    """A wide removal costs the server no more than a wide write: what was loaded is replaced by what is left of it."""
    names = [f"key{number}" for number in range(30_000 + left)]
    app.add_url_rule("/fill", "fill", lambda: session.update(dict.fromkeys(names, 1)) or "")
    app.add_url_rule("/empty", "empty", lambda: [session.pop(name) for name in names[left:]] and "")
    seconds = []
    for _ in range(2):
        browser = app.test_client()
        browser.get("/fill")
        seconds.append(server_seconds(database, lambda browser=browser: browser.get("/empty")))
        assert store.collection.find_one()["data"] == dict.fromkeys(names[:left], 1)
        store.collection.delete_many({})

    assert min(seconds) < 0.7


def test_a_wide_removal_keeps_what_came_in_between(app, sessions):
    """What another request added meanwhile stays, removed keys go all the same."""
    names = [f"key{number}" for number in range(300)]
    app.add_url_rule("/fill", "fill", lambda: session.update(dict.fromkeys(names, 1)) or "")
    browser, twin = app.test_client(), app.test_client()

    @app.get("/empty")
    def empty():
        for name in names[1:]:
            session.pop(name)
        twin.get("/write/late/1")
        return ""

    browser.get("/fill")
    twin.set_cookie("session", browser.get_cookie("session").value)
    browser.get("/empty")

    assert sessions.find_one()["data"] == {"key0": 1, "late": "1"}
