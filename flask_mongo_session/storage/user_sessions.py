"""Everything about many sessions, one user's or everybody's: list them, count them, end them.

A user is known by the text that the record carries (``str()`` of the value of ``SESSION_USER_KEY``).
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
import typing as t

from pymongo.errors import OperationFailure

from flask_mongo_session import signals
from flask_mongo_session.document import filters
from flask_mongo_session.document.record import METADATA, SessionInfo, user_text
from flask_mongo_session.document.standing import GRACE
from flask_mongo_session.mongo.operation import BACKGROUND_SECONDS, WALK_SECONDS, Operation

from .repository import SessionRepository, is_id, tombstone

_REASON = "revoked"
#: Ids in one command.
_BATCH = 1_000
#: Sessions that stay: an id, several, or none.
Keep: t.TypeAlias = "str | t.Iterable[str] | None"
_FIELDS = dict.fromkeys(METADATA, True)
#: The index along which a user's sessions are ended: a tombstone leaves it.
_BY_USER = [("user_id", 1)]
#: Seconds that one update of all sessions of a user may take: a quarter of a million, on a busy server.
_SECONDS = 120.0
#: No id goes on with it.
_HIGHEST = "\U0010ffff"
#: Sessions that one command ends on the walk through everybody's: so few that a find which has to wait for a processor
#: waits briefly. On two cores the 99th percentile of finds at most doubles; with a thousand at once it triples.
_STEP = 25
#: Seconds: after each step the walk rests as long as it took, but no longer than this.
_LONGEST_REST = 0.25
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

    def with_prefix(self, prefix: str, limit: int) -> list[SessionInfo]:
        """Live sessions whose id begins with *prefix*, by id, *limit* at most; along the index on ids."""
        if not is_id(prefix):
            return []

        with Operation(self._repository.connection):
            chosen = {"_id": {"$gte": prefix, "$lt": prefix + _HIGHEST}}
            chosen.update(filters.live(self._repository.connection.now()))
            found = self._repository.collection.find(chosen, _FIELDS, sort=[("_id", 1)], limit=limit, hint="_id_")
            return [SessionInfo.of(document) for document in found]

    def owner(self, sid: str) -> str | None:
        """Whose live session it is; ``None`` for nobody's, and where there is none."""
        if not is_id(sid):
            return None

        with Operation(self._repository.connection):
            chosen = {"_id": sid, **filters.live(self._repository.connection.now())}
            found = self._repository.collection.find_one(chosen, {"user_id": True}) or {}

        return found.get("user_id")

    def end(self, sid: str, user_id: t.Any = ANYBODY, *, actor: str | None = None) -> bool:
        """End one live session; with *user_id* only that user's. Whether there was such a one."""
        chosen = _of(user_id)
        if chosen is None or not is_id(sid):
            return False

        now = self.now()
        ended = self._repository.end({"_id": sid, **chosen, **filters.live(now)}, _revoked_at(now))
        if ended:
            self._announce(sid, actor)
        return ended

    def end_all(self, user_id: t.Any, keep: Keep = None, *, actor: str | None = None) -> int:
        """End all live sessions of a user, or of :data:`ANYBODY`, but those to *keep*; how many there were.

        A session that was logged in before the call does not survive it, whatever its requests under way do. Raises
        :exc:`TypeError` where *keep* is neither a session id nor several of them.
        """
        kept = session_ids(keep)
        if user_id is ANYBODY:
            return self._end_everybody(kept, actor)

        chosen = _of(user_id)
        return 0 if chosen is None else self._end_many({**chosen, "_id": {"$nin": kept}}, actor, hint=_BY_USER)

    def forget(self, user_id: t.Any, keep: Keep = None, *, actor: str | None = None) -> int:
        """End all sessions of a user but *keep*, and those that they left last; remove what has expired.

        How many of the user's were alive.
        """
        chosen = _of(user_id)
        if chosen is None:
            return 0

        count = self.end_all(user_id, keep, actor=actor)
        for theirs in (chosen, {"last_user_id": chosen["user_id"]}):
            theirs["_id"] = {"$nin": session_ids(keep)}
            self._end_many(theirs, actor)
            with Operation(self._repository.connection) as session:
                self._repository.collection.delete_many({**theirs, **filters.not_ended()}, session=session)

        return count

    def end_created_until(self, moment: dt.datetime, keep: Keep = None, *, actor: str | None = None) -> int:
        """End what is left of everybody's live sessions that were created until *moment*; how many there were."""
        chosen = {"_id": {"$nin": session_ids(keep)}, "created_at": {"$not": {"$gt": moment}}}
        return self._end_by_ids(chosen, actor)

    def _end_everybody(self, kept: list[str], actor: str | None) -> int:
        """Walk through all sessions as they lie on the disk, which no update changes, and end a few at a time."""
        count, connection = 0, self._repository.connection
        chosen = {"_id": {"$nin": kept}, **filters.live(self.now())}
        cursor = self._repository.collection.find(chosen, {"_id": True}, batch_size=_BATCH, hint=[("$natural", 1)])
        seconds = WALK_SECONDS
        while True:
            began = time.monotonic()
            with connection.background_operation(seconds):
                sids = [found["_id"] for found in itertools.islice(cursor, _STEP)]
            if not sids:
                return count
            count += self._end_batch({"_id": {"$in": sids}}, actor)
            time.sleep(min(time.monotonic() - began, _LONGEST_REST))
            seconds = BACKGROUND_SECONDS

    def _end_batch(self, chosen: filters.Filter, actor: str | None) -> int:
        """End a batch of sessions, chosen by their ids."""
        if signals.session_destroyed.receivers:
            return self._end_by_ids(chosen, actor)

        now = self.now()
        with self._repository.connection.background_operation():
            return self._update(chosen, now, hint="_id_")

    def _end_many(self, chosen: filters.Filter, actor: str | None, hint: t.Any = None) -> int:
        """Turn live records into tombstones, again and again until there are none: they may move along an index."""
        if signals.session_destroyed.receivers:
            return self._end_by_ids(chosen, actor)

        count = 0
        while True:
            now = self.now()
            with self._repository.connection.background_operation(_SECONDS):
                done = self._update(chosen, now, hint)
            count += done
            if not done:
                return count

    def _end_by_ids(self, chosen: filters.Filter, actor: str | None) -> int:
        """The same in batches of ids, so that a receiver hears of each."""
        count, repository = 0, self._repository
        while True:
            now = self.now()
            with repository.connection.background_operation():
                found = repository.collection.find({**chosen, **filters.live(now)}, {"_id": True}, limit=_BATCH)
                sids = [document["_id"] for document in found]
            if not sids:
                return count

            with repository.connection.background_operation():
                count += self._update({"$and": [{"_id": {"$in": sids}}, chosen]}, now)
            for sid in sids:
                self._announce(sid, actor)

    def _update(self, chosen: filters.Filter, now: dt.datetime, hint: t.Any = None) -> int:
        """One update, along an index that it moves no record in, where there is one."""
        collection, live = self._repository.collection, {**chosen, **filters.live(now)}
        update = [{"$replaceWith": {"_id": "$_id", **tombstone(_revoked_at(now))}}]
        try:
            return collection.update_many(live, update, hint=hint).modified_count
        except OperationFailure as error:
            if hint is None or error.code != _BAD_HINT:
                raise
            return collection.update_many(live, update).modified_count

    def _announce(self, sid: str, actor: str | None) -> None:
        self._repository.announce(signals.session_destroyed, sid=sid, reason=_REASON, actor=actor)


def session_ids(keep: Keep) -> list[str]:
    """*keep* as a list: one session id, several of them or none. Raises :exc:`TypeError` for anything else.

    Text that is no Unicode, as a form may bring it, is the id of none.
    """
    ids = [] if keep is None else [keep] if isinstance(keep, str) else list(keep)
    if isinstance(keep, t.Mapping) or not all(isinstance(sid, str) for sid in ids) or "" in ids:
        raise TypeError("keep takes a session id (a text), or several of them.")

    return [sid for sid in ids if is_id(sid)]


def _of(user_id: t.Any) -> filters.Filter | None:
    """The filter for a user's sessions; ``None`` for nobody."""
    if user_id is ANYBODY:
        return {}

    text = user_text(user_id)
    return None if text is None else {"user_id": text}


def _revoked_at(now: dt.datetime) -> dt.datetime:
    """A revoked visitor's log-in page has to be able to store its form token at once."""
    return now - GRACE
