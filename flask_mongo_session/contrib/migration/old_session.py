"""A session of another library: as a cookie names it, and as it was found."""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.web.old_cookie import OldCookie, Secret

if t.TYPE_CHECKING:
    from flask import Flask

    from flask_mongo_session.storage.repository import SessionRepository


#: Where Flask and its relatives keep the flag.
PERMANENT = "_permanent"


class OldSession(t.NamedTuple):
    """A session as the other library kept it. Dates are aware, UTC."""

    values: dict[t.Any, t.Any]
    #: When it, and its cookie, expires; ``None``: never.
    expires_at: dt.datetime | None
    #: When it began and when it was used last, as far as that is known.
    created_at: dt.datetime | None = None
    touched_at: dt.datetime | None = None

    @property
    def content(self) -> dict[t.Any, t.Any]:
        """The values without Flask's flag for permanence, which is none of ours."""
        return {key: value for key, value in self.values.items() if key != PERMANENT}

    def __repr__(self) -> str:
        """Without anything of it."""
        return "<OldSession>"


class Unreadable(Exception):
    """An old session cannot be moved; the message says why, without anything of its content."""


class Claim(t.NamedTuple):
    """What a cookie says of an old session, before anybody looked for it."""

    #: Tells the session from all others, the same however the cookie is spelt.
    identity: Secret
    #: The session itself, where the cookie holds it.
    session: OldSession | None = None
    #: Whether the identity was drawn for this one request.
    drawn: bool = False

    def __repr__(self) -> str:
        """Without anything of it."""
        return "<Claim>"


class Source(t.Protocol):
    """Where old sessions are."""

    name: str

    def recognise(self, app: Flask, value: Secret) -> Claim | None:
        """What a cookie's *value* says; ``None`` for what is no cookie of that library, or has expired. No I/O."""

    def read(self, repository: SessionRepository, claim: Claim, sid: str) -> OldSession | None:
        """The live old session; ``None`` where there is none, or it was moved. Raises :exc:`Unreadable`.

        *sid* is the id of the record that it becomes.
        """

    def retire(self, repository: SessionRepository, claim: Claim, sid: str) -> None:
        """Make sure that the old session is never read again, also when its record is long gone."""


class Lifetimes(t.NamedTuple):
    """How long sessions live."""

    #: Without being used, as the application is configured now.
    idle: dt.timedelta
    #: However much they are used.
    absolute: dt.timedelta | None
    #: Without being used, as the other library had it.
    old: dt.timedelta


class Recognised(OldCookie):
    """An old cookie with the sources that may know its session, each with what it says."""

    __slots__ = ("claims", "lifetimes")

    def __init__(self, claims: list[tuple[Source, Claim]], keys: t.Iterable[str | bytes], lifetimes: Lifetimes) -> None:
        super().__init__(claims[0][1].identity, keys)
        self.claims = claims
        self.lifetimes = lifetimes


def secret_keys(app: Flask) -> list[str | bytes]:
    """The application's, the newest first."""
    return [key for key in (app.secret_key, *(app.config["SECRET_KEY_FALLBACKS"] or ())) if key]
