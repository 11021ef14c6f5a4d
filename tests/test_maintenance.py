"""Work on the whole collection: removing what expired in batches, the lease that elects who does, the indexes."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from mongoengine import ListField, StringField
from pymongo.errors import OperationFailure

from flask_mongo_session import Session, SessionDocument
from flask_mongo_session.connection import Connection
from flask_mongo_session.maintenance import (
    MARK_SECONDS,
    NEVER_SECONDS,
    Lease,
    Remover,
    build_in_background,
    ensure_indexes,
    expired_filter,
    index_models,
)

SECOND = dt.timedelta(seconds=1)
MILLISECOND = dt.timedelta(milliseconds=1)


class ShopSession(SessionDocument):
    cart = ListField(StringField())
    meta: ClassVar = {"collection": "sessions", "indexes": ["cart"]}


@pytest.fixture
def connect(database):
    """Makes connections of their own to :func:`database`, as other workers have."""
    return lambda: Connection(lambda: database)


@pytest.fixture
def connection(connect):
    """One worker's connection."""
    return connect()


@pytest.fixture
def now(connection):
    """The database's now."""
    with connection.operation():
        return connection.now()


def models(model=Session, *, ttl=False):
    return index_models(model.index_specs(), ttl=ttl)


# -- removing ---------------------------------------------------------------------------------------------------------


def populate(sessions, now):
    """Everything that a sweep may meet; the ids of what has to stay."""
    spread = [{"expires_at": now - n * MILLISECOND} for n in range(4)]
    equal = [{"expires_at": now - SECOND}] * 7 + [{"expires_at": now - 5 * SECOND}] * 3
    old_marks = [{"expires_at": now - 20 * SECOND, "ended": {"at": now - 20 * SECOND}}] * 3
    odd_marks = [{"expires_at": now - SECOND, "ended": {}}, {"expires_at": now - SECOND, "ended": None}]
    gone = [*spread, *equal, *old_marks, *odd_marks]

    fresh = now - SECOND
    marks = [{"expires_at": fresh, "ended": {"at": fresh}}] * 5
    marks += [{"expires_at": now - n * SECOND, "ended": {"at": now - n * SECOND}} for n in range(1, 6)]
    live = [{"expires_at": now + 60 * SECOND}] * 3
    foreign = [{"expires_at": value} for value in (None, "2020-01-01", 0, [])] + [{}]
    kept = [*marks, *live, *foreign]

    documents = [{**document, "_id": str(number)} for number, document in enumerate([*gone, *kept])]
    sessions.insert_many(documents)
    return {document["_id"] for document in documents[len(gone) :]}, len(gone)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 1000])
def test_batches(connection, sessions, now, batch_size):
    """What expired goes, no more than a batch at a time, however many expired in one moment; all else stays."""
    kept, gone = populate(sessions, now)
    counts = list(itertools.islice(Remover(connection, "sessions", batch_size).batches(), 200))

    assert len(counts) < 200
    assert sum(counts) == gone
    assert max(counts) <= batch_size
    assert {document["_id"] for document in sessions.find()} == kept


def test_nothing_to_remove(connection, sessions):
    """An empty collection, or none at all, is one batch of nothing."""
    assert list(Remover(connection, "sessions").batches()) == [0]


def test_expiry_is_a_boundary(connection, sessions, now, move_clock):
    """A session expires at its expiry, not a moment before."""
    sessions.insert_one({"_id": "a", "expires_at": now + 3600 * SECOND})
    move_clock(3599)
    assert sum(Remover(connection, "sessions").batches()) == 0
    move_clock(1)
    assert sum(Remover(connection, "sessions").batches()) == 1


def test_renewed_meanwhile(connection, sessions, now):
    """What is renewed between two batches stays."""
    sessions.insert_many([{"_id": str(n), "expires_at": now - (n + 1) * SECOND} for n in range(4)])
    batches = Remover(connection, "sessions", 1).batches()
    assert next(batches) == 1
    sessions.update_one({"_id": "0"}, {"$set": {"expires_at": now + 60 * SECOND}})

    assert sum(batches) == 2
    assert [document["_id"] for document in sessions.find()] == ["0"]


def test_marks_are_kept(connection, sessions, now, move_clock):
    """What a rotation leaves behind is kept for requests in flight, then removed like the rest."""
    sessions.insert_many([{"_id": str(n), "expires_at": now, "ended": {"at": now}} for n in range(5)])
    move_clock(MARK_SECONDS - 1)
    assert sum(itertools.islice(Remover(connection, "sessions", 2).batches(), 100)) == 0
    move_clock(1)
    assert sum(Remover(connection, "sessions", 2).batches()) == 5


def test_removal_goes_through_the_index(connection, sessions, now):
    """Neither counting nor removing looks at what is alive."""
    ensure_indexes(connection, "sessions", models())
    sessions.insert_many([{"_id": str(n), "expires_at": now + (n - 3) * 60 * SECOND} for n in range(50)])
    plan = sessions.database.command(
        "explain",
        {"delete": "sessions", "deletes": [{"q": expired_filter(now), "limit": 0}]},
        verbosity="executionStats",
    )

    assert "expires_at_1" in str(plan["queryPlanner"]["winningPlan"])
    assert plan["executionStats"]["totalDocsExamined"] == 4


# -- the lease --------------------------------------------------------------------------------------------------------


def test_one_winner(connect, database):
    """Of many workers that ask at once, one sweeps: when the lease is new, and each time it is due again."""
    leases = [Lease(connect(), "sessions", 60) for _ in range(8)]
    barrier = threading.Barrier(len(leases), timeout=20)

    def ask(lease):
        barrier.wait()
        return lease.acquire()

    with ThreadPoolExecutor(len(leases)) as pool:
        for _ in range(8):
            assert sum(pool.map(ask, leases)) == 1
            assert sum(pool.map(ask, leases)) == 0
            database["sessions_lease"].delete_many({})
        for _ in range(8):
            sum(pool.map(ask, leases))
            database["sessions_lease"].update_one(
                {}, {"$set": {"due": dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)}}
            )
            assert sum(pool.map(ask, leases)) == 1


def test_take_over(connect, database, move_clock):
    """When its owner is gone, another worker sweeps in the next interval; the owner notices that it is fenced off."""
    first, second = Lease(connect(), "sessions", 60), Lease(connect(), "sessions", 60)
    assert first.acquire()
    fence = database["sessions_lease"].find_one()["fence"]
    move_clock(50)
    assert not second.acquire()
    assert first.still_ours()
    move_clock(50)
    assert not second.acquire()
    move_clock(10)
    assert second.acquire()

    assert not first.still_ours()
    assert second.still_ours()
    assert not first.acquire()
    assert database["sessions_lease"].find_one()["fence"] == fence + 1


def test_renewing_leaves_a_margin(connect, database, move_clock):
    """A worker whose reading of the clock is a little behind must not take a renewed lease for one that is far off."""
    first, second = Lease(connect(), "sessions", 60), Lease(connect(), "sessions", 60)
    assert first.acquire()
    assert first.still_ours()
    move_clock(-0.5)

    assert not second.acquire()


def test_never_acquired(connect):
    """Whoever has no lease cannot renew one."""
    assert not Lease(connect(), "sessions", 60).still_ours()


def test_a_slower_configuration(connect):
    """A lease that was taken for an hour does not keep workers waiting that are configured for a minute."""
    assert Lease(connect(), "sessions", 3600).acquire()
    quick = Lease(connect(), "sessions", 60)

    assert quick.acquire()
    assert not quick.acquire()


def test_runs_are_kept(connect):
    """The last twenty sweeps can be looked at by every worker, the newest first."""
    lease, other = Lease(connect(), "sessions", 60), Lease(connect(), "sessions", 60)
    assert other.runs() == []
    lease.acquire()
    for count in range(25):
        lease.record(count, 0.12345)

    runs = other.runs()
    assert [run["count"] for run in runs] == list(range(24, 4, -1))
    assert runs[0]["seconds"] == 0.123
    assert runs[0]["at"].utcoffset() == dt.timedelta(0)


def test_lease_lies_beside_the_sessions(connect, sessions, database):
    """The lease never looks like a session."""
    Lease(connect(), "sessions", 60).acquire()

    assert sessions.count_documents({}) == 0
    assert database["sessions_lease"].count_documents({}) == 1


# -- indexes ----------------------------------------------------------------------------------------------------------


def indexes(sessions):
    return {name: index.get("expireAfterSeconds") for name, index in sessions.index_information().items()}


def test_indexes_of_the_model(connection, sessions, commands):
    """The expiry's, the owner's, and those that the model declares; made once, then one command that does nothing."""
    ensure_indexes(connection, "sessions", models(ShopSession))
    information = sessions.index_information()
    assert set(information) == {"_id_", "expires_at_1", "user_id_1", "cart_1"}
    assert information["user_id_1"]["sparse"] is True

    commands.clear()
    ensure_indexes(connection, "sessions", models(ShopSession))
    assert commands.names == ["createIndexes"]


def test_ttl_both_ways(connection, sessions, commands):
    """Switching changes the index in place: from none to TTL, and back to one that waits for ever."""
    for ttl, seconds in (
        (False, None),
        (True, 0),
        (False, NEVER_SECONDS),
        (False, NEVER_SECONDS),
        (True, 0),
    ):
        ensure_indexes(connection, "sessions", models(ttl=ttl))
        assert indexes(sessions)["expires_at_1"] == seconds

    assert "collMod" in commands.names
    assert "dropIndexes" not in commands.names


def test_ttl_from_the_start(connection, sessions):
    """A TTL index on the expiry alone, when it is asked for at once."""
    ensure_indexes(connection, "sessions", models(ShopSession, ttl=True))

    assert indexes(sessions) == {"_id_": None, "expires_at_1": 0, "user_id_1": None, "cart_1": None}


def test_switching_with_other_indexes_missing(connection, sessions):
    """A conflict over the expiry's index does not keep the others from being made."""
    sessions.create_index("expires_at", name="by_hand", expireAfterSeconds=100)
    ensure_indexes(connection, "sessions", models(ShopSession, ttl=True))

    assert indexes(sessions) == {"_id_": None, "by_hand": 0, "user_id_1": None, "cart_1": None}


def test_conflict_over_another_index(connection, sessions):
    """An index that somebody made otherwise is left alone, and the expiry's is there all the same."""
    sessions.create_index("cart", unique=True, name="cart_1")
    with pytest.raises(OperationFailure):
        ensure_indexes(connection, "sessions", models(ShopSession))

    assert "expires_at_1" in indexes(sessions)
    assert indexes(sessions)["expires_at_1"] is None
    assert sessions.index_information()["cart_1"]["unique"] is True


def test_background_failure_is_a_warning(connection, sessions, caplog):
    """An index that cannot be built is a warning that names the command, and no more."""
    sessions.create_index("cart", unique=True, name="cart_1")
    with caplog.at_level(logging.WARNING):
        build_in_background(connection, "sessions", models(ShopSession))
        for thread in threading.enumerate():
            if thread.name == "mongo-session-indexes":
                thread.join(10)

    assert "flask sessions indexes" in caplog.text
