"""What is known of a request's session: immutable values that are replaced, never changed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import secrets
import typing as t

from flask_mongo_session.document.record import Document
from flask_mongo_session.document.standing import Missing
from flask_mongo_session.mongo.bson_types import milliseconds

_TOKEN_BYTES, _ID_BYTES = 32, 16


class Secret(str):
    """Text that no ``repr`` shows: error reporters send that of every local variable to somebody."""

    __slots__ = ()

    def __repr__(self) -> str:
        """How long it is."""
        return f"<secret of {len(self)} characters>"


def new_token() -> Secret:
    """A fresh secret of 256 random bits, 43 characters (OWASP ASVS 5.0 7.2.3 asks for 128)."""
    return Secret(secrets.token_urlsafe(_TOKEN_BYTES))


def new_session_id() -> str:
    """A fresh session id of 128 random bits, 22 characters; safe to show, to log and to link to."""
    return secrets.token_urlsafe(_ID_BYTES)


def token_hash(token: str) -> bytes:
    """The SHA-256 of a token: all that the database gets to see of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclasses.dataclass(repr=False, slots=True)
class CookieContent:
    """What a session cookie says. The extras only save a read; they decide nothing that the database does not check."""

    sid: str
    #: The secret; empty until the record is found, where the browser has yet to get this cookie.
    token: str
    permanent: bool = False
    #: When the session ends however much it is used, in UTC milliseconds.
    deadline: int | None = None
    #: A second secret, where nobody could say whether a rotation to it had been stored.
    pending: str | None = None
    #: The SHA-256 of the first secret.
    hashed: bytes = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if type(self.token) is not Secret:
            self.token = Secret(self.token)
        if self.pending is not None:
            self.pending = Secret(self.pending)
        self.hashed = hashlib.sha256(self.token.encode()).digest()

    @property
    def unsettled(self) -> bool:
        """Whether only the record says which token is the right one: there are two, or none yet."""
        return self.pending is not None or not self.token

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"<CookieContent of {self.sid}>"


def extras_of(record: Document) -> tuple[bool, int | None]:
    """What the cookie of a record says beside its token: whether it is permanent, and the deadline (UTC ms)."""
    deadline = record.get("deadline")
    return record.get("permanent") is True, None if deadline is None else milliseconds(deadline)


class Phase(enum.Enum):
    """How far a request has come with the session that its cookie names."""

    #: There is none: no cookie, or not one of ours.
    NEW = "new"
    #: There may be one; nobody has looked.
    UNREAD = "unread"
    #: It was found alive.
    LOADED = "loaded"
    #: It was not found, or is over.
    GONE = "gone"
    #: A rotation or a log-out overtook this request; the browser is about to get a better cookie.
    SUPERSEDED = "superseded"
    #: The database did not answer; the session is empty, and nothing of it is saved.
    FAILED = "failed"


class SessionState(t.NamedTuple):
    """What is known of a session at one moment of a request."""

    phase: Phase
    #: What the cookie said, or is to say: with the token in use, also of a cookie that came with two.
    cookie: CookieContent | None = None
    #: The record as loaded while it was alive.
    loaded: Document | None = None
    #: The record as found last, whatever its standing, or as it was stored by this request.
    record: Document | None = None
    #: When it was loaded, by the database's clock and by :func:`flask_mongo_session.mongo.clock.boottime`.
    loaded_at: dt.datetime | None = None
    read_at: float = 0.0
    #: Why the session that the cookie named is not to be had.
    reason: Missing | None = None


#: Nobody has asked yet what the cookie says.
UNOPENED: t.Final = SessionState(Phase.UNREAD)


class Intents(t.NamedTuple):
    """What a request wants done with its session as a whole."""

    #: ``clear()`` or ``destroy()``: what is stored ends; what is written afterwards shares nothing with it.
    cleared: bool = False
    #: One user follows another: as *cleared*, but it is no log-out.
    replaced: bool = False
    #: The user was to be taken out, but none was to be seen.
    dismissed: bool = False
    regenerate: bool = False
    confirm: bool = False
    #: ``None`` where nobody said anything.
    permanent: bool | None = None
    #: The chosen deadline; a tuple, since ``None`` is one.
    deadline: tuple[dt.datetime | None] | None = None


NOTHING: t.Final = Intents()
