"""How a session's record ends: deleted, or emptied into a mark that leads to a rotation's successor, or buried.

A log-out follows the trail of marks, so that it ends the session under whatever id it goes on.
"""

from __future__ import annotations

import datetime as dt
import typing as t

import bson

from flask_mongo_session import signals
from flask_mongo_session.document.changes import _Unset
from flask_mongo_session.document.filters import MARK_SECONDS
from flask_mongo_session.document.record import Document, Metadata, Missing, StoredSession
from flask_mongo_session.exceptions import DamagedDocument

from .repository import RecordCommands, alive, is_id

#: How far a log-out follows the trail of rotations; each of them is at most ten seconds old.
_MAX_TRAIL = 16


class EndingCommands(RecordCommands):
    """The commands that end records, and the two halves of a rotation."""

    def retire(
        self, sid: str, successor: str, user_id: str | _Unset | None, now: dt.datetime
    ) -> StoredSession | Missing:
        """First half of a rotation: empty the live record, leave a mark for requests in flight; the latest state of it.

        *user_id* is the successor's owner, so that revoking its sessions finds it before it is stored; ``UNSET``: the
        same as before.
        """
        try:
            with self.operation() as session:
                mark = self._mark(successor, user_id, now)
                before = self.collection.find_one_and_update(alive(sid, now), mark, session=session)
            return Missing.UNKNOWN if before is None else self._records.read(before)
        except bson.errors.BSONError:
            return self._damaged(sid, "its BSON is malformed")
        except DamagedDocument as error:
            return self._damaged(sid, str(error), error.level)

    def supersede(self, sid: str, successor: str, user_id: str) -> bool:
        """End a session for a log-in that takes nothing of it along, with a rotation's mark for requests in flight.

        A session that a log-in or a rotation has ended already stays as it is, and its successor stands.
        """
        with self.operation():
            mark = self._mark(successor, user_id, self.connection.now())
            found = self.collection.update_one({"_id": sid, "ended": None}, mark).matched_count
        if found:
            self.announce(signals.session_destroyed, sid=sid, reason="logout")

        return bool(found)

    def succeed(self, old_sid: str, sid: str, encoded: t.Mapping[str, t.Any], frame: Metadata) -> bool:
        """Second half: store the successor; ``False`` when it was revoked in between.

        Its size was judged before the first half: to refuse it now would be to lose the session.
        """
        if not self._insert(self._records.document(sid, encoded, frame)):
            return False

        self.announce(signals.session_regenerated, sid=sid, old_sid=old_sid, user_id=frame.user_id)
        return True

    def end(self, sid: str, reason: str = "logout", user_id: str | None = None) -> bool:
        """End a session for good, under whatever id a rotation in flight may have moved it to; whether there was one.

        With *user_id*, only when it is that user's.
        """
        if not is_id(sid):
            return False

        chosen: Document = {"_id": sid, "ended": None}
        if user_id is not None:
            chosen["user_id"] = user_id

        with self.operation() as session:
            removed = self.collection.delete_one(chosen, session=session).deleted_count
            mark = None if removed else self.collection.find_one({**chosen, "ended": {"$ne": None}}, {"ended": True})
        if mark:
            return self.follow(mark, reason)
        if removed:
            self.announce(signals.session_destroyed, sid=sid, reason=reason)

        return bool(removed)

    def end_if_unchanged(self, stored: StoredSession) -> bool:
        """End a session that holds exactly what was read, so that a key added meanwhile is not lost."""
        same = {"touched_at": stored.touched_at} if self.sealed else self._records.unchanged(stored.encoded)
        with self.operation():
            removed = self.collection.delete_one({"_id": stored.sid, **same}).deleted_count
        if removed:
            self.announce(signals.session_destroyed, sid=stored.sid, reason="logout")

        return bool(removed)

    def follow(self, mark: Document, reason: str) -> bool:
        """End the successors of a rotated session, those that are about to be stored too."""
        ended = False
        for _ in range(_MAX_TRAIL):
            successor = mark["ended"].get("successor") if isinstance(mark.get("ended"), dict) else None
            if not isinstance(successor, str):
                return ended
            before = self.bury(successor)
            if before is None or "ended" not in before:
                self.announce(signals.session_destroyed, sid=successor, reason=reason)
                return True
            mark = before

        return ended

    def bury(self, sid: str) -> Document | None:
        """Put a tombstone where the session is or is about to be; what was there before."""
        with self.operation():
            now = self.connection.now()
            return self.collection.find_one_and_update(
                {"_id": sid}, self._tombstone(now), upsert=True, projection={"ended": True}
            )

    def _mark(self, successor: str, user_id: str | _Unset | None, now: dt.datetime) -> dict[str, t.Any]:
        """A tombstone that says whose and which session goes on."""
        update = self._tombstone(now)
        update["$set"]["ended.successor"] = successor
        if user_id is not None:
            update["$unset"].pop("user_id")
        if isinstance(user_id, str):
            update["$set"]["user_id"] = user_id

        return update

    def _tombstone(self, now: dt.datetime) -> dict[str, t.Any]:
        """Field by field, so that over a mark the trail to its successor stays: a second log-out may still need it."""
        gone = ["user_id", "deadline", "permanent", "authenticated_at", "ip", "user_agent"]
        gone += [declared.db_field for declared in self.schema.declared.values()]
        past = now - dt.timedelta(seconds=MARK_SECONDS)  # also for a request that took the time a moment ago

        return {"$set": {"data": {}, "ended.at": now, "expires_at": past}, "$unset": dict.fromkeys(gone, "")}
