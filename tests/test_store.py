"""The store by itself: SCS's contract, and that what has expired does not exist, swept or not."""

from __future__ import annotations

import datetime as dt
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from bson import ObjectId
from mongoengine import IntField, ListField

from flask_mongo_session import (
    ConfigurationTypeError,
    InvalidFieldValue,
    MongoSessionStore,
    Session,
    SessionDocument,
    SessionStoreUnavailable,
    SessionTooLarge,
    SetupError,
    UnstorableValue,
    new_session_id,
)
from flask_mongo_session.document import filters
from flask_mongo_session.document.standing import Missing, Standing
from flask_mongo_session.session.state import token_hash

HOUR = dt.timedelta(hours=1)


class CountedSession(SessionDocument):
    n = IntField()
    tags = ListField()
    meta = {"collection": "sessions"}  # noqa: RUF012 - MongoEngine's convention


@pytest.fixture
def make_store(database):
    """Makes bare stores on :func:`database`; their threads end with the test."""
    made = []

    def make(model=Session, **options):
        options = {"database": database, "cleanup_interval": 0, "auto_index": False, **options}
        store = MongoSessionStore(model, **options)
        made.append(weakref.ref(store))
        return store

    yield make
    for reference in made:
        if store := reference():
            store.stop_cleanup()


@pytest.fixture
def bare(make_store):
    """A store without Flask, quiet in the background."""
    return make_store()


def committed(store, data=None, lives=HOUR):
    sid = new_session_id()
    store.commit(sid, {"a": 1} if data is None else data, store.now() + lives)
    return sid


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_find(bare):
    """A committed session is found with its data and its expiry, in aware UTC milliseconds."""
    expires_at = bare.now() + HOUR
    sid = committed(bare, {"a": (1, {2}), "b.c": None})
    found = bare.find(sid)

    assert found.data == {"a": (1, {2}), "b.c": None}
    assert dt.timedelta() <= found.expires_at - expires_at < dt.timedelta(seconds=5)
    assert found.expires_at.utcoffset() == dt.timedelta(0)
    assert found.sid == sid


def test_commit_replaces_whole(bare, sessions):
    """Committing again replaces data and expiry; there is one document."""
    sid = committed(bare, {"a": 1, "b": 2})
    later = bare.now().replace(microsecond=0) + 2 * HOUR
    bare.commit(sid, {"b": 3}, later)

    found = bare.find(sid)
    assert (found.data, found.expires_at) == ({"b": 3}, later)
    assert sessions.count_documents({}) == 1


@pytest.mark.parametrize(("data", "owner"), [({"user_id": 7}, "7"), ({"_user_id": "8", "user_id": 7}, "8"), ({}, None)])
def test_commit_notes_the_owner(bare, sessions, data, owner):
    """Whose session it is follows from its data, or ending all of a user's sessions would pass it over."""
    sid = committed(bare, data)
    assert (bare.find(sid).user_id, sessions.find_one().get("user_id")) == (owner, owner)

    bare.commit(sid, {"a": 1}, bare.now() + HOUR)
    assert bare.find(sid).user_id is None


def test_commit_of_nothing(bare):
    """A session without keys may be stored: this is the store, not the request."""
    assert bare.find(committed(bare, {})).data == {}


def test_commit_of_the_past(bare):
    """A session that is committed expired is not there."""
    sid = committed(bare, lives=-HOUR)

    assert bare.find(sid) is None
    assert bare.all() == {}


def test_delete(bare):
    """Deleted is gone; deleting again, or what never was, is fine."""
    sid, other = committed(bare), committed(bare)
    for _ in range(2):
        bare.delete(sid)
        bare.delete("unknown")

    assert bare.find(sid) is None
    assert set(bare.all()) == {other}


def test_all_and_iterate(bare):
    """Every live session's data by id; nothing for nothing; iterating gives the same one by one."""
    assert bare.all() == {}
    assert list(bare.iterate()) == []

    wanted = {committed(bare, {"n": n, "t": (n,)}): {"n": n, "t": (n,)} for n in range(5)}
    committed(bare, lives=-HOUR)
    assert bare.all() == wanted
    assert dict(bare.iterate()) == wanted
    assert next(iter(bare.iterate()))[0] in wanted


def test_iterate_takes_batches(bare, sessions, commands, monkeypatch):
    """However many there are: never more at once than a batch."""
    monkeypatch.setattr("flask_mongo_session.store._BATCH", 3)
    wanted = {committed(bare, {"n": n}): {"n": n} for n in range(10)}
    for _ in range(5):
        committed(bare, lives=-HOUR)

    commands.clear()
    assert dict(bare.iterate()) == wanted
    assert commands.names == ["find", "getMore", "getMore", "getMore"]

    walk = bare.iterate()
    seen = [next(walk)[0]]
    sessions.delete_many({})
    assert {*seen, *dict(walk)} <= wanted.keys()


def test_an_interrupted_walk_is_no_short_one(bare, sessions, monkeypatch):
    """Where the server cannot go on, iterating raises instead of ending early."""
    monkeypatch.setattr("flask_mongo_session.store._BATCH", 2)
    for n in range(5):
        committed(bare, {"n": n})

    walk = bare.iterate()
    next(walk)
    sessions.drop()
    with pytest.raises(SessionStoreUnavailable):
        list(walk)


def test_damaged_ones_are_not_found(bare, sessions, caplog):
    """What we did not write is passed over, with a warning where it was asked for."""
    good = committed(bare)
    alive = bare.now() + HOUR
    damaged = [
        {"_id": "a", "expires_at": alive, "data": 5},
        {"_id": "b", "expires_at": alive, "data": {"x": {"~t": "pickle", "v": b"x"}}},
        {"_id": "c", "expires_at": "tomorrow", "data": {}},
        {"_id": "d", "data": {}},
        {"_id": "e", "expires_at": alive, "data": {}, "deadline": "never"},
    ]
    sessions.insert_many([*damaged, {"_id": ObjectId(), "expires_at": alive, "data": {}}])

    found = [bare.find(document["_id"]) for document in damaged]
    assert [one and one.data for one in found] == [None, {}, None, None, None]
    assert "damaged" in caplog.text
    assert good in bare.all()
    assert not {"a", "c", "d"} & set(bare.all())
    assert bare.all()["b"] == {}, "a damaged value counts as absent"
    assert all(isinstance(sid, str) for sid in bare.all())


MALFORMED = ["", None, 1, b"x", {"$ne": None}, {"$gt": ""}, ["a"], ObjectId(), True, "\ud800", "a\0b", "x" * 20_000]


@pytest.mark.parametrize("sid", MALFORMED, ids=lambda sid: ascii(sid)[:12])
def test_malformed_ids_are_not_found(bare, sid):
    """What is no session id is not found, by any door, never an error and never an operator."""
    kept = committed(bare)

    assert bare.find(sid) is None
    bare.delete(sid)
    assert bare.repository.delete(sid) is False
    assert set(bare.all()) == {kept}


@pytest.mark.parametrize("sid", ["", None, {"$ne": None}, b"x", "\ud800"], ids=ascii)
def test_malformed_ids_are_not_committed(bare, sid):
    """Storing under what is no session id is the caller's mistake."""
    with pytest.raises(TypeError, match="session id"):
        bare.commit(sid, {}, bare.now() + HOUR)


def test_what_cannot_be_committed(make_store):
    """A naive date, an unstorable or invalid value, too much: refused by name, and nothing changes."""
    store = make_store(CountedSession, max_size=1000)
    sid = committed(store, {"n": 1})
    alive = store.now() + HOUR
    for data, expires_at, error in [
        ({"n": 2}, dt.datetime(2030, 1, 1), ValueError),  # noqa: DTZ001
        ({"x": object()}, alive, UnstorableValue),
        ({"n": "many"}, alive, InvalidFieldValue),
        ({1: 1}, alive, UnstorableValue),
        ({"x": "y" * 2000}, alive, SessionTooLarge),
    ]:
        with pytest.raises(error):
            store.commit(sid, data, expires_at)

    assert store.find(sid).data == {"n": 1}


def with_token(bare, **data):
    """A session that a cookie leads to, as a request stores it."""
    sid, now = new_session_id(), bare.now()
    fields = {"token": token_hash("secret"), "created_at": now, "touched_at": now, "expires_at": now + HOUR}
    assert bare.repository.insert(bare.repository.mapper.document(sid, data or {"a": 1}, fields))
    return sid, token_hash("secret")


def test_expired_is_never_honoured(bare, move_clock, sessions):
    """Expired but not yet swept: no door finds it, changes it, or makes it live again."""
    sid, token = with_token(bare)
    before = sessions.find_one()
    move_clock(HOUR.total_seconds())

    now, repository = bare.now(), bare.repository
    chosen = filters.one_live(sid, token, now)
    found = repository.find(sid, token)
    assert (found.standing, found.reason) == (Standing.GONE, Missing.EXPIRED)
    assert bare.find(sid) is None
    assert bare.all() == dict(bare.iterate()) == {}
    assert repository.update(chosen, {"$set": {"data.a": 2}}) is False
    assert repository.touch(chosen, {"expires_at": now + HOUR}, confirmed=True) is False
    assert repository.end(chosen, now) is False
    assert sessions.find_one() == before


def test_commit_keeps_the_token_of_a_live_session(bare, sessions, move_clock):
    """Data and expiry are replaced; the browser's cookie goes on working, unless the session had expired or ended."""
    sid, token = with_token(bare)
    bare.commit(sid, {"b": 2}, bare.now() + HOUR)
    assert bare.repository.find(sid, token).standing is Standing.LIVE
    assert bare.find(sid).data == {"b": 2}

    move_clock(HOUR.total_seconds() + 1)
    bare.commit(sid, {"c": 3}, bare.now() + HOUR)
    assert bare.repository.find(sid, token).standing is Standing.GONE
    assert bare.find(sid).data == {"c": 3}

    other, token = with_token(bare)
    bare.delete(other)
    bare.commit(other, {"d": 4}, bare.now() + HOUR)
    assert bare.repository.find(other, token, 0.0).standing is Standing.GONE
    assert set(sessions.find_one({"_id": other})) == {"_id", "created_at", "data", "expires_at", "touched_at"}


def test_commits_at_once_over_what_is_over(bare, sessions):
    """Whoever comes second finds a live session where an expired, ended or damaged one was, and replaces it."""
    past = bare.now() - HOUR
    with ThreadPoolExecutor(2) as pool:
        for number in range(60):
            sid = new_session_id()
            over = ({"expires_at": past}, {"expires_at": past, "ended_at": past}, {"expires_at": "never"})[number % 3]
            sessions.insert_one({"_id": sid, "token": b"x", "data": {"old": 1}, **over})
            both = threading.Barrier(2)

            def commit(value, sid=sid, both=both):
                both.wait(10)
                bare.commit(sid, {"v": value}, bare.now() + HOUR)

            list(pool.map(commit, (1, 2)))
            assert bare.find(sid).data in ({"v": 1}, {"v": 2})
            assert set(sessions.find_one({"_id": sid})) == {"_id", "created_at", "data", "expires_at", "touched_at"}


def test_a_foreign_unique_index_is_no_silence(bare, sessions):
    """What somebody else's index refuses was not committed, and is not said to be."""
    sessions.create_index("data.email", unique=True, name="mine")
    try:
        bare.commit(new_session_id(), {"email": "a@b"}, bare.now() + HOUR)
        with pytest.raises(SessionStoreUnavailable):
            bare.commit(new_session_id(), {"email": "a@b"}, bare.now() + HOUR)
    finally:
        sessions.drop_index("mine")


def test_delete_leaves_a_tombstone_where_a_cookie_leads(bare, sessions):
    """A request that began before finds it; a record that only the store knows goes at once."""
    mine, (sid, token) = committed(bare), with_token(bare)
    bare.delete(mine)
    bare.delete(sid)

    (left,) = sessions.find()
    assert set(left) == {"_id", "ended_at", "expires_at"}
    assert bare.repository.find(sid, token).standing is Standing.SUPERSEDED


def test_expiry_is_exact(bare, move_clock):
    """A two-second session lives for two seconds, whatever the host's clock says."""
    sid = committed(bare, lives=dt.timedelta(seconds=2))
    assert bare.find(sid)
    move_clock(1.5)
    assert bare.find(sid)
    move_clock(0.5)
    assert bare.find(sid) is None


def test_a_tombstone_is_kept_for_requests_in_flight(bare, move_clock):
    """It is never found, listed or counted; after 15 minutes the sweep takes it."""
    sid, _ = with_token(bare)
    bare.delete(sid)

    assert bare.find(sid) is None
    assert bare.all() == {}
    assert bare.count_expired() == bare.delete_expired() == 0
    move_clock(899)
    assert bare.count_expired() == bare.delete_expired() == 0
    move_clock(2)
    assert bare.count_expired() == bare.delete_expired() == 1


def test_delete_expired(bare, move_clock, sessions):
    """Removes what has expired and nothing else, says how many, and finds nothing the second time."""
    short = [committed(bare, lives=HOUR / 2) for _ in range(3)]
    live = [committed(bare) for _ in range(2)]
    assert bare.count_expired() == 0
    move_clock(HOUR.total_seconds() / 2 + 1)

    assert bare.count_expired() == len(short)
    assert bare.delete_expired() == len(short)
    assert bare.delete_expired() == bare.count_expired() == 0
    assert {document["_id"] for document in sessions.find()} == set(live)


def test_sweeping_by_hand_is_recorded(bare, move_clock):
    """A scheduled job is seen beside the threads' sweeps, newest first."""
    assert bare.sweeps() == []
    committed(bare)
    move_clock(HOUR.total_seconds() + 1)
    bare.delete_expired()
    list(bare.remove_batches())

    assert [sweep["count"] for sweep in bare.sweeps()] == [0, 1]


def test_counting_is_exact(bare, sessions):
    """What would be removed is counted and removed the same, whatever stands in the dates."""
    now = bare.now()
    for number, ended_at in enumerate([None, now, now - HOUR, "x", {}, now + HOUR]):
        sessions.insert_one({"_id": str(number), "expires_at": now, "ended_at": ended_at})
        sessions.insert_one({"_id": f"live{number}", "expires_at": now + HOUR, "ended_at": ended_at})
    counted = bare.count_expired()

    assert counted == bare.delete_expired() == 4
    assert bare.count_expired() == 0


@pytest.mark.parametrize("interval", [0, 0.0, dt.timedelta(0)])
def test_no_interval_no_thread(make_store, interval):
    """With an interval of 0 nothing is swept, and stopping is fine, twice."""
    store = make_store(cleanup_interval=interval)
    committed(store, lives=-HOUR)

    assert not store.sweeper.running
    store.stop_cleanup()
    store.stop_cleanup()
    assert store.count_expired() == 1


@pytest.mark.parametrize("interval", [30, 30.0, dt.timedelta(seconds=30)])
def test_interval_in_seconds_or_as_timedelta(make_store, interval):
    """A bare store sweeps from its construction on; stopping ends the thread at once, and may be repeated."""
    store = make_store(cleanup_interval=interval)
    assert store.sweeper.interval == 30
    assert store.sweeper.running

    began = time.monotonic()
    store.stop_cleanup()
    store.stop_cleanup()
    assert time.monotonic() - began < 2
    assert not store.sweeper.running
    assert store.find(committed(store)) is not None
    assert not store.sweeper.running


def test_forgotten_store_ends_its_thread(make_store):
    """A store that nobody holds is collected at once, and its thread ends by itself."""
    store = make_store(cleanup_interval=30)
    reference, thread = weakref.ref(store), store.sweeper._thread
    gc.disable()
    try:
        del store
        assert reference() is None
    finally:
        gc.enable()

    thread.join(5)
    assert not thread.is_alive()


def test_sweeps_while_idle(make_store, sessions):
    """With nobody calling, what expires is gone within about an interval, and nothing live with it."""
    store = make_store(cleanup_interval=0.3)
    live = committed(store)
    for _ in range(5):
        committed(store, lives=dt.timedelta(milliseconds=200))
    began = time.monotonic()

    wait_for(lambda: sessions.count_documents({}) == 1, 5)
    assert time.monotonic() - began < 2
    assert sessions.find_one()["_id"] == live
    wait_for(store.sweeps)
    assert {"at", "count", "seconds"} <= set(store.sweeps()[0])


def test_many_workers_one_sweep(make_store, database):
    """Several stores on one collection sweep it once an interval, not once each.

    A second is long enough for the lease's margin to cover how far readings of the clock differ on a busy machine.
    """
    began = time.monotonic()
    stores = [make_store(cleanup_interval=1) for _ in range(4)]
    wait_for(lambda: len(stores[0].sweeps()) >= 3)
    turns = database["sessions_lease"].find_one()["fence"]

    assert turns <= (time.monotonic() - began) / 0.9 + 1


def test_indexes_are_made_in_the_background(make_store, sessions):
    """A bare store makes its model's indexes without being waited for."""
    make_store(auto_index=True)

    wait_for(lambda: {"expires_at_1", "user_id_1"} <= set(sessions.index_information()))
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "mongo-session-indexes"])
    assert sessions.index_information()["user_id_1"]["sparse"] is True


@pytest.mark.parametrize("model", [None, dict, SessionDocument, "Session", Session(id="x")], ids=repr)
def test_no_session_model(database, model):
    """What is no model of sessions is refused, with the fix."""
    with pytest.raises(ConfigurationTypeError, match="SessionDocument"):
        MongoSessionStore(model, database=database, cleanup_interval=0)


def test_without_a_database():
    """A bare store of a model whose alias nobody connected says what is missing at its first use."""

    class NowhereSession(SessionDocument):
        meta = {"collection": "sessions", "db_alias": "nowhere"}  # noqa: RUF012

    store = MongoSessionStore(NowhereSession, cleanup_interval=0, auto_index=False)
    with pytest.raises(SetupError, match=r"database.*'nowhere'"):
        store.find("x")


def test_declared_fields(make_store, sessions):
    """A store of a model with fields keeps them on top and gives them back with the rest."""
    store = make_store(CountedSession)
    sid = committed(store, {"n": 1, "tags": ["a"], "free": 2})

    assert store.find(sid).data == store.all()[sid] == {"n": 1, "tags": ["a"], "free": 2}
    assert sessions.find_one()["n"] == 1


def test_commands(bare, commands):
    """Find is one find, commit one update, delete one delete."""
    sid = committed(bare)
    commands.clear()
    bare.find(sid)
    bare.commit(sid, {}, dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc))
    bare.delete(sid)

    assert commands.names == ["find", "update", "delete"]


def test_writes_wait_for_a_majority(bare, commands):
    """Whatever the client's defaults are, what is acknowledged is kept."""
    committed(bare)
    concern = commands.sent[-1]["writeConcern"]

    assert concern["w"] == "majority"
    assert commands.sent[-1]["maxTimeMS"] > 0


def test_repr(bare):
    """Where it stores, nothing else."""
    assert repr(bare) == "<MongoSessionStore of Session in 'sessions'>"
