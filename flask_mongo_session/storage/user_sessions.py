"""Everything about one user's sessions: list them, end them all, keep their number in bounds.

A user is known by the text that the record carries (``str()`` of the value of ``SESSION_USER_KEY``).
"""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session import signals
from flask_mongo_session.document.filters import MARK_SECONDS
from flask_mongo_session.document.record import Document
from flask_mongo_session.exceptions import TooManySessions
from flask_mongo_session.mongo.bson_types import moment

from .ending import EndingCommands
from .repository import is_id

_REASON = "revoked"
_MARK_TIME = dt.timedelta(seconds=MARK_SECONDS)
#: Ids in one command.
_BATCH = 1_000
_DATES = ("created_at", "expires_at", "touched_at", "authenticated_at", "deadline")
_TEXTS = ("user_id", "ip", "user_agent")
_FIELDS = dict.fromkeys((*_DATES, *_TEXTS, "permanent"), True)


class SessionInfo(t.NamedTuple):
    """A session without what is in it. Dates are aware, UTC."""

    sid: str
    expires_at: dt.datetime
    created_at: dt.datetime | None = None
    #: The last activity, to within ``SESSION_TOUCH_INTERVAL``.
    touched_at: dt.datetime | None = None
    authenticated_at: dt.datetime | None = None
    deadline: dt.datetime | None = None
    permanent: bool = False
    user_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None

    @classmethod
    def of(cls, document: Document) -> SessionInfo:
        """What a record says; what does not belong into its place counts as absent."""
        known: dict[str, t.Any] = {"expires_at": moment(0)}
        known.update((name, value) for name in _DATES if type(value := document.get(name)) is dt.datetime)
        known.update((name, value) for name in _TEXTS if type(value := document.get(name)) is str)

        return cls(sid=str(document["_id"]), permanent=document.get("permanent") is True, **known)


def user_key(user_id: t.Any) -> str:
    """The text by which the records know the user; raises :exc:`TypeError` for nobody."""
    if user_id is None or user_id == "":
        raise TypeError("user_id names nobody; give the value that was stored at log-in (text, int, ObjectId …).")

    return str(user_id)


class UserSessions:
    """Whose sessions there are in a store."""

    def __init__(self, store: EndingCommands) -> None:
        self._store = store

    def listed(self, user_id: t.Any = None, limit: int | None = None) -> list[SessionInfo]:
        """Live sessions, of one user newest activity first, else those that expire last; one indexed query."""
        chosen: Document = {} if user_id is None else {"user_id": str(user_id)}
        order = "expires_at" if user_id is None else "touched_at"

        with self._store.operation():
            chosen.update(expires_at={"$gt": self._store.connection.now()}, ended=None)
            cursor = self._store.collection.find(chosen, _FIELDS, sort=[(order, -1)], limit=limit or 0)
            return [SessionInfo.of(document) for document in cursor]

    def end(self, sid: str, user_id: t.Any = None) -> bool:
        """End one live session, under whatever id a rotation moves it to; with *user_id* only that user's."""
        if not is_id(sid):
            return False

        chosen: Document = {"_id": sid} if user_id is None else {"_id": sid, "user_id": str(user_id)}
        store = self._store
        with store.operation():
            now = store.connection.now()
            removed = store.collection.delete_one({**chosen, "ended": None, "expires_at": {"$gt": now}}).deleted_count
            mark = None if removed else store.collection.find_one({**chosen, **_rotated_since(now - _MARK_TIME)})
        if mark:
            return store.follow(mark, _REASON)
        if removed:
            store.announce(signals.session_destroyed, sid=sid, reason=_REASON)

        return bool(removed)

    def end_all(self, user_id: t.Any, keep: str | None = None) -> int:
        """End all sessions of a user but *keep*; how many there were.

        None that was logged in before the call survives it, wherever in a request or in a rotation it is: a rotation's
        first half left a mark with the successor's id, and a tombstone there makes its second half fail. The order is
        what keeps *keep*: a successor that is among the found ids has its mark before the marks are read.
        """
        user = user_key(user_id)
        found = self._found(user)
        kept = self._trail(keep, self._successors(user))

        doomed = [document for document in found if document["_id"] not in kept]
        for start in range(0, len(doomed), _BATCH):
            ids = [document["_id"] for document in doomed[start : start + _BATCH]]
            with self._store.operation():
                self._store.collection.delete_many({"_id": {"$in": ids}, "user_id": user, "ended": None})

        live = [document["_id"] for document in doomed if document["live"]]
        for sid in live:
            self._store.announce(signals.session_destroyed, sid=sid, reason=_REASON)

        return len(live) + self._end_rotations(user, kept)

    def forget_marks(self, user_id: t.Any) -> None:
        """Take the user's name off what rotations left behind, which may lie there for some seconds more."""
        with self._store.operation():
            marks = {"user_id": user_key(user_id), "ended": {"$exists": True}}
            self._store.collection.update_many(marks, {"$unset": {"user_id": ""}})

    def _found(self, user: str) -> list[Document]:
        """All that is stored of the user, the expired as well, each with whether it is alive."""
        with self._store.operation():
            now = self._store.connection.now()
            chosen = {"user_id": user, "ended": None}
            found = list(self._store.collection.find(chosen, {"expires_at": True}, batch_size=_BATCH + 1))
        for document in found:
            expires_at = document.get("expires_at")
            document["live"] = type(expires_at) is dt.datetime and expires_at > now

        return found

    def _successors(self, user: str, *, of_late: bool = False) -> dict[str, str]:
        """Where the user's rotations lead, from session id to session id; with *of_late* those that may be under way.

        Marks lie there for ten seconds, or until the next sweep.
        """
        with self._store.operation():
            since = self._store.connection.now() - _MARK_TIME if of_late else moment(0)
            marks = self._store.collection.find({"user_id": user, **_rotated_since(since)}, {"ended": True})
            return {mark["_id"]: mark["ended"]["successor"] for mark in marks}

    @staticmethod
    def _trail(keep: str | None, successors: t.Mapping[str, str]) -> set[str]:
        trail: set[str] = set()
        while keep is not None and keep not in trail:
            trail.add(keep)
            keep = successors.get(keep)

        return trail

    def _end_rotations(self, user: str, kept: set[str]) -> int:
        successors = self._successors(user, of_late=True)
        for start in [*kept]:
            kept |= self._trail(start, successors)

        count = 0
        for sid in set(successors.values()) - kept - successors.keys():
            before = self._store.bury(sid)
            if before is not None:
                count += self._end_buried(sid, before)

        return count

    def _end_buried(self, sid: str, before: Document) -> int:
        """What was under the tombstone: a session, or the mark of one that has meanwhile moved on."""
        if "ended" in before:
            return int(self._store.follow(before, _REASON))

        self._store.announce(signals.session_destroyed, sid=sid, reason=_REASON)
        return 1

    # -- how many a user may have -----------------------------------------------------------------------------------

    def check_room(self, user_id: str, limit: tuple[int, str] | None) -> None:
        """Raise :exc:`TooManySessions` before a log-in that would be refused, so that nothing is lost by it."""
        if limit is None or limit[1] != "refuse":
            return

        with self._store.operation():
            chosen = {"user_id": user_id, "ended": None, "expires_at": {"$gt": self._store.connection.now()}}
            if self._store.collection.count_documents(chosen, limit=limit[0]) >= limit[0]:
                raise TooManySessions(limit[0])

    def enforce(self, sid: str, user_id: str, limit: tuple[int, str]) -> bool:
        """After the log-in of *sid*: end what is too many; ``False`` when that is *sid* itself.

        All log-ins of the same moment judge by the same order, and the last of them sees all: the limit holds.
        Raises :exc:`TooManySessions` when the policy is ``"refuse"`` and the log-in came too late.
        """
        allowed, policy = limit
        ranked = [info.sid for info in sorted(self.listed(user_id), key=_rank)]
        excess = max(len(ranked) - allowed, 0)
        doomed = ranked[:excess]
        if policy == "refuse":  # a later log-in of the same moment may have looked before this one was there
            doomed = ranked[allowed:] if sid in ranked[:allowed] else [sid]

        for one in doomed:
            self.end(one)
        if sid in doomed and policy == "refuse":
            raise TooManySessions(allowed)

        return sid not in doomed


def _rotated_since(since: dt.datetime) -> Document:
    return {"ended.successor": {"$type": "string"}, "ended.at": {"$gt": since}}


def _rank(info: SessionInfo) -> tuple[dt.datetime, str]:
    return info.authenticated_at or info.created_at or moment(0), info.sid
