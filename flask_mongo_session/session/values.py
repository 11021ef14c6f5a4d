"""The keys of a session as one request sees them, and what it does to them: no cookie, no I/O.

Values are decoded key by key as they are read. What is handed out and may change in place is compared with what is
stored when the request ends.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from bson.objectid import ObjectId

from flask_mongo_session.document import codec
from flask_mongo_session.document.changes import (
    ABSENT,
    REMOVE,
    Add,
    Assign,
    Changes,
    Number,
    added,
    applied,
    listed,
)
from flask_mongo_session.document.mapper import DocumentMapper, warn_of_damage
from flask_mongo_session.exceptions import DamagedDocument, EncryptionUnsupported

#: Types of free-form values of which every value is stored as it is.
_AS_IS = frozenset({type(None), bool, float, bytes, ObjectId})
#: Types of which values that are not equal are not stored alike, either.
_SIMPLE = frozenset({str, int})
#: Types of free-form values that are read as they are stored.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, ObjectId})


class TrackedValues:
    """Values by session key, over what is stored, with the changes of this request on top.

    Whoever uses it loads the record first where a method says so.
    """

    __slots__ = (
        "_known",
        "_mapper",
        "_schema",
        "changes",
        "defaults",
        "handed_out",
        "looked_at",
        "looking",
        "same",
        "sid",
        "stored",
    )

    def __init__(self, mapper: DocumentMapper) -> None:
        self._mapper = mapper
        self._schema = mapper.schema
        #: What this request did so far, but for what was changed in place and not settled yet.
        self.changes = Changes()
        #: Assigned values that were stored already; they are no change, but belong to what this request wrote.
        self.same: dict[str, t.Any] = {}
        #: The values as stored.
        self.stored: Mapping[str, t.Any] = {}
        #: Whether reading a key is noted, and which were read: their absence proves nothing to a later write.
        self.looking = False
        self.looked_at: set[str] | None = set()
        #: Whose values they are.
        self.sid = ""
        self._known: dict[str, t.Any] = {}
        #: Keys whose values may have been changed in place.
        self.handed_out: set[str] = set()
        #: Declared defaults that were handed out, with what they were encoded as.
        self.defaults: dict[str, tuple[t.Any, t.Any]] = {}

    def __len__(self) -> int:
        """How many values are known without reading any more; for people."""
        return len({*self._known, *self.stored})

    # -- what is stored ---------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Drop, from what was written before the record was loaded, what it says already."""
        for key, operation in list(self.changes.items()):
            if type(operation) is Assign:
                self._record(key, operation.encoded)

    def forget(self) -> None:
        """Go on over nothing at all: whatever was stored, read or written before has no meaning any more."""
        self.stored, self._known, self.same = {}, {}, {}
        self.changes, self.handed_out, self.defaults, self.looked_at = Changes(), set(), {}, set()

    def written_so_far(self) -> dict[str, t.Any]:
        """All that this request wrote, encoded, over nothing: what a new session starts with."""
        written = {**self.same}
        self.changes.replay(written)
        return written

    def all_encoded(self) -> dict[str, t.Any]:
        """All values, encoded: what was loaded, with this request's changes."""
        encoded = {key: found for key in self.stored if (found := self.open(key)) is not ABSENT}
        self.changes.replay(encoded)
        return encoded

    # -- reading, once loaded ---------------------------------------------------------------------------------------

    def get(self, key: str) -> t.Any:
        """The value, or :data:`ABSENT`."""
        if self.looking:
            self._look_at(key)
        known = self._known
        if key in known:
            return known[key]

        plain = not (self.changes or self._mapper.encrypts or key in self._schema.declared)
        encoded = self.stored.get(key, ABSENT) if plain else self._encoded(key)
        if encoded is ABSENT or (plain and type(encoded) in _PLAIN):
            if encoded is not ABSENT:
                known[key] = encoded
            return encoded

        return self._decoded(key, encoded)

    def default(self, key: str) -> t.Any:
        """As ``defaultdict.__missing__``, but stored only when it is changed in place; raises :exc:`KeyError`."""
        if key not in self.defaults:
            value = self._schema.default(key)
            fixed = type(value) in codec.IMMUTABLE
            self.defaults[key] = value, ABSENT if fixed else self._schema.snapshot(key, value)

        return self.defaults[key][0]

    def has(self, key: object) -> bool:
        """Whether there is a value."""
        if not isinstance(key, str):
            hash(key)  # raises as a dictionary does
            return False

        if self.defaults:
            self.keep_changed_defaults()
        return self.get(key) is not ABSENT

    def keys(self) -> list[str]:
        """All keys in the order in which they are stored, then the new ones in the order in which they came."""
        if self.looking:
            self.looked_at = None  # all of them
        self.keep_changed_defaults()
        every = dict.fromkeys((*self.stored, *self.changes, *self._known))
        return [key for key in every if self.get(key) is not ABSENT]

    def _look_at(self, key: str) -> None:
        if self.looked_at is not None and type(self.changes.get(key)) is not Assign:
            self.looked_at.add(key)

    def _decoded(self, key: str, encoded: t.Any) -> t.Any:
        """Decode a value that was not handed out before."""
        try:
            value = self._schema.decode(key, encoded)
        except DamagedDocument as error:
            warn_of_damage(self.sid, error)
            return ABSENT
        self._known[key] = value
        if type(value) not in codec.IMMUTABLE:
            self.handed_out.add(key)
        return value

    def _encoded(self, key: str) -> t.Any:
        """The encoded value as it will be stored unless something is changed in place, or :data:`ABSENT`."""
        operation = self.changes.get(key)
        if type(operation) is Assign:
            return operation.encoded

        encoded = self.open(key)
        return encoded if operation is None else applied(key, operation, encoded)

    def open(self, key: str) -> t.Any:
        """The stored value, decrypted where needed, still encoded; :data:`ABSENT` where there is none."""
        stored = self.stored.get(key, ABSENT)
        if stored is ABSENT or not self._mapper.encrypts:
            return stored

        try:
            return self._mapper.open(self.sid, key, stored)
        except DamagedDocument as error:
            warn_of_damage(self.sid, error)
            return ABSENT

    # -- writing ----------------------------------------------------------------------------------------------------

    def assign(self, key: str, value: t.Any) -> None:
        """Set a value; raises :exc:`UnstorableValue` or :exc:`InvalidFieldValue`."""
        schema = self._schema
        kind = type(value)
        as_is = kind in _AS_IS or (kind is int and value in codec.INT64) or (kind is str and value.isascii())
        if as_is and type(key) is str and key not in schema.declared:
            encoded = kept = value
        else:
            encoded = schema.encode(key, value)
            kept = schema.keep(key, value, encoded)
        self._known[key] = kept
        if self.defaults:
            self.defaults.pop(key, None)
        if type(kept) not in codec.IMMUTABLE:
            self.handed_out.add(key)

        stored = self.stored.get(key, ABSENT)
        if stored is ABSENT or (type(stored) in _SIMPLE and type(encoded) in _SIMPLE and stored != encoded):
            self.changes[key] = Assign(encoded)
        else:
            self._record(key, encoded)

    def remove(self, key: str) -> None:
        """Remove a key that is there."""
        self._known.pop(key, None)
        self.handed_out.discard(key)
        self.same.pop(key, None)
        if key in self.stored:
            self.changes[key] = REMOVE
        else:
            self.changes.pop(key, None)

    def forbid(self, key: str) -> None:
        """Remove a key wherever it may be stored, seen or not."""
        self._known.pop(key, None)
        self.handed_out.discard(key)
        self.same.pop(key, None)
        self.changes[key] = REMOVE

    def increment(self, key: str, by: Number, *, blind: bool) -> None:
        """Add to a number in the database; unless *blind* the value here follows."""
        pending = self.changes.get(key)
        if type(pending) is Add:
            within_int64(key, pending.by + by)
        if not blind:
            total = within_int64(key, added(key, _or(self.get(key), 0), by))
            self._known[key] = self._schema.keep(key, total, self._schema.encode(key, total))
        else:
            self._known.pop(key, None)
        self.changes.add(key, by)

    def append(self, key: str, encoded: t.Any, limit: int | None, *, blind: bool) -> None:
        """Append an encoded item to a list in the database; unless *blind* the list here follows."""
        if not blind:
            current = listed(key, _or(self.get(key), []))
            current.append(self._schema.decode(key, [encoded])[0])
            del current[: -limit if limit else 0]
            self._known[key] = current
            self.handed_out.add(key)
        else:
            self._known.pop(key, None)
            self.handed_out.discard(key)
        self.changes.append(key, encoded, limit)

    def check_computable(self, key: str) -> None:
        """Raise :exc:`EncryptionUnsupported` where the database cannot read the value."""
        if self._schema.sealed and key not in self._schema.declared:
            raise EncryptionUnsupported(
                f"Session key {key!r} is encrypted, the database cannot compute with it: read and assign it, "
                "or declare it as a field of the model."
            )

    # -- the end of the request -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Record what was changed in place; raises what assigning it would have raised."""
        for key in self.handed_out:
            encoded, value = self._encoded(key), self._known[key]
            if encoded is ABSENT or self._schema.differs(key, value, encoded):
                self._record(key, self._schema.encode(key, value))

        if self.defaults:
            self.keep_changed_defaults()

    def write_all(self) -> None:
        """Record every value as a change, whether it is one or not."""
        for key in self.keys():
            self.changes.assign(key, self._schema.encode(key, self._known[key]))

    def discard_changes(self) -> None:
        """Forget every change of this request; the values stay as they are."""
        self.changes, self.handed_out, self.same = Changes(), set(), {}

    def keep_changed_defaults(self) -> None:
        """A default that was changed in place is a value like any other."""
        for key, (value, before) in list(self.defaults.items()):
            if before is not ABSENT and self._schema.differs(key, value, before):
                self.changes.assign(key, self._schema.encode(key, value))
                self._known[key] = value
                self.handed_out.add(key)
                del self.defaults[key]

    def _record(self, key: str, encoded: t.Any) -> None:
        """An assignment; of what is stored already it is none."""
        stored = self.open(key)
        if stored is not ABSENT and codec.same(encoded, stored):
            self.changes.pop(key, None)
            self.same[key] = encoded
        else:
            self.changes[key] = Assign(encoded)
            self.same.pop(key, None)


def within_int64(key: str, number: Number) -> Number:
    """*number*, or :exc:`TypeError` where the database cannot count that far."""
    if isinstance(number, int) and number not in codec.INT64:
        raise TypeError(f"Session key {key!r} would grow beyond 64 bits, which the database cannot increment.")

    return number


def _or(value: t.Any, otherwise: t.Any) -> t.Any:
    return otherwise if value is ABSENT else value
