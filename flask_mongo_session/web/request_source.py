"""Where one request's session comes from: its cookie, and the record that the cookie names."""

from __future__ import annotations

import datetime as dt
import typing as t

from werkzeug.http import parse_cookie

from flask_mongo_session import signals
from flask_mongo_session.mongo import clock
from flask_mongo_session.session.state import CookieContent, Secret
from flask_mongo_session.storage.repository import Found

from .client_info import client_info
from .cookie import CookieSigner, find_cookie
from .old_cookie import Migration, OldCookie

if t.TYPE_CHECKING:
    from flask import Flask, Request
    from flask.wrappers import Response

    from .interface import MongoSessionInterface


class RequestSource:
    """Where one request's session comes from: its cookie, and the record that it names."""

    __slots__ = ("_app", "_interface", "old", "over", "reading", "received", "request")

    def __init__(self, interface: MongoSessionInterface, app: Flask, request: Request) -> None:
        self._interface = interface
        self._app = app
        self.request = request
        #: The boot clock's reading when the request began.
        self.reading = clock.boottime()
        #: Whether the view has returned.
        self.over = False
        #: The cookie's text, once it was asked for.
        self.received: Secret | None = None
        #: The cookie of another library that leads to a session of ours.
        self.old: OldCookie | None = None

    def __repr__(self) -> str:
        """Without the cookie."""
        return f"<{type(self).__name__} of {self.request.path!r}>"

    def view_returned(self, response: Response) -> Response:
        """Flask calls it before all other functions that are to run after the request."""
        self.over = True
        return response

    def cookie(self) -> CookieContent | None:
        """What the request's cookie says; ``None`` without one, or for one that we did not sign."""
        app, interface = self._app, self._interface
        value = find_cookie(self.request, interface.get_cookie_name(app))
        signer = interface.signer(app) if value else None
        if value is None or signer is None:
            return None

        self.received = value = Secret(value)
        content = signer.read(value)
        if content is None and interface.migration is not None:
            content = self._other_cookie(signer, interface.migration)
        if content is None:
            interface.repository.rejected(None, "forged")
        return content

    def _other_cookie(self, signer: CookieSigner, migration: Migration) -> CookieContent | None:
        """Ours, if another cookie of the same name is; else the one that an old session's record is to have."""
        cookies = parse_cookie(self.request.environ.get("HTTP_COOKIE"))  # request.cookies would keep them in plain text
        values = [Secret(value) for value in cookies.getlist(self._interface.get_cookie_name(self._app))]
        for value in values:
            content = signer.read(value)
            if content is not None:
                self.received = value
                return content

        found = (migration.recognise(self._app, value) for value in values)
        self.old = next((old for old in found if old is not None), None)
        return self.old.cookie if self.old else None

    def find(self, sid: str, token: bytes) -> Found:
        """The record and its standing."""
        interface = self._interface
        if interface.migration is not None:
            return interface.migration.find(self.old, sid, token, self.reading)

        return interface.repository.find(sid, token, self.reading)

    def loaded(self, found: Found) -> None:
        """Announce that the session was found alive."""
        record = found.record or {}
        sid, user = record.get("_id"), record.get("user_id")
        self._interface.repository.announce(signals.session_loaded, sid=sid, user_id=user)

    @property
    def began(self) -> dt.datetime | None:
        """When the request began, by the database's clock."""
        return self._interface.repository.connection.clock.at(self.reading)

    @property
    def static(self) -> bool:
        """Whether the request asks for a static file, of the application or of a blueprint."""
        endpoint = self.request.endpoint or ""
        return endpoint == "static" or endpoint.endswith(".static")

    def client_info(self) -> dict[str, str]:
        """What is to be kept of the browser."""
        tracked = self._interface.config.track_device
        return client_info(self.request, truncate=tracked == "truncated") if tracked else {}
