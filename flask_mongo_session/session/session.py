"""The object behind ``flask.session``: the manager's vocabulary over a lazy mapping. No I/O of its own."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t
from collections.abc import Mapping

from flask_mongo_session.document import codec
from flask_mongo_session.document.changes import UNSET, Changes, Number, added, listed
from flask_mongo_session.document.record import StoredSession, owner_of
from flask_mongo_session.exceptions import EncryptionUnsupported
from flask_mongo_session.mongo.bson_types import milliseconds, moment

from .state import Origin
from .tokens import CookieContent, session_id
from .values import TrackedValues


class SessionStatus(enum.Enum):
    """What becomes of the session at the end of the request (SCS's ``Status``)."""

    UNMODIFIED = "unmodified"
    MODIFIED = "modified"
    DESTROYED = "destroyed"


class ServerSideSession(TrackedValues):
    """A session that lives in the database.

    A plain :class:`~collections.abc.MutableMapping` with ``copy`` and ``|=``. The first read loads the record, an
    assignment alone does not. A value is checked when it is assigned (:exc:`UnstorableValue`,
    :exc:`InvalidFieldValue`). What is changed in place is found by comparing. Attributes are never items. Works
    outside every Flask context.

    Reading raises :exc:`SessionStoreUnavailable` where the database does not answer. From then on the session is empty,
    and what is written goes nowhere: an error page may flash a message, any other answer becomes a 503.
    """

    def clear(self) -> None:
        """End the session. What is written afterwards belongs to a new one, under a new token."""
        if self.origin is Origin.FAILED:
            self._values, self.unsaved, self.cleared = {}, True, True
            return
        if self.ticket and self.origin is not Origin.GONE:
            self.ending.append((session_id(self.ticket.token), "logout"))

        self.origin, self.ticket, self.stored, self._sid = Origin.NONE, None, None, None
        self.changes, self._values, self._defaults, self._watched = Changes(), {}, {}, set()
        self.regenerating = self.confirmed = self._everything = False
        self.cleared = True

    def destroy(self) -> None:
        """End the session (SCS's ``Destroy``); the same as :meth:`clear`."""
        self.clear()

    def regenerate(self) -> None:
        """Go on under a new token, data kept, lifetime restarted (SCS's ``RenewToken``, OWASP ASVS 5.0 7.2.4)."""
        self._note_write()
        self._read()
        self.regenerating = self.origin is Origin.LOADED

    def merge(self, token: str | None) -> None:
        """Take over another session: its values win, the later deadline stays, it ends (SCS's ``MergeSession``).

        Nothing happens when it is this very session or there is none.
        """
        self._note_write()
        self._read()
        sid = session_id(token) if isinstance(token, str) else None  # it may come from a client
        if sid is None or sid == self.sid:
            return

        other = self._loader(sid)
        if not isinstance(other, StoredSession):
            return

        self.update(other.data)
        mine = self.deadline
        if mine is not None and other.deadline is not None and other.deadline > mine:
            self.deadline = other.deadline
        self.ending.append((sid, "merged"))

    def increment(self, key: str, by: Number = 1) -> None:
        """Add *by* to a number, from 0 where there is none, in the database: no concurrent increment is lost.

        Does not read. Raises TypeError where the value is known to be no number, else when it is saved. The limits of a
        declared field are those of the sum only where it is known: the database knows none.
        """
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            raise TypeError(f"increment({key!r}) adds a number, not a {type(by).__name__}.")
        self._check_computable(key)
        self._schema.check_number(key, _within_int64(key, by))

        if self._is_known(key):
            self[key] = _within_int64(key, added(key, self._values.get(key, 0), by))
            return

        if self.origin is Origin.LOADED:
            total = _within_int64(key, added(key, self._values.get(key, 0), by))
            self._schema.encode(key, total)
            self._values[key] = total
        self.changes.add(key, by)

    def append(self, key: str, value: t.Any, limit: int | None = None) -> None:
        """Append to a list, a new one where there is none, in the database: no concurrent append is lost.

        *limit* keeps only that many of the last items. Does not read. Raises TypeError where the value is known to be
        no list, else when it is saved.
        """
        if limit is not None and limit < 1:
            raise ValueError("append() keeps at least one item: limit must be 1 or more, or None for all.")
        self._check_computable(key)
        encoded = self._schema.encode_item(key, value)

        if self._is_known(key):
            longer = [*listed(key, self._values.get(key, [])), value]
            self[key] = longer if limit is None else longer[-limit:]
            return

        if self.origin is Origin.LOADED:
            current = listed(key, self._values.setdefault(key, []))
            current.append(self._schema.decode(key, [encoded])[0])
            del current[: -limit if limit else 0]
            self._watched.add(key)
        self.changes.append(key, encoded, limit)

    def confirm(self) -> None:
        """The user has just been authenticated again: :meth:`fresh` counts from now, under a new token."""
        self._note_write()
        self._read()
        self.confirmed = True
        self.regenerating = self.origin is Origin.LOADED

    def fresh(self, max_age: float) -> bool:
        """Whether the user was authenticated at most *max_age* seconds ago (by the database's clock)."""
        self._read()
        if self.user_id is None:
            return False
        if self.confirmed or self.user_changed:
            return True

        at = self.stored.authenticated_at if self.stored else None
        return at is not None and self.context.clock() - milliseconds(at) <= max_age * 1000

    @property
    def new(self) -> bool:  # type: ignore[override]  # a plain attribute there
        """Whether no record of this session exists yet."""
        self._read()
        return self.origin in (Origin.NONE, Origin.GONE)

    @property
    def status(self) -> SessionStatus:
        """What would become of the session if the request ended now."""
        if self.cleared and not self._values:
            return SessionStatus.DESTROYED

        return SessionStatus.MODIFIED if self.modified else SessionStatus.UNMODIFIED

    @property
    def modified(self) -> bool:
        """Whether anything changed, in place too. Set to ``True`` every key is written, to ``False`` none."""
        if self.origin is Origin.FAILED:
            return False
        if self.quiet:
            return self._was_modified

        self.settle()
        return bool(self._was_modified or self.changes or self.regenerating or self.cleared or self._everything)

    @modified.setter
    def modified(self, value: bool) -> None:
        self._everything = value
        if not value:
            self.changes, self._watched, self._was_modified = Changes(), set(), False

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser ("remember me"); kept in the cookie and in the record."""
        if not isinstance(self.changes.permanent, bool):
            return self._stored_permanent()

        return self.changes.permanent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self._note_write()
        self.changes.permanent = UNSET if bool(value) == self._stored_permanent() else bool(value)

    @property
    def created_at(self) -> dt.datetime | None:
        """When this session, or its last rotation, began (UTC); ``None`` before the first save."""
        self._read()
        return self.stored.created_at if self.stored else None

    @property
    def expires_at(self) -> dt.datetime | None:
        """When it ends unless it is used again (UTC); ``None`` before the first save."""
        self._read()
        return self.stored.expires_at if self.stored else None

    @property
    def deadline(self) -> dt.datetime | None:
        """When it ends however much it is used (UTC); ``None`` for never. Set an aware datetime, or ``None``."""
        if self.changes.deadline is None or isinstance(self.changes.deadline, dt.datetime):
            return self.changes.deadline

        self._read()
        return self.stored.deadline if self.stored else None

    @deadline.setter
    def deadline(self, value: dt.datetime | None) -> None:
        self._note_write()
        if value is not None and value.tzinfo is None:
            raise ValueError("session.deadline has no timezone: give an aware datetime, for example in UTC.")

        exact = None if value is None else moment(milliseconds(value))
        self._read()
        unchanged = self.stored is not None and self.stored.deadline == exact
        self.changes.deadline = UNSET if unchanged else exact

    @property
    def user_id(self) -> str | None:
        """Whose session it is: the text of the first user key that is present."""
        self._read()
        return self._user_of(self._values)

    @property
    def user_changed(self) -> bool:
        """Whether this request logged in, logged out or switched the user."""
        if not any(key in self.changes for key in self.context.user_keys):
            return False

        return self._user_of(self._values) != (self._user_of(self.stored.data) if self.stored else None)

    @property
    def emptied(self) -> bool:
        """Whether the record held keys and now, as far as this request knows, holds none."""
        return self.origin is Origin.LOADED and not self._values and bool(self.changes.removed)

    @property
    def forced(self) -> bool:
        """Whether the application insists on a write, changed or not."""
        return self._everything

    def known_size(self) -> int:
        """Bytes that the keys take, as far as this request knows."""
        if self.stored is None:
            return 0

        encoded = {**self.stored.encoded}
        self.changes.replay(encoded)
        return codec.size(self._schema.split(encoded))

    def saved(self, ticket: CookieContent | None, stored: StoredSession | None) -> None:
        """Go on from what is now in the database, without a further read."""
        self._was_modified = bool(self.changes or self.regenerating or self.cleared or self._everything)
        self.ticket, self.stored = ticket, stored
        self._sid = stored.sid if stored else None
        self.changes, self.ending, self._watched = Changes(), [], set()
        self.regenerating = self.confirmed = self._everything = False

        if ticket is None:
            self.origin = Origin.NONE
        elif stored is None:
            self.origin, self._values = Origin.UNREAD, {}
        else:
            self.origin = Origin.LOADED

    @property
    def logging_out(self) -> bool:
        """Whether this request ends a session, or takes the user out of it."""
        left = self.user_changed if self.origin is Origin.LOADED else self.user_dismissed
        return self.cleared or (left and self.origin in (Origin.LOADED, Origin.SUPERSEDED) and self.user_id is None)

    def _check_computable(self, key: str) -> None:
        self._note_write()
        if self._schema.sealed and key not in self._schema.declared:
            raise EncryptionUnsupported(
                f"Session key {key!r} is encrypted, the database cannot compute with it: read and assign it, "
                "or declare it as a field of the model."
            )
        if key in self.context.user_keys:
            self._read()

    def _stored_permanent(self) -> bool:
        if self.stored:
            return self.stored.permanent
        if self.ticket and self.origin is Origin.UNREAD:
            return self.ticket.permanent

        return self.context.permanent

    def _user_of(self, values: Mapping[str, t.Any]) -> str | None:
        return owner_of(values, self.context.user_keys)


def _within_int64(key: str, number: Number) -> Number:
    if isinstance(number, int) and number not in codec.INT64:
        raise TypeError(f"Session key {key!r} would grow beyond 64 bits, which the database cannot increment.")

    return number
