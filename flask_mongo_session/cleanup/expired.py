"""Removing expired records, a batch at a time."""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.document.filters import Filter, removable
from flask_mongo_session.mongo.connection import Connection

#: Records removed by one command.
BATCH_SIZE = 1_000

_BEGINNING = dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc)


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
        return self._collection.delete_many({"$and": [removable(now), within]}).deleted_count, boundary

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
            {**removable(now), "expires_at": expires_at}, {"_id": True}, limit=self._batch_size
        )
        ids = [document["_id"] for document in found]
        chosen = {**removable(now), "_id": {"$in": ids}}

        return self._collection.delete_many(chosen, hint="_id_").deleted_count
