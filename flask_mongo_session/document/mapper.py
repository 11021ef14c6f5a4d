"""Turns sessions of one model into documents, updates and filters, and documents back into values."""

from __future__ import annotations

import functools
import logging
import time
import typing as t

from bson.int64 import Int64
from bson.objectid import ObjectId

from flask_mongo_session.exceptions import DamagedDocument, EncryptionUnsupported, UnreadableValue

from . import codec, raw_batches
from .changes import ABSENT, REMOVE, WIDE, Assign, Changes, Push, Remove, keeps_order, pipeline_of, update_of
from .lookalike import Real
from .record import Document, StoredSession

if t.TYPE_CHECKING:
    from flask_mongo_session.encryption import Sealer

    from .schema import Schema

log = logging.getLogger(__name__)

#: Seconds in which one session is warned of once, and how many sessions are remembered for it.
_WARN_SECONDS, _MAX_WARNED = 60.0, 10_000
_warned: dict[str, float] = {}

#: Types whose values all take the same number of bytes, and those of whose values none takes more than 16.
_FIXED = frozenset({type(None), bool, float, ObjectId, Real.datetime})
_NUMBERS = frozenset({*_FIXED, int, Int64})
_INT32 = range(-(1 << 31), 1 << 31)

#: Metadata to store with an update: a value to set, or ``None`` to remove the field.
Fields = t.Mapping[str, t.Any]
Update = dict[str, t.Any] | list[dict[str, t.Any]]


class DocumentMapper:
    """The mapping between session keys and the fields of one collection's documents."""

    def __init__(self, schema: Schema, *, class_name: str | None = None, sealer: Sealer | None = None) -> None:
        self.schema = schema
        self._class_name = class_name
        self._sealer = sealer
        #: Whether values of free-form keys are encrypted.
        self.encrypts = sealer is not None
        #: Bytes that a value takes at most beside itself, for its type, its encryption and the name of its field.
        self._beside = 80 + 4 * max((len(declared.db_field) for declared in schema.declared.values()), default=0)
        #: The values as stored, by session key.
        self.gather = self._gather_sealed if sealer and schema.declared else schema.gather
        self.decode = schema.decode

    @property
    def content_fields(self) -> list[str]:
        """The fields that hold values: those of free-form keys, and the declared ones."""
        return ["data", *(declared.db_field for declared in self.schema.declared.values())]

    # -- reading ----------------------------------------------------------------------------------------------------

    def stored(self, document: Document) -> StoredSession:
        """What the record holds, undecoded."""
        return StoredSession(document, self)

    def _gather_sealed(self, document: Document) -> dict[str, t.Any]:
        """A key that was declared after it was stored is found among the encrypted values."""
        sealer = t.cast("Sealer", self._sealer)
        return self.schema.gather(document, functools.partial(sealer.open, document["_id"]))

    def open(self, sid: str, key: str, stored: t.Any) -> t.Any:
        """The encoded value of one key, decrypted where needed; raises :exc:`DamagedDocument`."""
        if self._sealer is None or key in self.schema.declared:
            return stored

        return self._sealer.open(sid, codec.field_name(key), stored)

    def stored_value(self, document: Document, key: str) -> t.Any:
        """The value of one key as stored in *document*, or :data:`ABSENT`."""
        if key in self.schema.declared:
            return self.gather(document).get(key, ABSENT)

        return document.get("data", {}).get(codec.field_name(key), ABSENT)

    def read_all(self, sid: str, stored: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """All values, decoded; a damaged one is left out, with a warning."""
        values = {}
        for key, value in stored.items():
            try:
                values[key] = self.schema.decode(key, self.open(sid, key, value))
            except DamagedDocument as error:
                warn_of_damage(sid, error)

        return values

    def read_batch(self, batch: bytes) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
        """The sessions of a raw batch as ``(session id, data)``; those whose data is no document are passed over."""
        plain = None if self._sealer or self.schema.declared else raw_batches.plain_documents(batch)
        if plain is not None:
            found = ((one["_id"], one.get("data", {})) for one in plain)
            return ((sid, codec.by_key(data)) for sid, data in found if type(data) is dict)

        documents = (one for one in raw_batches.documents(batch) if type(one.get("data", {})) is dict)
        return ((one["_id"], self.read_all(one["_id"], self.gather(one))) for one in documents)

    # -- writing ----------------------------------------------------------------------------------------------------

    def document(self, sid: str, encoded: t.Mapping[str, t.Any], fields: Fields) -> Document:
        """A whole record with these values and this metadata."""
        document: Document = {"_id": sid, **self._content(sid, encoded), **_present(fields)}
        if self._class_name is not None:
            document["_cls"] = self._class_name

        return document

    def update(self, sid: str, changes: Changes, fields: Fields, stored: t.Container[str] = ()) -> Update:
        """The update that stores just the changed keys, and the metadata in *fields*.

        Beyond :data:`WIDE` keys a pipeline, since the server's work for one operation a key grows with their square;
        also where keys that are not yet *stored* would not keep their order otherwise.
        """
        if self._sealer is not None:
            changes = self._sealed(sid, changes, self._sealer)
        if self.schema.declared:
            fields = {**fields, **dict.fromkeys(self.schema.stale_paths(changes))}

        path, written = self.schema.path, len(changes) - [*changes.values()].count(REMOVE)
        wide = len(changes) > WIDE or (written > 1 and not keeps_order(changes, path, stored))
        return pipeline_of(changes, path, fields) if wide else update_of(changes, path, fields)

    def growth(self, changes: Changes, stored: t.Mapping[str, t.Any]) -> int:
        """Bytes by which *changes* make a record that holds the values *stored* grow at most, metadata aside."""
        total = 0
        for key, operation in changes.items():
            value: t.Any = 0
            if type(operation) is Assign:
                value, before = operation.encoded, stored.get(key, ABSENT)
                kind = type(value)
                if kind is type(before) and (kind in _FIXED or (kind is int and value in _INT32)):
                    continue
            elif type(operation) is Push:
                value = operation.items
                total += 8 * len(value)  # places in a long list have longer names
            elif type(operation) is Remove:
                continue

            total += self._beside + 5 * len(key)  # an escaped character takes five bytes
            if type(value) is str:
                total += 4 * len(value)
            elif type(value) not in _NUMBERS:
                total += codec.size({"": value})

        return total

    def replacement(self, sid: str, encoded: t.Mapping[str, t.Any], fields: Fields) -> dict[str, t.Any]:
        """The update that sets all values anew, and removes every declared field that is not among them."""
        content = self._content(sid, encoded)
        gone = [name for name in self.content_fields if name not in content]
        gone += [name for name, value in fields.items() if value is None]
        update: dict[str, t.Any] = {"$set": {**content, **_present(fields)}}
        if gone:
            update["$unset"] = dict.fromkeys(gone, "")

        return update

    def same_content(self, document: Document) -> Document:
        """A filter for a record whose values are exactly those of *document*, encrypted ones too."""
        return {name: {"$eq": document[name]} if name in document else None for name in self.content_fields}

    def _content(self, sid: str, encoded: t.Mapping[str, t.Any]) -> Document:
        content = self.schema.split(encoded)
        if self._sealer:
            content["data"] = self._sealer.seal_all(sid, content["data"])

        return content

    def _sealed(self, sid: str, changes: Changes, sealer: Sealer) -> Changes:
        """The changes with encrypted values, but those of declared fields."""
        sealed = Changes(changes)
        for key, operation in changes.items():
            if key in self.schema.declared or isinstance(operation, Remove):
                continue
            if not isinstance(operation, Assign):
                raise EncryptionUnsupported("increment() and append() need values that the database can read.")
            sealed.assign(key, sealer.seal(sid, codec.field_name(key), operation.encoded))

        return sealed


def warn_of_damage(sid: str, error: DamagedDocument) -> None:
    """Log that something stored cannot be used, once per session and minute."""
    now = time.monotonic()
    if now - _warned.get(sid, -_WARN_SECONDS) < _WARN_SECONDS:
        return

    _warned.pop(sid, None)
    _warned[sid] = now  # at the end: the first is the oldest
    if len(_warned) > _MAX_WARNED:
        _warned.pop(next(iter(_warned)), None)
    level = logging.ERROR if isinstance(error, UnreadableValue) else logging.WARNING
    log.log(level, "The stored session %s is damaged: %s", sid, error)


def _present(fields: Fields) -> Document:
    return {name: value for name, value in fields.items() if value is not None}
