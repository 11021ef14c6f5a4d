"""The object behind ``flask.session``: loads on first use, records what changes, does no I/O of its own."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t
from collections.abc import Iterator, Mapping

from flask.sessions import SessionMixin

from . import codec
from .changes import UNSET, Changes, Number, added, listed
from .exceptions import EncryptionUnsupported, SessionStoreUnavailable
from .records import Missing, StoredSession
from .schema import Schema
from .tokens import Ticket, session_id

if t.TYPE_CHECKING:
    from typing_extensions import Self

_REQUIRED: t.Final[t.Any] = object()
_INT64 = range(-(2**63), 2**63)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)

Loader = t.Callable[[str], StoredSession | Missing]


class SessionStatus(enum.Enum):
    """What becomes of the session at the end of the request (SCS's ``Status``)."""

    UNMODIFIED = "unmodified"
    MODIFIED = "modified"
    DESTROYED = "destroyed"


class Origin(enum.Enum):
    """What is known of the record that the cookie names."""

    #: No cookie of ours came, or the session was cleared: there is none.
    NONE = "none"
    #: There may be one; nobody has looked.
    UNREAD = "unread"
    #: It was found, alive.
    LOADED = "loaded"
    #: It was looked for in vain.
    GONE = "gone"
    #: A rotation has just ended it: the browser is about to get a better cookie than this request could give.
    SUPERSEDED = "superseded"
    #: The database did not answer; the session is empty and read-only.
    FAILED = "failed"


class Surroundings(t.NamedTuple):
    """What a session has to be told, since it knows no application."""

    #: The keys that may name the user; the first present counts.
    user_keys: tuple[str, ...] = ()
    #: What a new session starts as.
    permanent: bool = False
    #: The database's now, in UTC milliseconds, as far as it is known without asking.
    clock: t.Callable[[], int] = int
    #: What is to be kept of the browser: ``ip``, ``user_agent``.
    device: Mapping[str, str] = {}


class ServerSideSession(SessionMixin):
    """A session that lives in the database.

    A plain :class:`~collections.abc.MutableMapping` with ``copy`` and ``|=``. The first read loads the record, an
    assignment alone does not. A value is checked when it is assigned (:exc:`UnstorableValue`,
    :exc:`InvalidFieldValue`). What is changed in place is found by comparing. Attributes are never items. Works
    outside every Flask context.

    Reading raises :exc:`SessionStoreUnavailable` where the database does not answer; from then on the session is
    empty and writing raises the same.
    """

    def __init__(
        self,
        schema: Schema,
        loader: Loader,
        ticket: Ticket | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.accessed = False
        #: The record as it was found, or as this request left it; for the one who saves.
        self.stored: StoredSession | None = None
        #: What this request did so far; for the one who saves.
        self.changes = Changes()
        #: Other records that end with this request, and why.
        self.ending: list[tuple[str, str]] = []
        self.origin = Origin.NONE if ticket is None else Origin.UNREAD
        self.ticket = ticket
        self.surroundings = surroundings or Surroundings()
        #: Whether a new token was asked for, whether the user was authenticated anew, whether all keys were emptied.
        self.regenerating = self.confirmed = self.cleared = False
        #: Why the cookie's session was not to be had, and which one it was.
        self.rejection: Missing | None = None
        self.rejected_sid: str | None = None
        self._schema = schema
        self._loader = loader
        self._sid: str | None = None
        self._values: dict[str, t.Any] = {}
        self._watched: set[str] = set()
        self._defaults: dict[str, t.Any] = {}
        self._everything = False
        self._was_modified = False

    def __repr__(self) -> str:
        """Counts, never contents, and no token."""
        count = "unread" if self.origin is Origin.UNREAD else len(self._values)
        return f"<{type(self).__name__} keys={count} {self.origin.value}>"

    # -- the mapping ------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> t.Any:
        if key not in self.changes.assigned:
            self._read()

        try:
            value = self._values[key]
        except KeyError:
            return self._default(key)

        if type(value) not in codec.IMMUTABLE:
            self._watched.add(key)
        return value

    def __setitem__(self, key: str, value: t.Any) -> None:
        self._check_writable()
        encoded = self._schema.encode(key, value)
        if key in self.surroundings.user_keys:
            self._read()

        self._values[key] = kept = self._schema.keep(key, value, encoded)
        self._defaults.pop(key, None)
        self._record(key, encoded)
        if type(kept) not in codec.IMMUTABLE:
            self._watched.add(key)

    def __delitem__(self, key: str) -> None:
        self._read()
        del self._values[key]
        self._watched.discard(key)

        if self.stored and key in self.stored.encoded:
            self.changes.remove(key)
        else:
            self.changes.discard(key)

    def __contains__(self, key: object) -> bool:
        if key not in self.changes.assigned:
            self._read()

        return key in self._values

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter(list(self._values))

    def __len__(self) -> int:
        self._read()
        return len(self._values)

    def __ior__(self, other: Mapping[str, t.Any]) -> Self:
        self.update(other)
        return self

    def __or__(self, other: Mapping[str, t.Any]) -> dict[str, t.Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, t.Any]) -> dict[str, t.Any]:
        return {**other, **self}

    def copy(self) -> dict[str, t.Any]:
        """The keys and values as a plain, shallow dictionary."""
        return dict(self)

    def get(
        self,
        key: str,
        default: t.Any = None,
        type: t.Callable[[t.Any], t.Any] | None = None,  # noqa: A002 - Werkzeug's name
    ) -> t.Any:
        """The value, converted by *type*; *default* when there is none or it does not convert (as in Werkzeug)."""
        try:
            return _converted(self[key], type)
        except (KeyError, _NotConverted):
            return default

    def pop(
        self,
        key: str,
        default: t.Any = _REQUIRED,
        type: t.Callable[[t.Any], t.Any] | None = None,  # noqa: A002
    ) -> t.Any:
        """Remove the key and return its value, converted as in :meth:`get`; KeyError without key and default."""
        self._read()
        if key not in self._values:
            if default is _REQUIRED:
                raise KeyError(key)
            return default

        value = self._values[key]
        self._check_writable()
        del self[key]
        try:
            return _converted(value, type)
        except _NotConverted as error:
            if default is _REQUIRED:
                raise t.cast("Exception", error.__cause__) from None
            return default

    def setdefault(self, key: str, default: t.Any = None) -> t.Any:
        """The value, after assigning *default* when the key is absent."""
        if key not in self:
            self[key] = default

        return self[key]

    def clear(self) -> None:
        """End the session. What is written afterwards belongs to a new one, under a new token."""
        self._check_writable()
        if self.ticket and self.origin is not Origin.GONE:
            self.ending.append((session_id(self.ticket.token), "logout"))

        self.origin, self.ticket, self.stored, self._sid = Origin.NONE, None, None, None
        self.changes, self._values, self._defaults, self._watched = Changes(), {}, {}, set()
        self.regenerating = self.confirmed = self._everything = False
        self.cleared = True

    # -- the manager's vocabulary -----------------------------------------------------------------------------------

    def destroy(self) -> None:
        """End the session (SCS's ``Destroy``); the same as :meth:`clear`."""
        self.clear()

    def regenerate(self) -> None:
        """Go on under a new token, data kept, lifetime restarted (SCS's ``RenewToken``, OWASP ASVS 5.0 7.2.4)."""
        self._check_writable()
        self._read()
        self.regenerating = self.origin is Origin.LOADED

    def merge(self, token: str) -> None:
        """Take over another session: its values win, the later deadline stays, it ends (SCS's ``MergeSession``).

        Nothing happens when it is this very session or there is none.
        """
        self._check_writable()
        sid = session_id(token)
        self._read()
        if sid == self.sid:
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

        Does not read. Raises TypeError where the value is known to be no number, else when it is saved.
        """
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            raise TypeError(f"increment({key!r}) adds a number, not a {type(by).__name__}.")
        self._check_computable(key)
        self._schema.check_number(key)

        if self._is_known(key):
            self[key] = _within_int64(key, added(key, self._values.get(key, 0), by))
            return

        if self.origin is Origin.LOADED:
            self._values[key] = _within_int64(key, added(key, self._values.get(key, 0), by))
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
        self._check_writable()
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
        return at is not None and self.surroundings.clock() - _milliseconds(at) <= max_age * 1000

    @property
    def token(self) -> str | None:
        """The secret in the cookie; ``None`` before the first save. Never log it: :attr:`sid` is for that."""
        return self.ticket.token if self.ticket and self.origin is not Origin.GONE else None

    @property
    def sid(self) -> str | None:
        """The session id, safe to show, to store and to log; ``None`` before the first save."""
        token = self.token
        if token is None:
            return None

        if self._sid is None:
            self._sid = session_id(token)
        return self._sid

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
        self._check_writable()
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
        self._check_writable()
        if value is not None and value.tzinfo is None:
            raise ValueError("session.deadline has no timezone: give an aware datetime, for example in UTC.")

        exact = None if value is None else _EPOCH + dt.timedelta(milliseconds=_milliseconds(value))
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
        if not any(key in self.changes for key in self.surroundings.user_keys):
            return False

        return self._user_of(self._values) != (self._user_of(self.stored.data) if self.stored else None)

    # -- for the one who saves --------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Record what was changed in place; raises what assigning it would have raised."""
        for key in self._watched:
            if key in self._values:
                self._record_in_place(key, self._schema.encode(key, self._values[key]))

        for key, value in self._defaults.items():
            encoded = self._schema.encode(key, value)
            if not codec.same(encoded, self._schema.encode(key, self._schema.default(key))):
                self._values[key] = value
                self.changes.assign(key, encoded)

        if self._everything:
            for key, value in self._values.items():
                self.changes.assign(key, self._schema.encode(key, value))

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
        return codec.size({"data": encoded})

    def saved(self, ticket: Ticket | None, stored: StoredSession | None) -> None:
        """Go on from what is now in the database, without a further read."""
        self._was_modified = bool(self.changes or self.regenerating or self.cleared or self._everything)
        self.ticket, self._sid, self.stored = ticket, None, stored
        self.changes, self.ending, self._watched = Changes(), [], set()
        self.regenerating = self.confirmed = self._everything = False

        if ticket is None:
            self.origin = Origin.NONE
        elif stored is None:
            self.origin, self._values = Origin.UNREAD, {}
        else:
            self.origin = Origin.LOADED

    def fail(self) -> None:
        """The database did not answer: empty and read-only from here on."""
        self.origin = Origin.FAILED
        self.changes, self.ending, self._values, self._watched, self._defaults = Changes(), [], {}, set(), {}
        self.regenerating = self.confirmed = self.cleared = self._everything = self._was_modified = False

    def missed(self, why: Missing) -> None:
        """What was written so far stays, for a new session; additions start from nothing."""
        self.reject(why)
        self.origin = Origin.SUPERSEDED if why is Missing.SUPERSEDED else Origin.GONE

        encoded: dict[str, t.Any] = {}
        self.changes.replay(encoded)
        for key in (*self.changes.incremented, *self.changes.appended):
            self._values[key] = self._schema.decode(key, encoded[key])
        self.changes.assigned, self.changes.incremented, self.changes.appended = encoded, {}, {}

    def reject(self, why: Missing) -> None:
        """Remember that the cookie's session was not to be had."""
        self.rejection, self.rejected_sid = why, self.sid

    @property
    def logging_out(self) -> bool:
        """Whether this request ends a session, or takes the user out of it."""
        return self.cleared or (self.origin is Origin.LOADED and self.user_changed and self.user_id is None)

    def values_now(self) -> dict[str, t.Any]:
        """The values as they stand, without loading or watching."""
        return self._values

    # -- inside -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Load the record unless that was done; what was written before stays on top."""
        if self.origin is not Origin.UNREAD:
            return

        try:
            found = self._loader(t.cast("str", self.sid))
        except SessionStoreUnavailable:
            self.fail()
            raise

        if isinstance(found, StoredSession):
            self._adopt(found)
        else:
            self.missed(found)

    def _adopt(self, found: StoredSession) -> None:
        written, self._values = self._values, dict(found.data)
        self.origin, self.stored = Origin.LOADED, found

        for key, encoded in list(self.changes.assigned.items()):
            self._values[key] = written[key]
            self._record(key, encoded)
        for key, by in self.changes.incremented.items():
            self._values[key] = added(key, self._values.get(key, 0), by)
        for key, push in self.changes.appended.items():
            self._values[key] = self._schema.decode(key, push.onto(listed(key, found.encoded.get(key, []))))

    def _record(self, key: str, encoded: t.Any) -> None:
        """An assignment; of what is already there it is none."""
        before = self.stored.encoded.get(key, _REQUIRED) if self.stored else _REQUIRED
        if before is not _REQUIRED and codec.same(encoded, before):
            self.changes.discard(key)
        else:
            self.changes.assign(key, encoded)

    def _record_in_place(self, key: str, encoded: t.Any) -> None:
        push = self.changes.appended.get(key)
        if push is None:
            self._record(key, encoded)
        elif not codec.same(encoded, push.onto(self.stored.encoded.get(key, []) if self.stored else [])):
            self.changes.assign(key, encoded)

    def _default(self, key: str) -> t.Any:
        """As ``defaultdict.__missing__``, but stored only when it is changed in place."""
        if key not in self._defaults:
            self._defaults[key] = self._schema.default(key)

        return self._defaults[key]

    def _is_known(self, key: str) -> bool:
        """Whether the value is this request's own, so that there is nothing to compute in the database."""
        return (
            self.origin in (Origin.NONE, Origin.GONE, Origin.SUPERSEDED)
            or key in self.changes.assigned
            or key in self.changes.removed
            or key in self.surroundings.user_keys
        )

    def _check_computable(self, key: str) -> None:
        self._check_writable()
        if self._schema.sealed and key not in self._schema.declared:
            raise EncryptionUnsupported(
                f"Session key {key!r} is encrypted, the database cannot compute with it: read and assign it, "
                "or declare it as a field of the model."
            )
        if key in self.surroundings.user_keys:
            self._read()

    def _check_writable(self) -> None:
        if self.origin is Origin.FAILED:
            raise SessionStoreUnavailable

    def _stored_permanent(self) -> bool:
        if self.stored:
            return self.stored.permanent
        if self.ticket and self.origin is Origin.UNREAD:
            return self.ticket.permanent

        return self.surroundings.permanent

    def _user_of(self, values: Mapping[str, t.Any]) -> str | None:
        found = (values[key] for key in self.surroundings.user_keys if values.get(key) is not None)
        return next((str(user) for user in found), None)


class _NotConverted(Exception):
    """A typed access whose conversion failed; its cause is what the conversion raised."""


def _converted(value: t.Any, convert: t.Callable[[t.Any], t.Any] | None) -> t.Any:
    if convert is None:
        return value

    try:
        return convert(value)
    except (ValueError, TypeError) as error:
        raise _NotConverted from error


def _within_int64(key: str, number: Number) -> Number:
    if isinstance(number, int) and number not in _INT64:
        raise TypeError(f"Session key {key!r} would grow beyond 64 bits, which the database cannot increment.")

    return number


def _milliseconds(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)
