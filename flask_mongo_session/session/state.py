"""Which session a request is about: what its cookie says, and what became of the record that it names."""

from __future__ import annotations

import enum
import typing as t

from flask.sessions import SessionMixin

from flask_mongo_session.document.record import Missing

from .tokens import CookieContent, session_id

CookieReader = t.Callable[[], CookieContent | None]


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


class Identity(SessionMixin):
    """The part of a session that knows whose it is.

    What the cookie says is given as a ticket, or as what reads one when somebody wants to know: to verify a signature
    costs more than all the rest of a request that does not use its session.
    """

    #: What the cookie is to say; for the one who saves.
    ticket: CookieContent | None
    origin: Origin
    #: What it said when it came, and its text.
    presented: CookieContent | None
    received: str | None = None
    #: Why the cookie's session was not to be had, and which one it was.
    rejection: Missing | None = None
    rejected_sid: str | None = None
    _sid: str | None = None

    def __init__(self, ticket: CookieContent | CookieReader | None) -> None:
        if callable(ticket):
            self._read_ticket = ticket
        else:
            self._open(ticket)

    if not t.TYPE_CHECKING:

        def __getattr__(self, name: str) -> t.Any:
            """Only for what is not there yet: the ticket, and what follows from it."""
            if name not in ("ticket", "presented", "origin") or "_read_ticket" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

            self._open(self._read_ticket())
            return self.__dict__[name]

    def _open(self, ticket: CookieContent | None) -> None:
        """What was set meanwhile stays."""
        known = self.__dict__
        known.setdefault("presented", ticket)
        known.setdefault("ticket", ticket)
        known.setdefault("origin", Origin.NONE if ticket is None else Origin.UNREAD)

    @property
    def unopened(self) -> bool:
        """Whether nobody wanted to know so far what the cookie says."""
        return "origin" not in self.__dict__

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

    def reject(self, why: Missing) -> None:
        """Remember that the cookie's session was not to be had."""
        self.rejection, self.rejected_sid = why, self.sid
