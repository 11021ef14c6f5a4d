"""Between Flask and the session: the only file that touches cookies and responses."""

from __future__ import annotations

import datetime as dt
import functools
import typing as t

from flask.globals import request_ctx
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import InternalServerError

from flask_mongo_session import signals
from flask_mongo_session.document.record import Missing
from flask_mongo_session.exceptions import SessionStoreUnavailable
from flask_mongo_session.session.lifetime import Policy
from flask_mongo_session.session.session import ServerSideSession
from flask_mongo_session.session.state import Origin
from flask_mongo_session.session.tokens import CookieContent, CookieSigner
from flask_mongo_session.session.unit_of_work import Outcome, UnitOfWork
from flask_mongo_session.session.values import SessionContext

from .client_info import device_of
from .error_response import error_response, mark_unkept, replace_response

if t.TYPE_CHECKING:
    from flask import Flask, Request
    from flask.wrappers import Response

    from flask_mongo_session.config import SessionConfig
    from flask_mongo_session.store import MongoSessionStore


class MongoSessionInterface(SessionInterface):
    """Opens a session without asking the database, and saves it with the fewest commands.

    Policies to override are Flask's: ``get_cookie_*``, ``should_set_cookie``, ``get_expiration_time``.
    """

    session_class = ServerSideSession

    def __init__(self, store: MongoSessionStore, config: SessionConfig) -> None:
        self.store = store
        self.config = config
        self._signer: CookieSigner | None = None
        self._signer_keys: tuple[t.Any, ...] = ()
        self._last_policy: Policy | None = None
        self._attributes_sent: dict[str, t.Any] | None = None
        connection = store.connection
        clock = lambda: connection.clock.estimate()  # noqa: E731, PLW0108 - another one after a fork; no way back here
        self._surroundings = SessionContext(config.user_key, config.permanent, clock)

    # -- open ---------------------------------------------------------------------------------------------------------

    def open_session(self, app: Flask, request: Request) -> ServerSideSession | None:
        """The session of the request's cookie, not loaded yet; an empty one for no cookie, or one that we did not sign.

        ``None`` without a secret key, so that Flask's null session explains the fix.
        """
        if not app.secret_key:
            return None

        self.store.start()
        value = _cookie(request, self.get_cookie_name(app))
        ticket = functools.partial(self._read_ticket, app, value) if value else None

        session = self.session_class(self.store.schema, self.store.load, ticket, self._surroundings_of(request))
        session.received = value
        if signals.session_rejected.receivers:
            _ = session.ticket  # whoever counts forged cookies wants those on all pages
        return session

    def signer(self, app: Flask) -> CookieSigner | None:
        """The signer for the application's present keys; ``None`` when it has none."""
        secret_key = app.secret_key
        if not secret_key:
            return None

        keys = (secret_key, *(app.config["SECRET_KEY_FALLBACKS"] or ()))
        if self._signer is None or keys != self._signer_keys:
            self._signer, self._signer_keys = CookieSigner(secret_key, keys[1:]), keys
        return self._signer

    def _read_ticket(self, app: Flask, value: str) -> CookieContent | None:
        signer = self.signer(app)
        ticket = signer.read(value) if signer else None
        if ticket is None:
            self.store.announce(signals.session_rejected, sid=None, reason="forged")

        return ticket

    def _surroundings_of(self, request: Request) -> SessionContext:
        if not self.config.track_device:
            return self._surroundings

        return self._surroundings._replace(device=device_of(request, truncate=self.config.track_device == "truncated"))

    # -- save ---------------------------------------------------------------------------------------------------------

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Store what changed and let the cookie follow. Never raises into Flask, which would save a second time."""
        session = t.cast("ServerSideSession", session)
        if session.accessed:
            _vary(response)
        if session.unopened and self._is_idle(app, session, response):
            return

        if session.origin is Origin.FAILED:
            self._failed_before(app, session, response)
            return

        try:
            outcome = UnitOfWork(session, self.store, self._policy(app)).save()
        except Exception as error:  # noqa: BLE001 - whatever it is, Flask must not save again
            self._failed(app, session, response, error)
            return

        self._announce_rejection(session)
        if outcome is Outcome.ENDED:
            self._delete_cookie(app, response)
        elif outcome is Outcome.NOTHING:
            self._vary_on_refresh(app, session.ticket if session.origin is Origin.UNREAD else None, response)
        elif outcome is Outcome.RENEWED or self.should_set_cookie(app, session):
            self._set_cookie(app, session, response)

    def _is_idle(self, app: Flask, session: ServerSideSession, response: Response) -> bool:
        """Whether there is nothing to do for a cookie that nobody asked for, whatever its signature is worth."""
        claim = CookieSigner.claim(session.received or "")
        if claim is None or self._policy(app).wants_touch(claim.touched, session.context.clock()):
            return False

        self._vary_on_refresh(app, claim, response)
        return True

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """Flask's rule, but what the browser has already is not sent again: it might replace what a log-in brought.

        Unless the cookie is permanent and ``SESSION_REFRESH_EACH_REQUEST`` wants its expiry to move.
        """
        if session.permanent and app.config["SESSION_REFRESH_EACH_REQUEST"]:
            return True

        return session.modified and not self._is_there(app, session)

    def _is_there(self, app: Flask, session: SessionMixin) -> bool:
        """Whether the browser has the very cookie, under the newest key and with the present attributes."""
        signer, own = self.signer(app), t.cast("ServerSideSession", session)
        if signer is None or own.received is None or own.ticket is None or own.ticket != own.presented:
            return False
        if not signer.is_newest(own.received):
            return False

        return self._attributes_sent == self._cookie_attributes(app)

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> dt.datetime | None:
        """Flask's, but never beyond the session's deadline."""
        expires = super().get_expiration_time(app, session)
        ticket = session.ticket if isinstance(session, ServerSideSession) else None
        if expires is None or ticket is None or ticket.deadline is None:
            return expires

        return min(expires, dt.datetime.now(dt.timezone.utc) + self._time_left(ticket.deadline))

    def _time_left(self, deadline: int) -> dt.timedelta:
        return dt.timedelta(milliseconds=max(deadline - self.store.connection.clock.estimate(), 0))

    def _policy(self, app: Flask) -> Policy:
        """As configured at this moment; made anew only when that changed."""
        config, policy = self.config, self._last_policy
        idle = config.idle_timeout or app.permanent_session_lifetime
        refresh = app.config["SESSION_REFRESH_EACH_REQUEST"]
        if policy is None or policy.idle != idle or policy.refresh != refresh:
            self._last_policy = policy = Policy(
                idle,
                config.absolute_lifetime,
                config.touch_interval,
                refresh=refresh,
                rotate_on_login=config.rotate_on_login,
                max_per_user=config.max_per_user,
            )

        return policy

    def _announce_rejection(self, session: ServerSideSession) -> None:
        reason = session.rejection
        if reason is None or reason is Missing.SUPERSEDED or session.rejected_sid is None:
            return

        self.store.announce(signals.session_rejected, sid=session.rejected_sid, reason=reason.value)

    # -- cookie -------------------------------------------------------------------------------------------------------

    def _cookie_attributes(self, app: Flask) -> dict[str, t.Any]:
        return {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }

    def _set_cookie(self, app: Flask, session: ServerSideSession, response: Response) -> None:
        """With ``Max-Age`` beside ``Expires``, since the browser's clock may be off (RFC 6265 §5.3: it wins)."""
        signer, ticket = self.signer(app), session.ticket
        if signer is None or ticket is None:
            return

        expires = self.get_expiration_time(app, session)
        max_age = None if expires is None else round((expires - dt.datetime.now(dt.timezone.utc)).total_seconds())
        self._attributes_sent = attributes = self._cookie_attributes(app)
        response.set_cookie(self.get_cookie_name(app), signer.sign(ticket), max_age, expires, **attributes)
        _vary(response)

    def _delete_cookie(self, app: Flask, response: Response) -> None:
        response.delete_cookie(self.get_cookie_name(app), **self._cookie_attributes(app))
        _vary(response)

    def _vary_on_refresh(self, app: Flask, ticket: CookieContent | None, response: Response) -> None:
        """An untouched permanent session: another response to this URL may carry its refreshed cookie."""
        if ticket and ticket.permanent and app.config["SESSION_REFRESH_EACH_REQUEST"]:
            _vary(response)

    # -- failure ------------------------------------------------------------------------------------------------------

    def _failed(self, app: Flask, session: ServerSideSession, response: Response, error: Exception) -> None:
        """Turn the response into the error's, in place; what was to be saved is not, and the cookie stays as it is.

        Only a log-out that could not be confirmed still takes the browser's cookie away.
        """
        logged_out = session.logging_out
        session.fail()
        if request_ctx._session is not session:  # noqa: SLF001 - the property would count as an access
            raise error  # a session_transaction: its caller is the one to tell

        replace_response(response, error_response(app, error))
        mark_unkept(response, error)
        if logged_out:
            self._delete_cookie(app, response)

    def _failed_before(self, app: Flask, session: ServerSideSession, response: Response) -> None:
        """The database did not answer a read of this request.

        An error page stays, another answer too, unless it relies on something that was written since.
        """
        again = SessionStoreUnavailable()
        if response.status_code < InternalServerError.code and session.unsaved:
            self._failed(app, session, response, again)
            return

        if response.status_code >= InternalServerError.code:
            mark_unkept(response, again)
        if session.logging_out:
            self._delete_cookie(app, response)


def _cookie(request: Request, name: str) -> str | None:
    """As ``request.cookies.get(name)``, without taking all the cookies apart when nobody else asks for one."""
    header: str = request.environ.get("HTTP_COOKIE", "")
    for cookie in header.split(";"):
        key, _, value = cookie.partition("=")
        if key.strip() == name:
            value = value.strip()
            return request.cookies.get(name) if value.startswith('"') else value

    return None if name.isascii() else request.cookies.get(name)


def _vary(response: Response) -> None:
    """``Vary: Cookie``, without taking a header apart that is hardly ever there before."""
    present = response.headers.getlist("Vary")
    if not present:
        response.headers.add("Vary", "Cookie")
    elif present != ["Cookie"]:
        response.vary.add("Cookie")
