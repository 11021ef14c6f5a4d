"""A session as the database holds it: building the document, reading it back, the update for a change."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t

from flask_mongo_session.exceptions import DamagedDocument, EncryptionUnsupported

from . import codec
from . import raw_batches as batches
from .changes import UNSET, Changes

if t.TYPE_CHECKING:
    from flask_mongo_session.encryption import Sealer

    from .schema import Schema

Document = dict[str, t.Any]


class Missing(enum.Enum):
    """Why there is no live session."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    DAMAGED = "damaged"
    #: Ended by a rotation in the last seconds: its owner already has a better cookie.
    SUPERSEDED = "superseded"


class StoredSession:
    """A live session as found in the database. Dates are aware, UTC, in whole milliseconds.

    Raises :exc:`DamagedDocument` where expiry or deadline are no dates; another field of the wrong type counts as
    absent, and is not looked at before somebody asks for it.
    """

    __slots__ = ("_document", "data", "deadline", "encoded", "expires_at", "sid")

    def __init__(self, document: Document, encoded: dict[str, t.Any], data: dict[str, t.Any]) -> None:
        self.sid: str = document["_id"]
        self.expires_at = t.cast("dt.datetime", document.get("expires_at"))
        self.deadline: dt.datetime | None = document.get("deadline")
        #: All keys with their values, decoded: free-form and declared ones.
        self.data = data
        #: The same, as stored.
        self.encoded = encoded
        self._document = document

        if type(self.expires_at) is not dt.datetime:
            raise DamagedDocument("The expiry is no date.")
        if self.deadline is not None and type(self.deadline) is not dt.datetime:
            raise DamagedDocument("The deadline is no date.")

    def __repr__(self) -> str:
        """Without what is in it."""
        return f"<StoredSession {self.sid} expires_at={self.expires_at.isoformat()} keys={len(self.data)}>"

    @property
    def created_at(self) -> dt.datetime | None:
        """When it, or its last rotation, began."""
        return self._date("created_at")

    @property
    def touched_at(self) -> dt.datetime | None:
        """When its expiry was moved last."""
        return self._date("touched_at")

    @property
    def authenticated_at(self) -> dt.datetime | None:
        """When the user logged in, or confirmed who it is."""
        return self._date("authenticated_at")

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser."""
        return self._document.get("permanent") is True

    @property
    def user_id(self) -> str | None:
        """Whose it is."""
        return self._text("user_id")

    @property
    def ip(self) -> str | None:
        """The browser's address, where that is kept."""
        return self._text("ip")

    @property
    def user_agent(self) -> str | None:
        """What the browser called itself, where that is kept."""
        return self._text("user_agent")

    def touched(self, at: dt.datetime, expires_at: dt.datetime) -> StoredSession:
        """The same session with its expiry moved."""
        return StoredSession({**self._document, "touched_at": at, "expires_at": expires_at}, self.encoded, self.data)

    def _date(self, name: str) -> dt.datetime | None:
        value = self._document.get(name)
        return value if type(value) is dt.datetime else None

    def _text(self, name: str) -> str | None:
        value = self._document.get(name)
        return value if type(value) is str else None


class Metadata(t.NamedTuple):
    """Everything about a new record that is no session key."""

    now: dt.datetime
    expires_at: dt.datetime
    deadline: dt.datetime | None = None
    permanent: bool = False
    user_id: str | None = None
    authenticated_at: dt.datetime | None = None
    device: t.Mapping[str, str] = {}

    def fields(self) -> Document:
        """The document's fields: those with something to say."""
        fields: Document = {"created_at": self.now, "expires_at": self.expires_at, "touched_at": self.now}
        if self.user_id is not None:
            fields["user_id"] = self.user_id
        if self.authenticated_at is not None:
            fields["authenticated_at"] = self.authenticated_at
        if self.deadline is not None:
            fields["deadline"] = self.deadline
        if self.permanent:
            fields["permanent"] = True

        fields.update(self.device)
        return fields


def owner_of(values: t.Mapping[str, t.Any], user_keys: t.Iterable[str]) -> str | None:
    """Whose session it is: the text of the first of *user_keys* that is present."""
    for key in user_keys:
        user = values.get(key)
        if user is not None:
            return str(user)

    return None


class DocumentMapper:
    """Turns sessions of one model into documents and back."""

    def __init__(self, schema: Schema, *, class_name: str | None = None, sealer: Sealer | None = None) -> None:
        self.schema = schema
        self._class_name = class_name
        self._sealer = sealer

    def document(self, sid: str, encoded: t.Mapping[str, t.Any], frame: Metadata) -> Document:
        """A new session's document."""
        document: Document = {"_id": sid, **self.schema.split(encoded), **frame.fields()}
        if self._sealer:
            document["data"] = self._sealer.seal_all(sid, document["data"])
        if self._class_name is not None:
            document["_cls"] = self._class_name

        return document

    def read(self, document: Document) -> StoredSession:
        """What is stored; raises :exc:`DamagedDocument` for what no session can be made of."""
        encoded = self.encoded(document)
        return StoredSession(document, encoded, self.schema.decode_all(encoded))

    def read_all(self, batch: bytes) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
        """The sessions of a raw batch as ``(session id, data)``; damaged ones are passed over."""
        plain = None if self._sealer or self.schema.declared else batches.plain_documents(batch)
        if plain is not None:
            found = ((one["_id"], one.get("data", {})) for one in plain)
            return ((sid, codec.by_key(data)) for sid, data in found if type(data) is dict)

        return self._read_each(batch)

    def _read_each(self, batch: bytes) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
        for document in batches.documents(batch):
            try:
                data = self.schema.decode_all(self.encoded(document))
            except DamagedDocument:
                continue
            yield document["_id"], data

    def encoded(self, document: Document) -> dict[str, t.Any]:
        """The encoded values by session key, opened; raises :exc:`DamagedDocument`."""
        if self._sealer and type(document.get("data")) is dict:
            document = {**document, "data": self._sealer.open_all(document["_id"], document["data"])}

        return self.schema.gather(document)

    def update(self, sid: str, changes: Changes) -> dict[str, dict[str, t.Any]]:
        """The MongoDB update for *changes*, without expiry."""
        update = changes.update_of(self.schema.path)
        if self._sealer:
            self._seal_update(sid, update)

        for name in ("permanent", "deadline", "user_id", "authenticated_at"):
            value = getattr(changes, name)
            if value is UNSET:
                continue
            operator, operand = ("$unset", "") if value is None else ("$set", value)
            update.setdefault(operator, {})[name] = operand

        return update

    def unchanged(self, encoded: t.Mapping[str, t.Any]) -> Document:
        """A filter for a record that holds exactly these values still (never encrypted ones: they differ each time)."""
        document = self.schema.split(encoded)
        absent = {declared.db_field: None for key, declared in self.schema.declared.items() if key not in encoded}

        return {**{name: {"$eq": value} for name, value in document.items()}, **absent}

    def _seal_update(self, sid: str, update: dict[str, dict[str, t.Any]]) -> None:
        sealer = t.cast("Sealer", self._sealer)
        for operator in ("$inc", "$push"):
            if any(path.startswith("data.") for path in update.get(operator, ())):
                raise EncryptionUnsupported("increment() and append() need values that the database can read.")

        for path, value in update.get("$set", {}).items():
            if path.startswith("data."):
                update["$set"][path] = sealer.seal(sid, path[len("data.") :], value)
