"""A session as the database holds it: building the document, reading it back, the update for a change."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t
from dataclasses import dataclass, field

from .changes import UNSET, Changes
from .exceptions import DamagedDocument, EncryptionUnsupported

if t.TYPE_CHECKING:
    from .encryption import Sealer
    from .schema import Schema

Document = dict[str, t.Any]


class Missing(enum.Enum):
    """Why there is no live session."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    DAMAGED = "damaged"
    #: Ended by a rotation in the last seconds: its owner already has a better cookie.
    SUPERSEDED = "superseded"


@dataclass
class StoredSession:
    """A live session as found in the database. Dates are aware, UTC, in whole milliseconds."""

    sid: str
    expires_at: dt.datetime
    #: All keys with their values, decoded: free-form and declared ones.
    data: dict[str, t.Any] = field(repr=False)
    #: The same, as stored.
    encoded: dict[str, t.Any] = field(repr=False)
    created_at: dt.datetime | None = None
    touched_at: dt.datetime | None = None
    authenticated_at: dt.datetime | None = None
    deadline: dt.datetime | None = None
    permanent: bool = False
    user_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True)
class Frame:
    """Everything about a new record that is no session key."""

    now: dt.datetime
    expires_at: dt.datetime
    deadline: dt.datetime | None = None
    permanent: bool = False
    user_id: str | None = None
    authenticated_at: dt.datetime | None = None
    device: t.Mapping[str, str] = field(default_factory=dict)


def owner_of(values: t.Mapping[str, t.Any], user_keys: t.Iterable[str]) -> str | None:
    """Whose session it is: the text of the first of *user_keys* that is present."""
    found = (values[key] for key in user_keys if values.get(key) is not None)
    return next((str(user) for user in found), None)


class Records:
    """Turns sessions of one model into documents and back."""

    def __init__(self, schema: Schema, *, class_name: str | None = None, sealer: Sealer | None = None) -> None:
        self.schema = schema
        self._class_name = class_name
        self._sealer = sealer

    def document(self, sid: str, encoded: t.Mapping[str, t.Any], frame: Frame) -> Document:
        """A new session's document."""
        document: Document = {"_id": sid, **self.schema.split(encoded)}
        if self._sealer:
            document["data"] = self._sealer.seal_all(sid, document["data"])

        optional = {
            "_cls": self._class_name,
            "user_id": frame.user_id,
            "authenticated_at": frame.authenticated_at,
            "deadline": frame.deadline,
            "permanent": frame.permanent or None,
            **frame.device,
        }
        document.update(created_at=frame.now, expires_at=frame.expires_at, touched_at=frame.now)
        document.update((name, value) for name, value in optional.items() if value is not None)

        return document

    def read(self, document: Document) -> StoredSession:
        """What is stored; raises :exc:`DamagedDocument` for what no session can be made of."""
        sid, get = document["_id"], document.get
        expires_at = get("expires_at")
        if type(expires_at) is not dt.datetime:
            raise DamagedDocument("The expiry is no date.")

        encoded = self.encoded(document)
        return StoredSession(
            sid,
            expires_at,
            self.schema.decode_all(encoded),
            encoded,
            _date(get("created_at")),
            _date(get("touched_at")),
            _date(get("authenticated_at")),
            _deadline(get("deadline")),
            get("permanent") is True,
            _text(get("user_id")),
            _text(get("ip")),
            _text(get("user_agent")),
        )

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


def _date(value: t.Any) -> dt.datetime | None:
    return value if type(value) is dt.datetime else None


def _deadline(value: t.Any) -> dt.datetime | None:
    if value is not None and type(value) is not dt.datetime:
        raise DamagedDocument("The deadline is no date.")

    return value


def _text(value: t.Any) -> str | None:
    return value if type(value) is str else None
