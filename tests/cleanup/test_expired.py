"""Expired records go, in batches, through the index; everything else stays."""

from __future__ import annotations

import datetime as dt
import itertools
import math

import pytest

from flask_mongo_session import Session
from flask_mongo_session.cleanup.expired import Remover
from flask_mongo_session.document.filters import TOMBSTONE_LIFE, removable
from flask_mongo_session.storage.indexes import ensure_indexes, index_models
from flask_mongo_session.storage.repository import tombstone

SECOND = dt.timedelta(seconds=1)
MILLISECOND = dt.timedelta(milliseconds=1)


def populate(sessions, now):
    """Everything that a sweep may meet; the ids of what has to stay."""
    spread = [{"expires_at": now - n * MILLISECOND} for n in range(4)]
    equal = [{"expires_at": now - SECOND}] * 7 + [{"expires_at": now - 5 * SECOND}] * 3
    old = [tombstone(now - 901 * SECOND)] * 3
    odd = [{"expires_at": now - SECOND, "ended_at": odd} for odd in ({}, None, "x")]
    gone = [*spread, *equal, *old, *odd]

    marks = [tombstone(now - SECOND)] * 5 + [tombstone(now - n * 60 * SECOND) for n in range(1, 6)]
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
    """A session expires at its expiry, not before; each time the clock is read it may be some milliseconds off."""
    sessions.insert_one({"_id": "a", "expires_at": now + 3600 * SECOND})
    move_clock(3598)
    assert sum(Remover(connection, "sessions").batches()) == 0
    move_clock(3)
    assert sum(Remover(connection, "sessions").batches()) == 1


def test_renewed_meanwhile(connection, sessions, now):
    """What is renewed between two batches stays."""
    sessions.insert_many([{"_id": str(n), "expires_at": now - (n + 1) * SECOND} for n in range(4)])
    batches = Remover(connection, "sessions", 1).batches()
    assert next(batches) == 1
    sessions.update_one({"_id": "0"}, {"$set": {"expires_at": now + 60 * SECOND}})

    assert sum(batches) == 2
    assert [document["_id"] for document in sessions.find()] == ["0"]


def test_tombstones_are_kept(connection, sessions, now, move_clock):
    """What an ended session leaves is kept for requests in flight, then removed like the rest."""
    sessions.insert_many([{"_id": str(n), **tombstone(now)} for n in range(5)])
    move_clock(TOMBSTONE_LIFE.total_seconds() - 1)
    assert sum(itertools.islice(Remover(connection, "sessions", 2).batches(), 100)) == 0
    move_clock(2)
    assert sum(Remover(connection, "sessions", 2).batches()) == 5


@pytest.mark.parametrize("batch_size", [1, 3, 10, 1000])
def test_of_one_millisecond(connection, sessions, now, commands, batch_size):
    """Expired sessions go from among tombstones with the very same expiry, by their ids, and nothing loops for ever."""
    sessions.insert_many([{"_id": f"ended{n}", **tombstone(now)} for n in range(12)])
    sessions.insert_many([{"_id": f"expired{n}", "expires_at": tombstone(now)["expires_at"]} for n in range(8)])
    commands.clear()
    counts = list(itertools.islice(Remover(connection, "sessions", batch_size).batches(), 100))

    assert (sum(counts), max(counts)) == (8, min(batch_size, 8))
    assert len(counts) <= math.ceil(8 / batch_size) + 3
    assert sessions.count_documents({"ended_at": now}) == 12
    deletions = [delete for command in commands.sent for delete in command.get("deletes", ())]
    assert all(delete.get("hint") == "_id_" for delete in deletions if "_id" in delete["q"])


def test_a_renewed_session_among_many_of_one_millisecond(connection, sessions, now, monkeypatch):
    """Renewed between the search and the deletion of a batch, it stays: the deletion repeats what was asked for."""
    sessions.insert_many([{"_id": str(n), "expires_at": now - SECOND} for n in range(4)])
    remover = Remover(connection, "sessions", 2)
    find, renewed = remover._collection.find, []

    class Found:
        def find(self, *args, **kwargs):
            found = list(find(*args, **kwargs))
            if found and "_id" in found[0] and not renewed:
                renewed.append(found[0]["_id"])
                sessions.update_one({"_id": renewed[0]}, {"$set": {"expires_at": now + 60 * SECOND}})
            return iter(found)

        def delete_many(self, *args, **kwargs):
            return sessions.delete_many(*args, **kwargs)

    monkeypatch.setattr(remover, "_collection", Found())
    assert sum(itertools.islice(remover.batches(), 100)) == 3
    assert [document["_id"] for document in sessions.find()] == renewed


def test_removal_goes_through_the_index(connection, sessions, now):
    """Neither counting nor removing looks at what is alive."""
    ensure_indexes(connection, "sessions", index_models(Session.index_specs(), ttl=False))
    sessions.insert_many([{"_id": str(n), "expires_at": now + (n - 3) * 60 * SECOND} for n in range(50)])
    plan = sessions.database.command(
        "explain",
        {"delete": "sessions", "deletes": [{"q": removable(now), "limit": 0}]},
        verbosity="executionStats",
    )

    assert "expires_at_1" in str(plan["queryPlanner"]["winningPlan"])
    assert plan["executionStats"]["totalDocsExamined"] == 4
