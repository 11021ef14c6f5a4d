"""Which commands a finished request owes the database: none, or one; a rotation two.

Knows sessions and the store, neither cookies nor responses.
"""

from __future__ import annotations

import datetime as dt
import enum
import typing as t

from flask_mongo_session.document.changes import UNSET
from flask_mongo_session.document.filters import MARK_SECONDS
from flask_mongo_session.document.record import Metadata, Missing, StoredSession
from flask_mongo_session.exceptions import SessionStoreUnavailable
from flask_mongo_session.mongo.bson_types import milliseconds
from flask_mongo_session.storage.ending import EndingCommands
from flask_mongo_session.storage.user_sessions import UserSessions

from .framing import (
    changed_frame,
    known_deadline,
    new_frame,
    optional_milliseconds,
    renewed_ticket,
    rotated_frame,
    ticket_of,
)
from .lifetime import Policy
from .session import ServerSideSession
from .state import Origin
from .tokens import CookieContent, new_token, session_id

#: How often a write follows a deadline that others keep moving.
_ATTEMPTS = 3
#: How far apart the halves of a rotation may be: a log-out has to find the first's mark until the second is there.
_ROTATION_TIME = dt.timedelta(seconds=MARK_SECONDS / 2)


class Outcome(enum.Enum):
    """What the cookie has to follow."""

    #: Nothing is known to live under the cookie, and nothing was stored.
    NOTHING = "nothing"
    #: The live session was read and not changed.
    LIVE = "live"
    #: Nothing of the content changed, but the cookie's value has to: it carries the time of the last touch.
    RENEWED = "renewed"
    #: Something was stored.
    STORED = "stored"
    #: The session was ended.
    ENDED = "ended"


class UnitOfWork:
    """One request's save; :meth:`save` is called once."""

    def __init__(self, session: ServerSideSession, store: EndingCommands, policy: Policy) -> None:
        self._session = session
        self._store = store
        self._policy = policy
        self._token: str | None = None
        self._successor: str | None = None

    def save(self) -> Outcome:
        """Send what is owed. Raises :exc:`SessionStoreUnavailable`, or what assigning a value would have raised."""
        session = self._session
        if session.origin is Origin.FAILED:
            return Outcome.NOTHING
        if session.quiet and session.origin in (Origin.UNREAD, Origin.LOADED):
            return self._touch()

        self._end_cleared()
        session.settle()
        outcome = self._save_own()

        if outcome is not Outcome.NOTHING:  # what was taken over stays where it was until it is kept here
            self._end_merged()
        return outcome

    def _end_cleared(self) -> None:
        """A log-out comes first, whatever becomes of the rest; a log-in after it leaves a rotation's mark."""
        session = self._session
        user_id = session.user_id if session.cleared else None

        for sid, reason in session.ending:
            if reason != "logout":
                continue
            if user_id is None:
                self._store.end(sid, reason)
            else:
                self._store.supersede(sid, self._new_sid, user_id)

    def _end_merged(self) -> None:
        for sid, reason in self._session.ending:
            if reason != "logout":
                self._store.end(sid, reason)

    @property
    def _new_token(self) -> str:
        """The successor's, should there be one."""
        if self._token is None:
            self._token = new_token()

        return self._token

    @property
    def _new_sid(self) -> str:
        """The session id that goes with it."""
        if self._successor is None:
            self._successor = session_id(self._new_token)

        return self._successor

    def _save_own(self) -> Outcome:
        session = self._session

        if session.origin is Origin.SUPERSEDED:
            return self._save_superseded()
        if session.ticket is None or session.origin is Origin.GONE:
            return self._create()
        if not (session.changes or session.regenerating or session.forced):
            return self._touch()
        if session.emptied and self._end_emptied():
            return self._finish(Outcome.ENDED, None, None)
        if session.regenerating or (session.user_changed and self._policy.rotate_on_login):
            return self._rotate()

        return self._change()

    def _save_superseded(self) -> Outcome:
        """Only a log-in stands, as a session of its own: of two log-ins in parallel the later one. And a log-out."""
        session = self._session
        if session.user_id is not None and session.user_changed:
            return self._create()
        if session.user_dismissed and self._store.end(self._sid):
            return self._finish(Outcome.ENDED, None, None)

        return Outcome.NOTHING

    # -- new ----------------------------------------------------------------------------------------------------------

    def _create(self) -> Outcome:
        session = self._session
        encoded: dict[str, t.Any] = {}
        session.changes.replay(encoded)
        if not encoded:
            return Outcome.ENDED if session.cleared else Outcome.NOTHING

        frame = new_frame(session, self._policy, self._store.now())
        self._check_room(frame.user_id)
        sid = self._new_sid
        if not self._store.create(sid, encoded, frame) or not self._is_admitted(sid):
            return Outcome.NOTHING

        return self._finish(Outcome.STORED, ticket_of(self._new_token, frame), self._stored(sid, encoded, frame))

    # -- changed ------------------------------------------------------------------------------------------------------

    def _change(self) -> Outcome:
        session, known = self._session, known_deadline(self._session)
        if session.user_changed:
            self._check_room(session.user_id)
            self._note_user()

        for _ in range(_ATTEMPTS):
            frame = changed_frame(session, self._policy, self._store.now(), known)
            if self._store.change(self._sid, session.changes, known, frame, size=session.known_size()):
                return self._changed(frame) if self._is_admitted(self._sid) else Outcome.NOTHING

            lives, deadline, superseded = self._store.peek(self._sid)
            if superseded:
                session.reject(Missing.SUPERSEDED)
                return Outcome.NOTHING
            if not lives or deadline == known:
                return self._vanished()
            known = deadline

        raise SessionStoreUnavailable

    def _changed(self, frame: Metadata) -> Outcome:
        session = self._session
        ticket = renewed_ticket(t.cast("CookieContent", session.ticket), self._policy, frame)
        if session.stored is None:
            return self._finish(Outcome.STORED, ticket, None)

        encoded = {**session.stored.encoded}
        session.changes.replay(encoded)
        return self._finish(Outcome.STORED, ticket, self._stored(self._sid, encoded, frame))

    def _vanished(self) -> Outcome:
        """What was loaded and changed is dropped; what was written without reading belongs to a new session."""
        session = self._session
        if session.origin is not Origin.UNREAD:
            session.reject(Missing.UNKNOWN)
            return Outcome.NOTHING

        session.missed(Missing.UNKNOWN)
        return self._create()

    def _note_user(self) -> None:
        """Only where log-in does not rotate: the record follows the key."""
        session = self._session
        session.changes.user_id = session.user_id
        session.changes.authenticated_at = None if session.user_id is None else self._store.now()

    def _end_emptied(self) -> bool:
        session = self._session
        if session.user_changed:
            return self._store.end(self._sid)

        return self._store.end_if_unchanged(t.cast("StoredSession", session.stored))

    # -- rotated ------------------------------------------------------------------------------------------------------

    def _rotate(self) -> Outcome:
        session, store = self._session, self._store
        sid, now = self._new_sid, store.now()
        store.check_fits(session.known_size())
        self._check_room(session.user_id)

        latest = store.retire(self._sid, sid, session.user_id if session.user_changed else UNSET, now)
        if isinstance(latest, Missing):
            return self._rotated_nothing()

        encoded = latest.encoded
        session.changes.replay(encoded)
        if not encoded:
            return self._finish(Outcome.ENDED, None, None)

        frame = rotated_frame(session, self._policy, now, latest)
        in_time = store.now() - now < _ROTATION_TIME
        stored = in_time and store.succeed(latest.sid, sid, encoded, frame)
        if not (stored and self._is_admitted(sid)):
            session.reject(Missing.UNKNOWN)
            return Outcome.NOTHING

        return self._finish(Outcome.STORED, ticket_of(self._new_token, frame), self._stored(sid, encoded, frame))

    def _rotated_nothing(self) -> Outcome:
        """The record was gone: a log-in starts anew with what it wrote, a log-out goes after a rotation under way."""
        session = self._session
        if not session.user_changed:
            session.reject(Missing.UNKNOWN)
            return Outcome.NOTHING
        if session.user_id is None:
            ended = self._store.end(self._sid)
            return self._finish(Outcome.ENDED, None, None) if ended else Outcome.NOTHING

        return self._create()

    # -- limited ------------------------------------------------------------------------------------------------------

    def _check_room(self, user_id: str | None) -> None:
        """Raise :exc:`TooManySessions` for a log-in that has no room, before anything is lost by it."""
        if self._policy.max_per_user and user_id is not None and self._session.user_changed:
            UserSessions(self._store).check_room(user_id, self._policy.max_per_user)

    def _is_admitted(self, sid: str) -> bool:
        """After a log-in: end what is too many; ``False`` when a later log-in of the same moment took the place."""
        limit = self._policy.max_per_user
        if limit is None or not self._session.user_changed or self._session.user_id is None:
            return True

        return UserSessions(self._store).enforce(sid, self._session.user_id, limit)

    # -- touched ------------------------------------------------------------------------------------------------------

    def _touch(self) -> Outcome:
        session = self._session
        ticket = t.cast("CookieContent", session.ticket)
        loaded = session.stored
        if loaded and (ticket.permanent, ticket.deadline) != (loaded.permanent, optional_milliseconds(loaded.deadline)):
            session.ticket = ticket = ticket._replace(
                permanent=loaded.permanent, deadline=optional_milliseconds(loaded.deadline)
            )
            return Outcome.RENEWED
        if not self._policy.wants_touch(ticket.touched, session.context.clock()):
            return Outcome.LIVE if loaded else Outcome.NOTHING

        return self._send_touch(ticket)

    def _send_touch(self, ticket: CookieContent) -> Outcome:
        session, known = self._session, known_deadline(self._session)
        touched = self._store.touch(self._sid, known, self._policy.expiry, session.context.device)
        if touched is None:
            return Outcome.LIVE if session.stored else Outcome.NOTHING

        session.ticket = ticket._replace(touched=milliseconds(touched))
        if session.stored:
            session.stored = session.stored.touched(touched, self._policy.expiry(touched, known))
        return Outcome.RENEWED

    # -- shared -------------------------------------------------------------------------------------------------------

    @property
    def _sid(self) -> str:
        return t.cast("str", self._session.sid)

    def _stored(self, sid: str, encoded: dict[str, t.Any], frame: Metadata) -> StoredSession:
        before, document = self._session.stored, {"_id": sid, **frame.fields()}
        if before is not None and before.sid == sid:
            document["created_at"] = before.created_at

        return StoredSession(document, encoded, dict(self._session.values_now()))

    def _finish(self, outcome: Outcome, ticket: CookieContent | None, stored: StoredSession | None) -> Outcome:
        ending = self._session.ending
        self._session.saved(ticket, stored)
        self._session.ending = [(sid, reason) for sid, reason in ending if reason != "logout"]

        return outcome
