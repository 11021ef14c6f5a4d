"""Work on the whole collection: indexes, removing expired records in batches, the lease that elects who does."""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import threading
import time
import typing as t
import weakref

import pymongo
from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.errors import ConnectionFailure, DuplicateKeyError, InvalidOperation, OperationFailure, PyMongoError

from .connection import Connection

log = logging.getLogger(__name__)

Filter = dict[str, t.Any]

#: Records removed by one command.
BATCH_SIZE = 1_000
#: Seconds for which the record that a rotation ended stays, so that requests in flight meet it.
MARK_SECONDS = 10
#: A TTL index cannot be taken back by ``collMod``, only be told to wait for ever: 68 years, the most the server
#: accepts.
NEVER_SECONDS = 2**31 - 1

_BEGINNING = dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc)
#: The part of an interval for which a lease is held: less than a sweeper ever waits, so that its owner may go on.
_LEASE_PART = 0.94
#: Building indexes is tried so often while nobody answers, with so many seconds in between.
_BUILD_ATTEMPTS, _BUILD_PAUSE = 20, 30.0
_INDEX_CONFLICTS = (85, 86)  # IndexOptionsConflict, IndexKeySpecsConflict
_LEASE_ID = "sweep"


def expired_filter(now: dt.datetime) -> Filter:
    """Records to remove: expired by *now*, rotation's marks a little later."""
    kept_since = now - dt.timedelta(seconds=MARK_SECONDS)
    return {"expires_at": {"$lte": now}, "ended.at": {"$not": {"$gt": kept_since}}}


class Remover:
    """Deletes expired records through the index on their expiry, a batch a command, so that nobody waits behind it."""

    def __init__(self, connection: Connection, collection: str, batch_size: int = BATCH_SIZE) -> None:
        self._connection = connection
        self._collection = connection.collection(collection)
        self._batch_size = batch_size

    def batches(self) -> t.Iterator[int]:
        """Remove everything that has expired by now; yields the count of each batch. Stop iterating to stop."""
        with self._connection.operation():
            now = self._connection.now()

        floor: dt.datetime | None = _BEGINNING
        while floor is not None:
            with self._connection.background_operation():
                removed, floor = self._batch(now, floor)
            yield removed

    def _batch(self, now: dt.datetime, floor: dt.datetime) -> tuple[int, dt.datetime | None]:
        """Remove from *floor* on; how many, and where the next batch begins (``None``: nowhere).

        Cut at an expiry boundary: no ids travel, and what was renewed meanwhile no longer lies below it.
        """
        boundary = self._boundary(now, floor)
        if boundary == floor:
            removed = self._batch_of_equals(now, floor)
            return removed, floor if removed else floor + dt.timedelta(milliseconds=1)

        within: Filter = {"expires_at": {"$gte": floor} if boundary is None else {"$gte": floor, "$lt": boundary}}
        return self._collection.delete_many({"$and": [expired_filter(now), within]}).deleted_count, boundary

    def _boundary(self, now: dt.datetime, floor: dt.datetime) -> dt.datetime | None:
        """The expiry of the first record beyond the batch, read from the index alone; ``None`` in the last batch."""
        beyond = self._collection.find(
            {"expires_at": {"$gte": floor, "$lte": now}},
            {"_id": False, "expires_at": True},
            sort=[("expires_at", 1)],
            skip=self._batch_size,
            limit=1,
        )
        return next((document["expires_at"] for document in beyond), None)

    def _batch_of_equals(self, now: dt.datetime, expires_at: dt.datetime) -> int:
        """More than a batch expired in the same millisecond: by ids, hinted, or each batch would scan them all."""
        found = self._collection.find(
            {**expired_filter(now), "expires_at": expires_at}, {"_id": True}, limit=self._batch_size
        )
        ids = [document["_id"] for document in found]
        chosen = {**expired_filter(now), "_id": {"$in": ids}}

        return self._collection.delete_many(chosen, hint="_id_").deleted_count


class Lease:
    """Decides, by the database's clock, which of all workers sweeps this interval; fenced by a counter."""

    def __init__(self, connection: Connection, collection: str, interval: float) -> None:
        self._connection = connection
        self._name = f"{collection}_lease"
        self._interval = dt.timedelta(seconds=interval)
        self._fence: int | None = None

    @property
    def _collection(self) -> Collection[dict[str, t.Any]]:
        """Resolved at each use: nothing connects before the first, and a fork gives another one."""
        return self._connection.collection(self._name)

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
        """Keep what the sweep did, for people to look at: the last twenty."""
        with self._connection.operation():
            run = {"at": self._connection.now(), "count": count, "seconds": round(seconds, 3)}
            self._collection.update_one({"_id": _LEASE_ID}, {"$push": {"runs": {"$each": [run], "$slice": -20}}})

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
            self._collection.insert_one(
                {"_id": _LEASE_ID, "due": dt.datetime.fromtimestamp(0, dt.timezone.utc), "fence": 0}
            )
        except DuplicateKeyError:
            return False

        return True


def index_models(specs: t.Iterable[t.Mapping[str, t.Any]], *, ttl: bool) -> list[IndexModel]:
    """The model's indexes, from what MongoEngine made of its ``meta``; with *ttl* the expiry's is a TTL index.

    The server knows nothing of a rotation's marks and may remove one early, at its next look once a minute.
    """
    models = []
    for spec in specs:
        options = {name: value for name, value in spec.items() if name not in ("fields", "cls")}
        if ttl and spec["fields"] == [("expires_at", 1)]:
            options["expireAfterSeconds"] = 0
        models.append(IndexModel(spec["fields"], **options))

    return models


def ensure_indexes(connection: Connection, collection: str, models: list[IndexModel]) -> None:
    """Create the indexes that are missing; one cheap command when none is. No time limit: a build may take minutes.

    Switching ``SESSION_TTL_INDEX`` changes the index in place through ``collMod``.
    """
    target = connection.collection(collection)

    with pymongo.timeout(None):
        try:
            target.create_indexes(models)
        except OperationFailure as error:
            if error.code not in _INDEX_CONFLICTS:
                raise
            _create_one_by_one(target, models)


def _create_one_by_one(collection: t.Any, models: list[IndexModel]) -> None:
    """A conflict over one index must not keep the others from being made; raises it when they are."""
    conflict = None
    for model in models:
        try:
            collection.create_indexes([model])
        except OperationFailure as error:
            if tuple(model.document["key"]) == ("expires_at",):
                _switch_ttl(collection, ttl="expireAfterSeconds" in model.document)
            else:
                conflict = error

    if conflict:
        raise conflict


def _switch_ttl(collection: t.Any, *, ttl: bool) -> None:
    """Turn the index on the expiry into a TTL index (MongoDB 5.1+ does so in place), or make it wait for ever."""
    index = {"keyPattern": {"expires_at": 1}, "expireAfterSeconds": 0 if ttl else NEVER_SECONDS}
    try:
        collection.database.command("collMod", collection.name, index=index)
    except OperationFailure:
        collection.drop_index([("expires_at", 1)])
        collection.create_index([("expires_at", 1)], **({"expireAfterSeconds": 0} if ttl else {}))


def build_in_background(connection: Connection, collection: str, models: list[IndexModel]) -> None:
    """Build on a thread of its own; a failure is a warning, since sessions work without, only slower to sweep."""
    reference = weakref.ref(connection)

    def build() -> None:
        for attempt in range(_BUILD_ATTEMPTS):
            if not _try_to_build(reference(), collection, models, warn=not attempt):
                return
            time.sleep(_BUILD_PAUSE)

    threading.Thread(target=build, name="mongo-session-indexes", daemon=True).start()


def _try_to_build(connection: Connection | None, collection: str, models: list[IndexModel], *, warn: bool) -> bool:
    """Whether another try makes sense: when nobody answered, and somebody still holds the connection."""
    if connection is None:
        return False

    try:
        ensure_indexes(connection, collection, models)
    except PyMongoError as error:
        ending = isinstance(error, InvalidOperation) or not threading.main_thread().is_alive()
        if warn and not ending:  # closed client, embedded server on its way out: nobody has to do anything
            reason = type(error).__name__
            log.warning("Could not create indexes on %r (%s): run 'flask sessions indexes'.", collection, reason)
        return isinstance(error, ConnectionFailure)

    return False
