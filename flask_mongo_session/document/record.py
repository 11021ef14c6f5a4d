"""A session as the database holds it, and as people get to see it."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t

from flask_mongo_session.mongo.bson_types import moment

Document = dict[str, t.Any]


class SessionInfo(t.NamedTuple):
    """A session without what is in it. Dates are aware, UTC.

    The one place that lists a record's metadata; :meth:`of` reads a field by the type that it has here.
    """

    sid: str
    expires_at: dt.datetime
    created_at: dt.datetime | None = None
    #: The last activity, to within ``SESSION_TOUCH_INTERVAL``.
    touched_at: dt.datetime | None = None
    authenticated_at: dt.datetime | None = None
    deadline: dt.datetime | None = None
    permanent: bool = False
    user_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None

    @classmethod
    def of(cls, document: Document) -> SessionInfo:
        """What a record says; a field of the wrong type counts as absent."""
        known: dict[str, t.Any] = {
            name: value for name in METADATA if isinstance(value := document.get(name), _TYPES[name])
        }
        return cls(str(document["_id"]), **{"expires_at": moment(0), **known})


#: The names of a record's metadata fields.
METADATA = SessionInfo._fields[1:]
_KINDS = {"datetime": dt.datetime, "bool": bool, "str": str}
_TYPES: dict[str, type] = {
    name: next(kind for word, kind in _KINDS.items() if word in str(hint))
    for name, hint in SessionInfo.__annotations__.items()
}


class ValueReader(t.Protocol):
    """Turns stored values into Python values."""

    def gather(self, document: Document) -> t.Mapping[str, t.Any]:
        """The values as stored, by session key."""

    def open(self, sid: str, key: str, stored: t.Any) -> t.Any:
        """The encoded value, decrypted where it was encrypted."""

    def decode(self, key: str, encoded: t.Any) -> t.Any:
        """The Python value."""

    def read_all(self, sid: str, stored: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """All Python values; damaged ones are left out."""


class StoredSession:
    """A live session as found in the database. Dates are aware, UTC, in whole milliseconds.

    Values are decoded when somebody asks for them. A metadata field of the wrong type counts as absent.
    """

    __slots__ = ("_reader", "document", "sid", "values")

    def __init__(self, document: Document, reader: ValueReader) -> None:
        self.sid: str = document["_id"]
        #: The record as the driver read it.
        self.document = document
        #: The values as stored, by session key.
        self.values = reader.gather(document)
        self._reader = reader

    def __repr__(self) -> str:
        """Without what is in it."""
        return f"<StoredSession {self.sid} expires_at={self.expires_at.isoformat()} keys={len(self.values)}>"

    @property
    def data(self) -> dict[str, t.Any]:
        """All keys with their values, decoded: free-form and declared ones. Damaged values are left out."""
        return self._reader.read_all(self.sid, self.values)

    @property
    def info(self) -> SessionInfo:
        """The session without what is in it."""
        return SessionInfo.of(self.document)

    @property
    def expires_at(self) -> dt.datetime:
        """When it ends unless it is used again."""
        return t.cast("dt.datetime", self.document["expires_at"])

    @property
    def deadline(self) -> dt.datetime | None:
        """When it ends however much it is used."""
        return self.document.get("deadline")

    @property
    def created_at(self) -> dt.datetime | None:
        """When it began."""
        return self.info.created_at

    @property
    def touched_at(self) -> dt.datetime | None:
        """When its expiry was moved last."""
        return self.info.touched_at

    @property
    def authenticated_at(self) -> dt.datetime | None:
        """When the user logged in, or confirmed who they are."""
        return self.info.authenticated_at

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser."""
        return self.document.get("permanent") is True

    @property
    def user_id(self) -> str | None:
        """Whose it is."""
        return self.info.user_id

    @property
    def ip(self) -> str | None:
        """The browser's address, where that is kept."""
        return self.info.ip

    @property
    def user_agent(self) -> str | None:
        """What the browser called itself, where that is kept."""
        return self.info.user_agent


def user_text(user: t.Any) -> str | None:
    """The text by which records know a user; ``None`` for nobody, which ``""`` is, too. Always text that BSON takes."""
    if user is None:
        return None
    if isinstance(user, enum.Enum):
        user = user.value  # what is stored of it

    text = str(user).encode("utf-8", "backslashreplace").decode()
    return (split_login(text)[0] if GENERATION in text else text) or None


#: Between a user's id and a generation; no user's id holds it.
GENERATION = "\u241f"


def login_text(user: str, generation: int) -> str:
    """A login id: it names the *user*, and how often the user's sessions had been revoked when it was made."""
    return f"{user}{GENERATION}{generation}"


def split_login(text: str) -> tuple[str, int]:
    """The user and the generation of a login id; a plain user's id is one of generation 0."""
    user, _, generation = text.rpartition(GENERATION)
    return (user, int(generation)) if generation.isascii() and generation.isdecimal() and user else (text, 0)


def user_of(values: t.Mapping[str, t.Any], user_keys: t.Iterable[str]) -> str | None:
    """Whose session it is: the text of the first of *user_keys* that is present."""
    for key in user_keys:
        user = values.get(key)
        if user is not None:
            return user_text(user)

    return None
