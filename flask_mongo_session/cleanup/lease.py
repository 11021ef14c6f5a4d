"""Whose turn it is to sweep: a lease in the database, beside the sessions."""

from __future__ import annotations

import datetime as dt
import os
import socket
import typing as t

import pymongo
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from flask_mongo_session.mongo.bson_types import EPOCH
from flask_mongo_session.mongo.connection import Connection

#: The part of an interval for which a lease is held: less than a sweeper ever waits, so that its owner may go on.
_LEASE_PART = 0.94
_LEASE_ID = "sweep"
#: A lease that nobody has taken yet: due at once.
_UNCLAIMED = {"due": EPOCH, "fence": 0}


class Lease:
    """Decides, by the database's clock, which of all workers sweeps this interval; fenced by a counter."""

    def __init__(self, connection: Connection, collection: str, interval: float) -> None:
        self._connection = connection
        #: The collection that holds it.
        self.name = f"{collection}_lease"
        self._interval = dt.timedelta(seconds=interval)
        self._fence: int | None = None

    @property
    def _collection(self) -> Collection[dict[str, t.Any]]:
        """Resolved at each use: nothing connects before the first, and a fork gives another one."""
        return self._connection.collection(self.name)

    def acquire(self) -> bool:
        """Whether this worker's turn has come; nobody else's will in the same interval."""
        with self._connection.operation():
            now = self._connection.now()
            taken = self._take(now)
            if taken is None and self._create():
                taken = self._take(now)

        self._fence = taken["fence"] if taken else None
        return taken is not None

    def still_ours(self) -> bool:
        """Renew it in the middle of a long sweep; ``False`` when another worker took over meanwhile."""
        with self._connection.operation():
            now = self._connection.now()
            renewed = self._collection.update_one(
                {"_id": _LEASE_ID, "fence": self._fence}, {"$set": {"due": now + self._interval * _LEASE_PART}}
            )

        return bool(renewed.matched_count)

    def record(self, count: int, seconds: float) -> None:
        """Keep what a sweep did, for people to look at: the last twenty, a command's too, which holds no lease."""
        with self._connection.operation():
            run = {"at": self._connection.now(), "count": count, "seconds": round(seconds, 3)}
            change = {"$push": {"runs": {"$each": [run], "$slice": -20}}, "$setOnInsert": _UNCLAIMED}
            self._collection.update_one({"_id": _LEASE_ID}, change, upsert=True)

    def tell_rejected(self, count: int) -> None:
        """Add to the number of cookies that all workers rejected."""
        with self._connection.operation():
            change = {"$inc": {"rejected": count}, "$setOnInsert": _UNCLAIMED}
            self._collection.update_one({"_id": _LEASE_ID}, change, upsert=True)

    def runs(self) -> list[dict[str, t.Any]]:
        """The last sweeps of all workers, newest first: ``at``, ``count``, ``seconds``."""
        with self._connection.operation():
            lease = self._collection.find_one({"_id": _LEASE_ID}) or {}

        return list(reversed(lease.get("runs", [])))

    def _take(self, now: dt.datetime) -> dict[str, t.Any] | None:
        """A lease further off than our interval was left by a slower configuration, and counts as due."""
        due = {"$or": [{"due": {"$lte": now}}, {"due": {"$gt": now + self._interval}}]}
        change = {
            "$set": {"due": now + self._interval * _LEASE_PART, "owner": f"{socket.gethostname()}:{os.getpid()}"},
            "$inc": {"fence": 1},
        }
        return self._collection.find_one_and_update(
            {"_id": _LEASE_ID, **due}, change, return_document=pymongo.ReturnDocument.AFTER
        )

    def _create(self) -> bool:
        """Insert the lease before it is fought over: an upsert by several workers would let two of them win."""
        try:
            self._collection.insert_one({"_id": _LEASE_ID, **_UNCLAIMED})
        except DuplicateKeyError:
            return False

        return True
