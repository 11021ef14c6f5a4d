"""One request's work on its session: what is known, what was changed, what is intended. Loads when somebody reads."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Mapping

from flask_mongo_session.document.changes import ABSENT, Assign, Remove
from flask_mongo_session.document.record import user_text
from flask_mongo_session.document.standing import Standing
from flask_mongo_session.exceptions import DamagedDocument, SessionStoreUnavailable
from flask_mongo_session.mongo import clock
from flask_mongo_session.mongo.bson_types import moment
from flask_mongo_session.signals import session_loaded
from flask_mongo_session.storage.repository import Found

from .context import SessionContext, Source
from .merging import Merge
from .state import (
    NOTHING,
    UNOPENED,
    CookieContent,
    Intents,
    Phase,
    SessionState,
    extras_of,
    new_session_id,
    token_hash,
)
from .values import TrackedValues

#: Flask-Login's flag for "logged in with a password, not by the remember-me cookie".
FRESH = "_fresh"

_PHASES = {Standing.LIVE: Phase.LOADED, Standing.SUPERSEDED: Phase.SUPERSEDED, Standing.GONE: Phase.GONE}


class SessionDraft:
    """What one request makes of its session, until it is saved.

    The session that users see and the unit of work both work on it; nobody else does.
    """

    __slots__ = (
        "closed",
        "context",
        "cookie_changed",
        "everything",
        "intents",
        "merges",
        "new_sid",
        "presented",
        "rotation_may_follow",
        "source",
        "state",
        "user_after",
        "user_before",
        "user_touched",
        "values",
    )

    def __init__(self, context: SessionContext, source: Source) -> None:
        self.context = context
        self.source = source
        self.state: SessionState = UNOPENED
        self.values = TrackedValues(context.mapper)
        self.intents: Intents = NOTHING
        self.merges: list[Merge] = []
        #: Whether a user key was assigned or removed; if so, whose session it was before, and is now.
        self.user_touched = False
        self.user_before: str | None = None
        self.user_after: str | None = None
        #: Whether every key is to be written, changed or not.
        self.everything = False
        #: Whether the request's save is behind it.
        self.closed = False
        #: What the cookie said when it came, once it was read; ``None`` without one, and where it was one of another
        #: library that leads to a session of ours.
        self.presented: CookieContent | None = None
        #: Whether the cookie came with two tokens and the older one is still right. The rotation that nobody answered
        #: may still arrive and take it away; a change brings a token of its own, so that it no longer can.
        self.rotation_may_follow = False
        #: Whether the cookie's text is another than the one that came.
        self.cookie_changed = False
        #: The id that a new session will get, once somebody asked for it.
        self.new_sid: str | None = None

    # -- loading ----------------------------------------------------------------------------------------------------

    def opened(self) -> SessionState:
        """What the cookie says, verified."""
        if self.state is UNOPENED:
            cookie = self.source.cookie()
            self.presented = cookie if cookie is not None and cookie.token else None
            self.state = SessionState(Phase.NEW if cookie is None else Phase.UNREAD, cookie)

        return self.state

    @property
    def sid(self) -> str:
        """The session id: the cookie's, or the one that a new session will get."""
        state = self.opened()
        if state.cookie is not None and state.phase is not Phase.GONE:
            return state.cookie.sid

        if self.new_sid is None:
            self.new_sid = new_session_id()
        return self.new_sid

    def load(self, *, anyway: bool = False) -> SessionState:
        """Load the record unless that was done; what was written before stays on top.

        After ``clear()`` there is nothing to read; with *anyway* the record is loaded even so, for what it says of the
        user. Once the view has returned, or for a static file, a failure is an empty session.
        """
        state = self.state
        if state.phase is not Phase.UNREAD or (self.intents.cleared and not anyway):
            return self.opened() if state is UNOPENED else state

        source = self.source
        if source.over and source.static:
            return state
        if state is UNOPENED:
            state = self.opened()
            if state.phase is Phase.NEW:
                return state

        cookie = t.cast("CookieContent", state.cookie)
        try:
            found = source.find(cookie.sid, cookie.hashed)
            if cookie.pending is not None:
                found, cookie = self._resolve(found, cookie, cookie.pending)
        except SessionStoreUnavailable:
            self.state = state = state._replace(phase=Phase.FAILED)
            if source.over or source.static:
                return state
            raise

        return self._go_on(found, cookie)

    def _resolve(self, found: Found, cookie: CookieContent, pending: str) -> tuple[Found, CookieContent]:
        """Of a cookie with two tokens, the one that matches is used from then on."""
        token, hashed = cookie.token, token_hash(pending)
        if found.record is not None and found.record.get("token") == hashed:
            token, found = pending, self.source.find(cookie.sid, hashed)
        self.rotation_may_follow = token is cookie.token and found.standing is Standing.LIVE

        permanent, deadline = cookie.permanent, cookie.deadline
        if found.record is not None and found.standing is Standing.LIVE:
            permanent, deadline = extras_of(found.record)  # the cookie's were true before the rotation
        return found, dataclasses.replace(cookie, token=token, pending=None, permanent=permanent, deadline=deadline)

    def _go_on(self, found: Found, cookie: CookieContent) -> SessionState:
        """Go on with what was found."""
        values, record = self.values, found.record
        if self.closed:
            values.forget()
        if found.standing is not Standing.LIVE or record is None:
            values.looking = found.standing is Standing.SUPERSEDED
            self.state = SessionState(_PHASES[found.standing], cookie, None, record, found.now, reason=found.reason)
            return self.state

        self.state = state = SessionState(Phase.LOADED, cookie, record, record, found.now, clock.boottime())
        if not self.intents.cleared:
            values.sid, values.stored = cookie.sid, self.context.mapper.gather(record)
            if values.changes:
                values.compare()
        if session_loaded.receivers:
            self.source.loaded(found)
        return state

    def load_to_save(self, *, anyway: bool = False) -> SessionState:
        """Load for the save, which must not go on without what it relies on: a failure is always an error."""
        failed = self.state.phase is Phase.FAILED
        state = self.load(anyway=anyway)
        if state.phase is Phase.FAILED and not failed:
            raise SessionStoreUnavailable

        return state

    def load_to_remove(self, *, is_user: bool) -> None:
        """Load; where that fails, removing the user key was a log-out that nobody confirmed."""
        try:
            self.load()
        except SessionStoreUnavailable:
            if is_user:
                self.intents = self.intents._replace(dismissed=True)
            raise

    # -- the user ---------------------------------------------------------------------------------------------------

    def user(self) -> str | None:
        """Whose session it is: the text of the first user key that is present."""
        return self._users("", ABSENT)[0]

    def _users(self, key: str, value: t.Any) -> tuple[str | None, str | None]:
        """Whose session it is, and whose it would be with *value* under *key*."""
        now = then = None
        for one in self.context.user_keys:
            user = self.values.get(one)
            new = value if one == key else user
            now = now if now is not None or user is ABSENT else user
            then = then if then is not None or new is ABSENT else new

        plain = (type(now) is str and now.isascii()) or now is None
        return (now or None) if plain else user_text(now), then if then is None else user_text(then)

    def _user_when_loaded(self) -> str | None:
        """Whose session it was when it was loaded, whatever was done to it since; as the record says if unreadable."""
        try:
            for key in self.context.user_keys:
                user = self.loaded_value(key)
                if user is not ABSENT and user is not None:
                    return user_text(user)
        except DamagedDocument:
            return user_text((self.state.loaded or {}).get("user_id"))

        return None

    def loaded_value(self, key: str) -> t.Any:
        """The value as it was loaded, or ``ABSENT``; also where ``clear()`` came in between."""
        loaded, mapper = self.state.loaded, self.context.mapper
        stored = ABSENT if loaded is None else mapper.stored_value(loaded, key)
        if stored is ABSENT or (type(stored) is str and not mapper.encrypts):
            return stored

        return mapper.decode(key, mapper.open(self.sid, key, stored))

    def change_user(self, key: str, value: t.Any) -> None:
        """Assign or remove a user key: where the user changes, what must not reach the next one goes, here and now."""
        self.load(anyway=True)
        now, then = self._users(key, value)
        if not self.user_touched:
            self.user_touched, self.user_after = True, now
            self.user_before = self._user_when_loaded() if self.intents.cleared else now
        if then != now:
            self._prepare_for(then)

        if value is ABSENT:
            self.values.remove(key)
        else:
            self.values.assign(key, value)
        self.user_after = then

    def lose_user(self) -> None:
        """Note that nobody is logged in any more, as after ``clear()``."""
        if not self.user_touched and self.state.loaded is not None:
            self.user_touched, self.user_before = True, self._user_when_loaded()
        self.user_after = None

    def _prepare_for(self, user: str | None, *, merging: bool = False) -> None:
        """Admit another user, or nobody: act as ``clear()`` that is no log-out where one follows another."""
        state, limit, before = self.state, self.context.limit, self.user_before
        if limit and not merging and user is not None and user != before and state.phase is not Phase.FAILED:
            limit.check_room(user, self.sid)

        loaded = state.loaded or {}
        last = before or loaded.get("user_id") or loaded.get("last_user_id")  # the value itself may be unreadable
        cleared = self.intents.replaced or self.intents.cleared
        if user is not None and last is not None and last != user and not cleared:
            self.values.forget()
            self.intents = self.intents._replace(replaced=True)
        else:
            for key in self.context.forget:
                self.values.forbid(key)

    @property
    def confirmed(self) -> bool:
        """Whether the user proved anew in this request who they are."""
        if self.intents.confirm:
            return True

        operation = self.values.changes.get(FRESH)
        turned = type(operation) is Assign and operation.encoded is True
        return turned and self._was_remembered

    @property
    def _was_remembered(self) -> bool:
        """Whether the session was that of a log-in by remember-me cookie when it was loaded."""
        try:
            return self.loaded_value(FRESH) is False
        except DamagedDocument:
            return False

    @property
    def brings_user(self) -> bool:
        """Whether the user was taken over from another session."""
        return any(merge.brings_user for merge in self.merges)

    # -- what the session asks ----------------------------------------------------------------------------------------

    @property
    def is_loaded(self) -> bool:
        """Whether the session was found alive."""
        return self.state.phase is Phase.LOADED

    def is_known(self, key: str) -> bool:
        """Whether the value is this request's own, so that there is nothing to compute in the database."""
        if key in self.context.user_keys or self.intents.cleared or self.intents.replaced:
            return True

        self.values.keep_changed_defaults()
        own = isinstance(self.values.changes.get(key), (Assign, Remove))
        return own or self.opened().phase in (Phase.NEW, Phase.GONE)

    def is_new(self, state: SessionState) -> bool:
        """Whether no record of this session exists yet."""
        return state.phase in (Phase.NEW, Phase.GONE) or (self.intents.cleared and not self.closed)

    def stored_permanent(self) -> bool:
        """Whether the session is permanent as far as is known without reading it."""
        state = self.opened()
        if self.is_new(state):
            return self.context.permanent
        if state.record is not None and state.phase is Phase.LOADED:
            return state.record.get("permanent") is True

        return state.cookie.permanent if state.cookie else self.context.permanent

    def recorded(self, name: str) -> dt.datetime | None:
        """A date of the record, as it was loaded or saved."""
        state = self.load()
        value = state.record.get(name) if state.record and state.phase is Phase.LOADED else None
        return value if isinstance(value, dt.datetime) and (self.closed or not self.intents.cleared) else None

    def take(self, other: Merge, encoded: Mapping[str, t.Any]) -> None:
        """Take over values of another session, the user only where nobody is logged in."""
        if self.user() is None and other.info.user_id is not None:
            other.brings_user = self.user_touched = True
            self.user_after = other.info.user_id
            self._prepare_for(self.user_after, merging=True)
        for key, value in encoded.items():
            if key in (*self.context.user_keys, FRESH) and not other.brings_user:
                continue
            self.values.assign(key, self.context.mapper.decode(key, value))

    # -- what the end of the request asks ---------------------------------------------------------------------------

    def settle(self) -> None:
        """Record what was changed in place; the user's name may be a part of it."""
        self.values.settle()
        if self.values.handed_out.isdisjoint(self.context.user_keys):
            return

        before, self.user_after = self._user_when_loaded(), self.user()
        if not self.user_touched and before != self.user_after:
            self.user_touched, self.user_before = True, before

    @property
    def modified(self) -> bool:
        """Whether there is anything to save, changes in place included."""
        if self.everything or self.intents._replace(dismissed=False) != NOTHING:
            return True

        self.values.settle()
        return bool(self.values.changes)

    @property
    def logs_out(self) -> bool:
        """Whether the request ends the session, or takes the user out of it, with nobody following."""
        left = self.user_touched and self.user_before is not None
        return self.user_after is None and (left or self.intents.cleared or self.intents.dismissed)

    @property
    def deadline(self) -> dt.datetime | None:
        """When the session ends at the latest, as far as the cookie says it."""
        cookie = self.opened().cookie
        return None if cookie is None or cookie.deadline is None else moment(cookie.deadline)

    def dismiss_user(self) -> None:
        """Note that the user logs out, though the session that this request sees holds none."""
        if self.state.phase in (Phase.SUPERSEDED, Phase.GONE, Phase.FAILED):
            self.intents = self.intents._replace(dismissed=True)

    def fail(self) -> None:
        """Make the session an empty one of which nothing is saved, as after a save that failed."""
        self.state = self.opened()._replace(phase=Phase.FAILED)
        self.intents, self.merges, self.everything, self.user_touched = NOTHING, [], False, False
        self.values.forget()
