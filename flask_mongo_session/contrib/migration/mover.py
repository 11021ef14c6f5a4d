"""Makes a record of ours of an old session: its values, its dates, whose it is."""

from __future__ import annotations

import collections
import datetime as dt
import logging
import typing as t

from flask_mongo_session import InvalidFieldValue, MongoSessionError, UnstorableValue
from flask_mongo_session.document.record import Document, user_of

from .old_session import PERMANENT, Lifetimes, OldSession, Unreadable

if t.TYPE_CHECKING:
    from flask_mongo_session.config import SessionConfig
    from flask_mongo_session.storage.repository import SessionRepository

#: The field of a record that says how long the old cookie leads to it.
UNTIL = "old_cookie_until"

log = logging.getLogger(__name__)


class Mover:
    """Turns old sessions into records, and counts them.

    A value that our store refuses is left out: the rest of the session is worth more than none. Each kind of trouble
    is logged once in a process, without anything of a session's content.
    """

    def __init__(self, repository: SessionRepository, config: SessionConfig) -> None:
        self._repository = repository
        self._user_keys = config.user_key
        self._absolute = config.absolute_lifetime
        self._idle = config.idle_timeout
        #: How many sessions were ``moved`` and ``refused`` in this process.
        self.counts: collections.Counter[str] = collections.Counter()
        self._logged: set[str] = set()

    def lifetimes(self, permanent_session_lifetime: dt.timedelta) -> Lifetimes:
        """With Flask's setting."""
        return Lifetimes(self._idle or permanent_session_lifetime, self._absolute, permanent_session_lifetime)

    def refused(self, error: Exception) -> None:
        """Count a session that cannot be moved, and log the first of its kind."""
        self.counts["refused"] += 1
        self._log(f"An old session cannot be moved: {error}")

    def document(self, sid: str, hashed: bytes, old: OldSession, lifetimes: Lifetimes, now: dt.datetime) -> Document:
        """The record. Raises :exc:`Unreadable` where nothing of the session can be stored."""
        values = old.content
        encoded = self._encoded(values)
        if not encoded:
            raise Unreadable("Nothing of it can be stored.")

        user = user_of({key: values[key] for key in encoded}, self._user_keys)
        document = self._repository.mapper.document(sid, encoded, {"token": hashed, **_dates(old, lifetimes, now)})
        document.update({"permanent": True} if old.values.get(PERMANENT) else {})
        if user is not None:
            document["user_id"] = user
            document.update({"authenticated_at": old.created_at} if old.created_at else {})
        return document

    def _encoded(self, values: t.Mapping[t.Any, t.Any]) -> dict[str, t.Any]:
        encoded, schema = {}, self._repository.mapper.schema
        for key, value in values.items():
            try:
                encoded[key] = schema.encode(key, value)
            except (UnstorableValue, InvalidFieldValue, RecursionError) as error:
                reason = str(error) if isinstance(error, MongoSessionError) else "It is nested too deeply."
                self._log(f"A value of an old session was left out: {reason}")

        return encoded

    def _log(self, message: str) -> None:
        if message not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(message)
            log.warning("%s (This is logged once.)", message)


#: How many kinds of trouble are logged.
_MAX_LOGGED = 100


def _dates(old: OldSession, lifetimes: Lifetimes, now: dt.datetime) -> Document:
    """The record's dates: what is known of the old session, and nothing later than it was."""
    old_end = old.expires_at or _LATEST
    touched_at = old.touched_at or old_end - min(lifetimes.old, old_end - _EARLIEST)
    touched_at = min(max(touched_at, old.created_at or touched_at), now)
    dates: Document = {
        "touched_at": touched_at,
        "expires_at": now + min(lifetimes.idle, old_end - now),
        UNTIL: old_end,
    }
    if old.created_at is not None:
        dates["created_at"] = min(old.created_at, now)
    if lifetimes.absolute is not None:
        began = dates.get("created_at", touched_at)
        dates["deadline"] = began + min(lifetimes.absolute, _LATEST - began)
        dates["expires_at"] = min(dates["expires_at"], dates["deadline"])

    return dates


_EARLIEST = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_LATEST = dt.datetime(9999, 12, 31, tzinfo=dt.timezone.utc)
