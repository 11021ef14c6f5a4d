"""What others do to the database, the connection and the process meanwhile: sessions go on, and the log says what."""

from __future__ import annotations

import logging
import threading

import mongoengine
import pymongo
import pytest
from flask import Flask, session
from mongoengine.connection import get_db
from pymongo.server_api import ServerApi
from waiting import eventually

from flask_mongo_session import MongoSession, MongoSessionStore, Session, signals
from flask_mongo_session.document import mapper
from flask_mongo_session.mongo.operation import MAX_IDLE_SESSIONS
from flask_mongo_session.store import _TRY_AGAIN_SECONDS


def keys_of(collection):
    return {tuple(index["key"]) for index in collection.list_indexes()}


# -- the database ------------------------------------------------------------------------------------------------------


def test_a_dropped_collection_gets_its_indexes_again(make_shop, uri, stored):
    """The next sweep finds none of them and has them built; a page that comes in between is served."""
    shop = make_shop(uri, SESSION_AUTO_INDEX=True, SESSION_CLEANUP_INTERVAL=0.3)
    browser = shop.test_client()
    browser.get("/write/kept/1")
    eventually(lambda: ("expires_at",) in keys_of(stored.sessions), 20, "the indexes")
    before = keys_of(stored.sessions)

    stored.drop_collection("sessions")
    assert browser.get("/write/kept/2").status_code == 200

    eventually(lambda: keys_of(stored.sessions) == before, 20, "the indexes to be back")


def test_a_single_index_that_was_dropped_stays_away(make_shop, uri, stored):
    """Somebody who took one out on purpose, and left the others, is not contradicted."""
    shop = make_shop(uri, SESSION_AUTO_INDEX=True, SESSION_CLEANUP_INTERVAL=0.2)
    shop.test_client().get("/write/kept/1")
    eventually(lambda: ("expires_at",) in keys_of(stored.sessions), 20, "the indexes")
    stored.sessions.drop_index([("user_id", 1)])
    sweeps = len(shop.extensions["mongo_session"].store.sweeps())

    eventually(lambda: len(shop.extensions["mongo_session"].store.sweeps()) >= sweeps + 2, 20, "two sweeps")
    assert ("user_id",) not in keys_of(stored.sessions)


@pytest.mark.parametrize("path", ["/write/n/2", "/login/8", "/logout"])
def test_a_unique_index_of_somebody_elses_is_said_in_the_log(make_shop, uri, stored, caplog, path):
    """What it refuses is a 503 and an error that names the index, never a session that counts as revoked."""
    shop = make_shop(uri)
    browser, other = shop.test_client(), shop.test_client()
    browser.get("/write/n/1")
    browser.get("/login/7")
    other.get("/login/8")
    if path == "/logout":
        other.get("/logout")  # two tombstones have the same user: none
    field = "data.n" if path.startswith("/write") else "user_id"
    stored.sessions.update_many({"user_id": "8"}, {"$set": {"data.n": "2"}})
    stored.sessions.create_index(field, unique=True)
    cookie = browser.get_cookie("session").value

    caplog.clear()
    response = browser.get(path)

    assert response.status_code == 503
    assert path == "/logout" or browser.get_cookie("session").value == cookie
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "a unique index on " in line.getMessage()
    assert "'7'" not in line.getMessage()
    assert shop.extensions["mongo_session"].store.connection.breaker.failures == 0
    stored.sessions.drop_indexes()
    if path != "/logout":
        assert browser.get("/read/n").text == "1"


def test_everything_works_under_the_strict_stable_api(make_shop, uri):
    """Requests, people, figures, sweeps and what ``flask sessions doctor`` finds: no command is refused."""
    with pymongo.MongoClient(uri, server_api=ServerApi("1", strict=True, deprecation_errors=True)) as client:
        shop = make_shop(None, SESSION_MONGODB=client)
        sessions, browser = shop.extensions["mongo_session"].extension, shop.test_client()
        for path in ("/write/a/1", "/count", "/login/7", "/read/a", "/renew", "/logout", "/login/7"):
            assert browser.get(path).status_code == 200

        sessions.store.ensure_indexes()
        findings = {finding.name: finding for finding in sessions.examine()}
        assert findings["server"].verdict == "ok"
        assert findings["indexes"].verdict == "ok"
        assert sessions.figures().live == 1
        assert len(sessions.of_user("7")) == len(sessions.recent()) == len(sessions.store.all()) == 1
        assert len(sessions.export_user("7")["sessions"]) == 1
        assert sessions.revoke_user("7") == 1
        assert sessions.erase_user("7") == 0
        assert sessions.store.delete_expired() >= 0


# -- the connection ----------------------------------------------------------------------------------------------------


@pytest.fixture
def alias(uri):
    """MongoEngine's default alias, on the test's database; whatever a test made of it is gone afterwards."""
    mongoengine.connect(host=uri, uuidRepresentation="standard")
    yield "default"
    mongoengine.disconnect()


@pytest.mark.parametrize("named", [False, True], ids=["the alias's database", "SESSION_MONGODB_DB"])
def test_an_alias_that_is_connected_anew_is_followed(make_shop, uri, stored, alias, named):
    """After ``disconnect()`` and ``connect()`` sessions are where the alias points now; no restart, no error."""
    config = {"SESSION_MONGODB_DB": f"{stored.name}_named"} if named else {}
    shop = make_shop(None, **config)
    browser = shop.test_client()
    browser.get("/write/kept/1")
    old = shop.extensions["mongo_session"].store.connection.client

    mongoengine.disconnect()
    mongoengine.connect(host=uri, uuidRepresentation="standard")
    assert browser.get("/read/kept").text == "1"
    assert shop.extensions["mongo_session"].store.connection.client is get_db().client is not old

    mongoengine.disconnect()
    mongoengine.connect(host=uri.replace(f"/{stored.name}?", f"/{stored.name}_other?"), uuidRepresentation="standard")
    with shop.app_context():
        assert Session.objects.count() == (1 if named else 0)
    assert browser.get("/read/kept").text == ("1" if named else "None")
    get_db().client.drop_database(f"{stored.name}_named")


def test_a_store_follows_its_models_alias(uri, alias):
    """The same without Flask."""
    store = MongoSessionStore(Session, cleanup_interval=0, auto_index=False)
    store.commit("one", {"a": 1}, store.now().replace(year=9999))
    mongoengine.disconnect()
    mongoengine.connect(host=uri, uuidRepresentation="standard")

    assert store.find("one").data == {"a": 1}
    assert store.all() == {"one": {"a": 1}}


def test_one_client_for_a_server_however_many_databases(server):
    """Applications with databases of their own share its connections; another user's or another server's do not."""
    login, at, host = server.uri.partition("//")[2].partition("?")[0].rstrip("/").partition("@")
    plain = [f"mongodb://{host}/{name}?directConnection=true" for name in ("", "one", "two")]
    known = [f"mongodb://{login}{at}{host}/{name}?authSource=admin&directConnection=true" for name in ("one", "two")]
    homes = [f"mongodb://{login}{at}{host}/{name}?directConnection=true" for name in ("one", "two")]
    others = [f"mongodb://{host}/?directConnection=true&appName=other"]

    clients = []
    for uri in (*plain, *known, *homes, *others):
        app = Flask("tests")
        app.config.update(SESSION_MONGODB_URI=uri)
        clients.append(MongoSession(app).store.connection.client)

    assert [list(map(id, clients)).index(id(client)) for client in clients] == [0, 0, 0, 3, 3, 5, 6, 7]


def test_idle_driver_sessions_are_bounded(shop):
    """A hundred operations at once use a hundred sessions of the driver; most of them end afterwards."""
    connection = shop.extensions["mongo_session"].store.connection
    line = threading.Barrier(100)

    def work():
        with connection.operation() as own:
            used.append(own)
            line.wait(20)

    shop.test_client().get("/write/kept/1")
    used = []
    threads = [threading.Thread(target=work) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(set(map(id, used))) == 100
    assert len(connection.idle_sessions) <= MAX_IDLE_SESSIONS
    assert sum(not own.has_ended for own in used) <= MAX_IDLE_SESSIONS


# -- the process -------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_threads():
    """The system gives no thread to anybody: each would want more memory than there is."""
    before = threading.stack_size(1 << 46)
    yield
    threading.stack_size(before)


def test_a_thread_that_cannot_start_is_a_warning_and_tried_again(make_shop, uri, caplog, move_clock, no_threads):
    """Pages are served without the sweeper; once there are threads again, it starts with the next request."""
    before = threading.stack_size(0)
    with pymongo.MongoClient(uri) as client:
        client.admin.command("ping")
        shop = make_shop(None, SESSION_MONGODB=client, SESSION_AUTO_INDEX=True, SESSION_CLEANUP_INTERVAL=60)
        browser, sweeper = shop.test_client(), shop.extensions["mongo_session"].store.sweeper
        threading.stack_size(before)
        assert {browser.get(path).status_code for path in ("/untouched", "/write/kept/1", "/count")} == {200}
        assert not sweeper.running
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len([line for line in warnings if "Could not start a thread" in line]) == 1

        threading.stack_size(0)
        shop.extensions["mongo_session"].store._try_again -= _TRY_AGAIN_SECONDS
        browser.get("/untouched")
        assert sweeper.running


def test_damaged_records_are_logged_once_a_minute_each(shop, stored, caplog, monkeypatch):
    """Two of them are two lines, however often their owners come back; a minute later there are two more."""
    browsers = [shop.test_client() for _ in range(2)]
    for browser in browsers:
        browser.get("/write/kept/1")
    stored.sessions.update_many({}, {"$set": {"expires_at": "soon"}})
    cookies = [browser.get_cookie("session").value for browser in browsers]

    def visit_all():
        caplog.clear()
        for _ in range(3):
            for browser, cookie in zip(browsers, cookies, strict=True):
                browser.set_cookie("session", cookie)
                assert browser.get("/read/kept").text == "None"
        return sorted(record.getMessage().split()[3] for record in caplog.records)

    sids = sorted(cookie.partition(".")[0] for cookie in cookies)
    assert visit_all() == sids
    assert visit_all() == []
    for sid in sids:
        monkeypatch.setitem(mapper._warned, sid, mapper._warned[sid] - mapper._WARN_SECONDS)
    assert visit_all() == sids


def test_a_flood_of_damage_is_remembered_within_bounds(monkeypatch):
    """The oldest is forgotten first, not all of them at once."""
    monkeypatch.setattr(mapper, "_warned", {})
    monkeypatch.setattr(mapper, "_MAX_WARNED", 10)
    for number in range(25):
        mapper.warn_of_damage(str(number), mapper.DamagedDocument("odd"))

    assert list(mapper._warned) == [str(number) for number in range(15, 25)]


HEARD = ("session_created", "session_loaded", "session_updated", "session_regenerated", "session_destroyed")


def test_a_receiver_that_uses_sessions_does_not_recurse(shop, visitor, caplog):
    """Each reads the session, and finds it in the store as well: one call for each event, nothing in the log."""
    calls, store = [], shop.extensions["mongo_session"].store

    def listen(sender, sid=None, **news):
        calls.append(sid)
        assert len(calls) < 100
        assert session is not None
        session.get("kept")
        if sid:
            store.find(sid)

    browser = shop.test_client()
    connected = [getattr(signals, name).connected_to(listen) for name in (*HEARD, "session_rejected")]
    for connection in connected:
        connection.__enter__()
    try:
        for path in ("/write/kept/1", "/read/kept", "/login/7", "/renew", "/count", "/logout"):
            assert browser.get(path).status_code == 200
        browser.set_cookie("session", "forged")
        assert browser.get("/read/kept").status_code == 200
        assert visitor(shop).get("/read/kept").status_code == 200
    finally:
        for connection in connected:
            connection.__exit__(None, None, None)

    assert 6 < len(calls) < 40
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
