"""Everything about many sessions, one user's or everybody's: list them, count them, end them.

A user is known by the text that the record carries (``str()`` of the value of ``SESSION_USER_KEY``).
"""

from __future__ import annotations

import datetime as dt
import typing as t

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from flask_mongo_session import signals
from flask_mongo_session.document import filters
from flask_mongo_session.document.record import METADATA, SessionInfo, user_text
from flask_mongo_session.document.standing import GRACE
from flask_mongo_session.mongo.operation import Operation

from .repository import SessionRepository, is_id, tombstone

_REASON = "revoked"
#: Ids in one command.
_BATCH = 1_000
_FIELDS = dict.fromkeys(METADATA, True)
#: What the server says of a hint that names no index.
_BAD_HINT = 2


class Anybody:
    """The type of :data:`ANYBODY`."""

    def __repr__(self) -> str:
        return "ANYBODY"


#: Stands for "whoever the session belongs to"; ``None`` would be nobody.
ANYBODY: t.Final = Anybody()


class UserSessions:
    """The sessions of one collection by user."""

    def __init__(self, repository: SessionRepository) -> None:
        self._repository = repository

    def now(self) -> dt.datetime:
        """The database's now (UTC)."""
        return self._repository.now()

    def listed(self, user_id: t.Any = ANYBODY, limit: int | None = None) -> list[SessionInfo]:
        """Live sessions, of one user newest activity first, else those that expire last; one indexed query."""
        chosen = _of(user_id)
        order = "expires_at" if user_id is ANYBODY else "touched_at"
        if chosen is None:
            return []

        with Operation(self._repository.connection):
            chosen.update(filters.live(self._repository.connection.now()))
            cursor = self._repository.collection.find(chosen, _FIELDS, sort=[(order, -1)], limit=limit or 0)
            return [SessionInfo.of(document) for document in cursor]

    def count(self, user_id: t.Any, *, but: str, up_to: int) -> int:
        """How many live sessions a user has beside the one called *but*, counted *up_to* a number."""
        chosen = {**(_of(user_id) or {}), "_id": {"$ne": but}}
        with Operation(self._repository.connection):
            chosen.update(filters.live(self._repository.connection.now()))
            return self._repository.collection.count_documents(chosen, limit=up_to)

    def end(self, sid: str, user_id: t.Any = ANYBODY) -> bool:
        """End one live session; with *user_id* only that user's. Whether there was such a one."""
        chosen = _of(user_id)
        if chosen is None or not is_id(sid):
            return False

        now = self.now()
        ended = self._repository.end({"_id": sid, **chosen, **filters.live(now)}, _revoked_at(now))
        if ended:
            self._repository.announce(signals.session_destroyed, sid=sid, reason=_REASON)
        return ended

    def end_all(self, user_id: t.Any, keep: str | None = None) -> int:
        """End all live sessions of a user, or of :data:`ANYBODY`, but *keep*; how many there were.

        A session that was logged in before the call does not survive it, whatever its requests under way do.
        """
        chosen = _of(user_id)
        if chosen is None:
            return 0
        if keep is not None:
            chosen["_id"] = {"$ne": keep}

        return self._end_many(chosen, user_id)

    def forget(self, user_id: t.Any, keep: str | None = None) -> int:
        """End all sessions of a user but *keep*, and those that they left last; remove what has expired.

        How many of the user's were alive.
        """
        chosen = _of(user_id)
        if chosen is None:
            return 0

        count = self.end_all(user_id, keep)
        for theirs in (chosen, {"last_user_id": chosen["user_id"]}):
            theirs["_id"] = {"$ne": keep}
            self._end_many(theirs, ANYBODY)
            with Operation(self._repository.connection) as session:
                self._repository.collection.delete_many({**theirs, **filters.not_ended()}, session=session)

        return count

    def _end_many(self, chosen: filters.Filter, user_id: t.Any) -> int:
        """Turn live records into tombstones, again and again until there are none: they may move along an index."""
        if signals.session_destroyed.receivers:
            return self._end_announced(chosen)

        count = 0
        hint = [("user_id", 1)] if user_id is not ANYBODY else None
        while True:
            now = self.now()
            update = [{"$replaceWith": {"_id": "$_id", **tombstone(_revoked_at(now))}}]
            with self._repository.connection.background_operation():
                done = _update_many(self._repository.collection, {**chosen, **filters.live(now)}, update, hint)
            count += done
            if not done:
                return count

    def _end_announced(self, chosen: filters.Filter) -> int:
        """The same in batches of ids, so that a receiver hears of each."""
        count, repository = 0, self._repository
        while True:
            now = self.now()
            with Operation(repository.connection):
                found = repository.collection.find({**chosen, **filters.live(now)}, {"_id": True}, limit=_BATCH)
                sids = [document["_id"] for document in found]
            if not sids:
                return count

            update = [{"$replaceWith": {"_id": "$_id", **tombstone(_revoked_at(now))}}]
            with Operation(repository.connection):
                ids = {"$and": [{"_id": {"$in": sids}}, chosen]}
                count += repository.collection.update_many({**ids, **filters.live(now)}, update).modified_count
            for sid in sids:
                repository.announce(signals.session_destroyed, sid=sid, reason=_REASON)


def _update_many(collection: Collection[t.Any], chosen: filters.Filter, update: t.Any, hint: t.Any) -> int:
    """Along an index that the update itself moves no record in, where there is one."""
    try:
        return collection.update_many(chosen, update, hint=hint).modified_count
    except OperationFailure as error:
        if hint is None or error.code != _BAD_HINT:
            raise
        return collection.update_many(chosen, update).modified_count


def _of(user_id: t.Any) -> filters.Filter | None:
    """The filter for a user's sessions; ``None`` for nobody."""
    if user_id is ANYBODY:
        return {}

    text = user_text(user_id)
    return None if text is None else {"user_id": text}


def _revoked_at(now: dt.datetime) -> dt.datetime:
    """A revoked visitor's log-in page has to be able to store its form token at once."""
    return now - GRACE
