"""Expired records go, in batches, through the index; everything else stays."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest

from flask_mongo_session import Session
from flask_mongo_session.cleanup.expired import Remover
from flask_mongo_session.document.filters import MARK_SECONDS, expired_filter
from flask_mongo_session.storage.indexes import ensure_indexes, index_models

SECOND = dt.timedelta(seconds=1)
MILLISECOND = dt.timedelta(milliseconds=1)


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
    ensure_indexes(connection, "sessions", index_models(Session.index_specs(), ttl=False))
    sessions.insert_many([{"_id": str(n), "expires_at": now + (n - 3) * 60 * SECOND} for n in range(50)])
    plan = sessions.database.command(
        "explain",
        {"delete": "sessions", "deletes": [{"q": expired_filter(now), "limit": 0}]},
        verbosity="executionStats",
    )

    assert "expires_at_1" in str(plan["queryPlanner"]["winningPlan"])
    assert plan["executionStats"]["totalDocsExamined"] == 4
