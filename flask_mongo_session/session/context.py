"""What surrounds one request's session: what it is told of the application, and where it comes from."""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.document.mapper import DocumentMapper
from flask_mongo_session.storage.repository import Found

from .limit import SessionLimit
from .state import CookieContent


class SessionContext(t.NamedTuple):
    """What a session has to be told, since it knows no application."""

    mapper: DocumentMapper
    #: The database's now, as far as it is known without asking.
    clock: t.Callable[[], dt.datetime]
    #: The keys that may name the user; the first present counts.
    user_keys: tuple[str, ...] = ()
    #: Keys that are removed when the user changes.
    forget: tuple[str, ...] = ()
    #: What a new session starts as.
    permanent: bool = False
    limit: SessionLimit | None = None


class Source(t.Protocol):
    """Where one request's session comes from."""

    def cookie(self) -> CookieContent | None:
        """What the request's cookie says, if it is one of ours."""

    def find(self, sid: str, token: bytes) -> Found:
        """The record that the cookie names."""

    def loaded(self, found: Found) -> None:
        """Be told that the session was found alive."""

    @property
    def began(self) -> dt.datetime | None:
        """When the request began, by the database's clock; ``None`` while that is not known."""

    @property
    def over(self) -> bool:
        """Whether the view has returned, so that nobody can be told of an error any more."""

    @property
    def static(self) -> bool:
        """Whether the request asks for a static file."""
