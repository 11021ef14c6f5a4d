"""A mapping over one session's record: loads on the first read, checks what is assigned, records what changes."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping

from flask_mongo_session.document import codec
from flask_mongo_session.document.changes import Changes, added, listed
from flask_mongo_session.document.record import Missing, StoredSession
from flask_mongo_session.document.schema import Schema
from flask_mongo_session.exceptions import SessionStoreUnavailable

from .state import CookieReader, Identity, Origin
from .tokens import CookieContent

if t.TYPE_CHECKING:
    from typing_extensions import Self

_REQUIRED: t.Final[t.Any] = object()

Loader = t.Callable[[str], StoredSession | Missing]


class SessionContext(t.NamedTuple):
    """What a session has to be told, since it knows no application."""

    #: The keys that may name the user; the first present counts.
    user_keys: tuple[str, ...] = ()
    #: What a new session starts as.
    permanent: bool = False
    #: The database's now, in UTC milliseconds, as far as it is known without asking.
    clock: t.Callable[[], int] = int
    #: What is to be kept of the browser: ``ip``, ``user_agent``.
    device: Mapping[str, str] = {}


class TrackedValues(Identity):
    """The keys of a session, and what a request did to them. Works outside every Flask context."""

    accessed = False
    #: The record as it was found, or as this request left it; for the one who saves.
    stored: StoredSession | None = None
    #: Whether a new token was asked for, whether the user was authenticated anew, whether all keys were emptied.
    regenerating = confirmed = cleared = False
    #: Whether the user was to be taken out where none was to be seen, as right after a rotation.
    user_dismissed = False
    #: Whether something was written after the database did not answer; it is kept nowhere.
    unsaved = False
    _everything = _was_modified = False

    def __init__(
        self,
        schema: Schema,
        loader: Loader,
        ticket: CookieContent | CookieReader | None = None,
        context: SessionContext | None = None,
    ) -> None:
        super().__init__(ticket)
        self._schema = schema
        self._loader = loader
        self.context = context or SessionContext()
        #: What this request did so far; for the one who saves.
        self.changes = Changes()
        #: Other records that end with this request, and why.
        self.ending: list[tuple[str, str]] = []
        self._values: dict[str, t.Any] = {}
        self._watched: set[str] = set()
        self._defaults: dict[str, t.Any] = {}

    @property
    def quiet(self) -> bool:
        """Whether this request did nothing that could have changed the session."""
        return not (
            self._watched
            or self._defaults
            or self.changes
            or self.ending
            or self.regenerating
            or self.confirmed
            or self.cleared
            or self._everything
        )

    def __repr__(self) -> str:
        """Counts, never contents, and no token."""
        count = "unread" if self.origin is Origin.UNREAD else len(self._values)
        return f"<{type(self).__name__} keys={count} {self.origin.value}>"

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
        self._note_write()
        encoded = self._schema.encode(key, value)
        if key in self.context.user_keys:
            self._read()

        self._values[key] = kept = self._schema.keep(key, value, encoded)
        self._defaults.pop(key, None)
        self._record(key, encoded)
        if type(kept) not in codec.IMMUTABLE:
            self._watched.add(key)

    def __delitem__(self, key: str) -> None:
        self._read_to_remove(key)
        del self._values[key]
        self._watched.discard(key)

        if self.stored and key in self.stored.encoded:
            self.changes.remove(key)
        else:
            self.changes.discard(key)

    def __contains__(self, key: object) -> bool:
        if key not in self.changes.assigned:
            self._read()

        self._store_changed_defaults()
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        self._read()
        self._store_changed_defaults()
        return iter(list(self._values))

    def __len__(self) -> int:
        self._read()
        self._store_changed_defaults()
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
            value = self[key]
        except KeyError:
            return default

        try:
            return _converted(value, type)
        except _NotConverted:
            return default

    def pop(
        self,
        key: str,
        default: t.Any = _REQUIRED,
        type: t.Callable[[t.Any], t.Any] | None = None,  # noqa: A002
    ) -> t.Any:
        """Remove the key and return its value, converted as in :meth:`get`; KeyError without key and default."""
        self._read_to_remove(key)
        if key not in self._values:
            self.user_dismissed |= key in self.context.user_keys
            if default is _REQUIRED:
                raise KeyError(key)
            return default

        value = self._values[key]
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

    def settle(self) -> None:
        """Record what was changed in place; raises what assigning it would have raised."""
        for key in self._watched:
            if key in self._values:
                self._record_in_place(key, self._schema.encode(key, self._values[key]))

        self._store_changed_defaults()
        if self._everything:
            for key, value in self._values.items():
                self.changes.assign(key, self._schema.encode(key, value))

    def missed(self, why: Missing) -> None:
        """What was written so far stays, for a new session; additions start from nothing."""
        self.reject(why)
        self.origin = Origin.SUPERSEDED if why is Missing.SUPERSEDED else Origin.GONE

        encoded: dict[str, t.Any] = {}
        self.changes.replay(encoded)
        for key in (*self.changes.incremented, *self.changes.appended):
            self._values[key] = self._schema.decode(key, encoded[key])
        self.changes.assigned, self.changes.incremented, self.changes.appended = encoded, {}, {}

    def fail(self) -> None:
        """The database did not answer: empty from here on, and nothing is saved any more."""
        self.origin = Origin.FAILED
        self.changes, self.ending, self._values, self._watched, self._defaults = Changes(), [], {}, set(), {}
        self.regenerating = self.confirmed = self.cleared = self._everything = self._was_modified = False

    def values_now(self) -> dict[str, t.Any]:
        """The values as they stand, without loading or watching."""
        return self._values

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

    def _store_changed_defaults(self) -> None:
        """A default that was changed in place is a value like any other."""
        for key, value in list(self._defaults.items()):
            encoded = self._schema.encode(key, value)
            if not codec.same(encoded, self._schema.encode(key, self._schema.default(key))):
                self._values[key] = self._defaults.pop(key)
                self._watched.add(key)
                self.changes.assign(key, encoded)

    def _is_known(self, key: str) -> bool:
        """Whether the value is this request's own, so that there is nothing to compute in the database."""
        return (
            self.origin in (Origin.NONE, Origin.GONE, Origin.SUPERSEDED)
            or key in self.changes.assigned
            or key in self.changes.removed
            or key in self.context.user_keys
        )

    def _note_write(self) -> None:
        """After a failure a write goes nowhere, and is remembered: an answer that relies on it must not go out."""
        if self.origin is Origin.FAILED:
            self.unsaved = True

    def _read_to_remove(self, key: str) -> None:
        """Read; where that fails, removing the user key was a log-out that nobody confirmed."""
        try:
            self._read()
        finally:
            if self.origin is Origin.FAILED:
                self.unsaved = True
                self.cleared |= key in self.context.user_keys


class _NotConverted(Exception):
    """A typed access whose conversion failed; its cause is what the conversion raised."""


def _converted(value: t.Any, convert: t.Callable[[t.Any], t.Any] | None) -> t.Any:
    if convert is None:
        return value

    try:
        return convert(value)
    except (ValueError, TypeError) as error:
        raise _NotConverted from error
